//! `nic-agent close`: all representors of servers' functions are closed, without a daemon, a configuration or Open vSwitch.
//!
//! For the time of a boot in which nobody else does it: after the NIC's driver has made them, before anything puts them
//! into a bridge. Closed is what the agent calls so ([`crate::kernel`]): down, a TC rule that drops whatever comes in, and
//! no address. A NIC's own functions and its uplinks are never touched.
//!
//! It knows of no pods. So it changes nothing while an agent runs, which closes by itself what no pod holds, and does so
//! again whenever someone opens it. An agent that starts in the same moment and finds one closed that it has opened opens
//! it again.

mod report;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use offload::ids::IfIndex;
use offload::netlink::devlink::{DeviceHandle, Devlink, EswitchMode, Port};
use offload::netlink::link::{self, Link};
use offload::netlink::socket::{NetlinkSocket, Protocol};
use offload::netlink::{Errno, Error};
use offload::representor::{Representor, RepresentorTable, Selector};

use crate::alone;
use crate::kernel::{self, MarkTooLong};
use report::{Report, Row};

/// `EX_TEMPFAIL` of sysexits.h: an agent runs.
const AGENT_RUNS: u8 = 75;
/// While some come, others may.
const ROUNDS: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Close the network device of this number, if it is such a representor, and say nothing: for udev.
    #[arg(long, value_name = "N")]
    ifindex: Option<u32>,
    /// Close all although nic-agent runs: its pods are cut off until it has opened theirs again.
    #[arg(long)]
    force: bool,
}

/// What went wrong before anything could be said of single representors.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Netlink(#[from] Error),
    #[error(transparent)]
    Mark(#[from] MarkTooLong),
    #[error("whether nic-agent runs cannot be told: {0}")]
    Alone(#[from] std::io::Error),
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let done = match (guard(arguments), arguments.ifindex) {
        (Err(failure), _) => Err(failure),
        // The agent has seen the new device, too.
        (Ok(true), Some(_)) => Ok(ExitCode::SUCCESS),
        (Ok(true), None) => {
            eprintln!(
                "nic-agent close: nic-agent runs here, and keeps closed whatever no pod holds; nothing was changed. \
                 Stop it first, or add --force: then its pods are cut off until it has opened theirs again"
            );
            Ok(ExitCode::from(AGENT_RUNS))
        }
        (Ok(false), Some(ifindex)) => one(IfIndex(ifindex)),
        (Ok(false), None) => all(),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("nic-agent close: {failure}");
        ExitCode::FAILURE
    })
}

/// Must everything be left to an agent that runs?
fn guard(arguments: &Arguments) -> Result<bool, Failure> {
    Ok(!arguments.force && alone::is_taken()?)
}

fn all() -> Result<ExitCode, Failure> {
    let mut sight = Sight::open()?;
    let mark = kernel::mark()?;
    let mut report = Report { eswitches: sight.eswitches()?, ..Report::default() };
    let mut rows: BTreeMap<IfIndex, Row> = BTreeMap::new();
    for round in 1..=ROUNDS {
        let (table, links) = sight.look()?;
        let servers: Vec<Representor> = table.to_be_closed().into_iter().filter(|it| it.external).collect();
        let state = |ifindex| links.iter().find(|link| link.ifindex == ifindex);
        report.out_of_reach = table.out_of_reach();
        // Those that went since are nobody's way in.
        rows.retain(|ifindex, _| servers.iter().any(|it| it.ifindex == *ifindex));
        for row in rows.values_mut() {
            row.is_up = state(row.ifindex).is_some_and(|link| link.up);
        }
        let open: Vec<&Representor> =
            servers.iter().filter(|it| rows.get(&it.ifindex).is_none_or(|row| row.is_up)).collect();
        if open.is_empty() || round == ROUNDS {
            let now = |rep: &Representor| Row::new(rep, state(rep.ifindex).is_some_and(|link| link.up));
            for rep in open {
                rows.entry(rep.ifindex).or_insert_with(|| now(rep));
            }
            break;
        }
        // All down first: that is quick, and the half that nothing refuses.
        for rep in &open {
            let _ = link::set_down(&mut sight.route, rep.ifindex);
        }
        for rep in open {
            let failure = kernel::close(&mut sight.route, rep.ifindex, &mark).err().map(|e| e.to_string());
            let was_up = state(rep.ifindex).is_some_and(|link| link.up);
            let row = rows.entry(rep.ifindex).or_insert_with(|| Row::new(rep, was_up));
            (row.is_up, row.failure) = (true, failure);
        }
    }
    report.rows = rows.into_values().collect();
    report.rows.sort_by(|a, b| (&a.eswitch, a.function).cmp(&(&b.eswitch, b.function)));
    // Nobody may be reading.
    let _ = write!(std::io::stdout(), "{report}");
    let open = report.not_closed();
    for what in &open {
        eprintln!("nic-agent close: not closed: {what}");
    }
    Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Of which udev says that it is new.
fn one(ifindex: IfIndex) -> Result<ExitCode, Failure> {
    let mut sight = Sight::open()?;
    let Some(link) = link::link_by_index(&mut sight.route, ifindex)? else { return Ok(ExitCode::SUCCESS) };
    let ports = sight.ports_for(&link)?;
    let table = RepresentorTable::new(&ports, std::slice::from_ref(&link), Selector::default());
    if table.to_be_closed().iter().any(|it| it.external && it.ifindex == ifindex) {
        kernel::close(&mut sight.route, ifindex, &kernel::mark()?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The kernel, asked.
struct Sight {
    route: NetlinkSocket,
    /// A kernel without devlink still names ports by `phys_port_name`.
    devlink: Option<Devlink>,
}

impl Sight {
    fn open() -> Result<Self, Failure> {
        let devlink = match Devlink::open() {
            Ok(devlink) => Some(devlink),
            Err(Error::NoFamily { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { route: NetlinkSocket::open(Protocol::Route)?, devlink })
    }

    /// Devices that have an eSwitch, with its mode.
    fn eswitches(&mut self) -> Result<Vec<(DeviceHandle, EswitchMode)>, Failure> {
        let Some(devlink) = &mut self.devlink else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for device in devlink.devices()? {
            match devlink.eswitch_mode(&device) {
                Ok(mode) => found.push((device, mode)),
                Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) || error.is_gone() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    fn look(&mut self) -> Result<(RepresentorTable, Vec<Link>), Failure> {
        let links = link::links(&mut self.route)?;
        let ports = match &mut self.devlink {
            Some(devlink) => devlink.ports()?,
            None => Vec::new(),
        };
        Ok((RepresentorTable::new(&ports, &links, Selector::default()), links))
    }

    /// What devlink says of one device. Asking for all ports costs the firmware a question for each of them.
    fn ports_for(&mut self, link: &Link) -> Result<Vec<Port>, Failure> {
        match (&mut self.devlink, &link.devlink_port) {
            (None, _) => Ok(Vec::new()),
            (Some(devlink), Some(handle)) => Ok(vec![devlink.port(handle)?]),
            (Some(devlink), None) => Ok(devlink.ports()?),
        }
    }
}
