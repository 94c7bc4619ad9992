//! The kernel's side of the representors: what they are, whether they are open, and changing that.
//!
//! Netlink sockets block, so each call runs on a thread of its own that tokio keeps for such work.

mod eswitches;
mod hardware;
mod loss;
mod room;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use offload::ids::{IfIndex, MacAddr, VfId};
use offload::netlink::Error;
use offload::netlink::devlink::{Devlink, PortHandle};
use offload::netlink::link::{self, Link};
use offload::netlink::monitor::{Event, Monitor};
use offload::netlink::socket::{NetlinkSocket, Protocol};
use offload::netlink::tc::{self, Cookie, Filter, Skip};
use offload::representor::{FindError, Representor, RepresentorTable, Selector};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Eswitch;
use eswitches::Eswitches;
use hardware::Hardware;
use loss::Losses;
use room::Room;
use view::{Flows, LinkStep, Offload, RepView};

/// On the TC rule that closes a representor; OVS takes a cookie of 16 bytes for its own, so ours is shorter.
const MARK: &[u8] = b"drawbridge:c";
/// How long the watching thread sleeps without an event, and how long it takes to notice that we stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// Representors of servers' functions, on all eSwitches, as of one look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    pub reps: Vec<RepView>,
    /// Devices through which other nodes' pods come in, by name: the other ports of OVS's datapath.
    pub shared: BTreeMap<String, Offload>,
    pub flows: Flows,
    /// Whether the hardware takes now one of those that it has refused, if it was asked in this look.
    pub asked: Option<bool>,
    pub table: RepresentorTable,
}

impl Seen {
    /// `Err`: what there is instead.
    pub fn representor(&self, vf: VfId) -> Result<(), NoRepresentor> {
        match self.table.find(None, vf) {
            Ok(_) => Ok(()),
            Err(FindError::NotFound { candidates, .. }) => Err(NoRepresentor::Others { candidates }),
            Err(other) => Err(NoRepresentor::NotOne(other)),
        }
    }
}

/// Why representors are not to be seen, or not to be changed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("the kernel has not been asked yet")]
    NotAsked,
    /// Of links, or of the TC rules on them.
    #[error(transparent)]
    Route(#[from] Error),
    #[error(transparent)]
    Devlink(Error),
    #[error("netlink task: {0}")]
    Task(#[from] JoinError),
    #[error(transparent)]
    Mark(#[from] MarkTooLong),
    /// As a recording tells it.
    #[error("{0}")]
    Recorded(String),
}

/// See [`Cookie::MAX`].
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the ownership mark is too long")]
pub struct MarkTooLong;

/// What there is instead of a VF's representor; its text follows on "it has:".
#[derive(Debug, thiserror::Error)]
pub enum NoRepresentor {
    #[error("{candidates}")]
    Others { candidates: String },
    #[error(transparent)]
    NotOne(FindError),
    #[error("none that can be read ({0})")]
    Unseen(Arc<KernelError>),
}

/// Representors, and the TC rules on them.
pub trait Links: Send + Sync + 'static {
    fn observe(&self) -> impl Future<Output = Result<Seen, KernelError>> + Send;

    /// In their order, each of them whatever became of the others. Returns what failed.
    fn apply(&self, steps: Vec<LinkStep>) -> impl Future<Output = Vec<KernelError>> + Send;

    /// Open vSwitch makes all its flows again: what is known of the old ones says nothing of them.
    fn forget_flows(&self);
}

pub struct Kernel {
    selector: Selector,
    /// Devices whose TC rules are ours to watch: on those that OVS has, every offloaded flow is an event.
    watched: Watched,
    memory: Arc<Mutex<Memory>>,
}

/// What one look leaves for the next.
#[derive(Debug, Default)]
struct Memory {
    losses: Losses,
    room: Room,
}

pub type Watched = Arc<Mutex<BTreeSet<IfIndex>>>;

impl Kernel {
    pub fn new(eswitch: &Eswitch) -> Self {
        Self {
            selector: Selector { device: eswitch.device.clone(), controller: eswitch.controller },
            watched: Watched::default(),
            memory: Arc::default(),
        }
    }

    pub fn watched(&self) -> Watched {
        self.watched.clone()
    }
}

impl Links for Kernel {
    async fn observe(&self) -> Result<Seen, KernelError> {
        let (selector, memory) = (self.selector.clone(), self.memory.clone());
        let seen = blocking(move || observe(selector, &memory)).await??;
        let closed = seen.reps.iter().filter(|rep| rep.closed || !rep.up).map(|rep| rep.ifindex).collect();
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        Ok(seen)
    }

    fn forget_flows(&self) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Memory::default();
    }

    async fn apply(&self, steps: Vec<LinkStep>) -> Vec<KernelError> {
        match blocking(move || apply(&steps)).await {
            Ok(failures) => failures,
            Err(error) => vec![error.into()],
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

pub(crate) fn mark() -> Result<Cookie, MarkTooLong> {
    Cookie::new(MARK).ok_or(MarkTooLong)
}

/// A representor, its link, the function behind it with its MAC, and the filters on it.
type Rep<'a> = (Representor, &'a Link, Option<(PortHandle, MacAddr)>, Vec<Filter>);

fn observe(selector: Selector, memory: &Mutex<Memory>) -> Result<Seen, KernelError> {
    let mut route = NetlinkSocket::open(Protocol::Route)?;
    let all = link::links(&mut route)?;
    let ports = match Devlink::open() {
        Ok(mut devlink) => devlink.ports().map_err(KernelError::Devlink)?,
        // A kernel without devlink still names ports by phys_port_name.
        Err(Error::NoFamily { .. }) => Vec::new(),
        Err(error) => return Err(KernelError::Devlink(error)),
    };
    let table = RepresentorTable::new(&ports, &all, selector);
    let mark = mark()?;
    let mut reps = Vec::new();
    for rep in table.to_be_closed() {
        // Gone since the first dump: the next pass sees it so.
        let Some(link) = all.iter().find(|link| link.ifindex == rep.ifindex) else { continue };
        let port = ports.iter().find(|port| rep.port.as_ref() == Some(&port.handle));
        let function = port.and_then(|port| Some((port.handle.clone(), port.function_mac?)));
        let filters = tc::filters(&mut route, rep.ifindex)?;
        reps.push((rep, link, function, filters));
    }
    let mut shared = Vec::new();
    for link in shared_ports(&all, |link| reps.iter().any(|(rep, ..)| rep.ifindex == link.ifindex)) {
        shared.push((link, tc::filters(&mut route, link.ifindex)?));
    }
    let filters = || reps.iter().map(|(.., it)| it).chain(shared.iter().map(|(_, it)| it));
    let hardware = Hardware::new(Eswitches::new(&all), filters().flatten());
    let mut flows = Flows::default();
    let mut counts = BTreeMap::new();
    for filters in filters() {
        hardware.sort(filters, &mut flows);
        counts.append(&mut hardware::counts(filters));
    }
    let closed: Vec<IfIndex> = reps
        .iter()
        .filter(|(.., filters)| tc::is_closed_by(filters, &mark))
        .map(|(rep, ..)| rep.ifindex)
        .collect();
    // Another eSwitch's table says nothing.
    let beside =
        |port| closed.iter().copied().find(|it| hardware.eswitches.are_one(*it, port)).zip(Some(mark));
    let asked = {
        let (mut memory, now) = (memory.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        flows.lost = memory.losses.look(counts, now);
        let asked = memory.room.look(&mut route, beside, filters().flatten(), &flows, now)?;
        flows.room = memory.room.is_there();
        asked
    };
    let datapaths = datapaths(&all);
    let view = |(rep, link, function, filters): &Rep<'_>| RepView {
        ifindex: rep.ifindex,
        name: rep.name.clone(),
        vf: table.attachable(rep),
        up: link.up,
        mtu: link.mtu,
        closed: tc::is_closed_by(filters, &mark),
        in_datapath: link.master.is_some_and(|master| datapaths.contains(&master)),
        offload: hardware.of(filters, &flows),
        function: function.clone(),
    };
    let of_shared =
        |(link, filters): &(&Link, Vec<Filter>)| (link.name.clone(), hardware.of(filters, &flows));
    let (seen, shared) = (reps.iter().map(view).collect(), shared.iter().map(of_shared).collect());
    Ok(Seen { reps: seen, shared, flows, asked, table })
}

fn is_datapath(link: &Link) -> bool {
    link.kind.as_deref() == Some("openvswitch")
}

/// Open vSwitch's, in the kernel: they are the masters of their ports.
fn datapaths(all: &[Link]) -> BTreeSet<IfIndex> {
    all.iter().filter(|it| is_datapath(it)).map(|it| it.ifindex).collect()
}

/// Of the datapath's ports those that are no function's: tunnels, and the uplink where it is one. Internal ports (of kind
/// `openvswitch`) have no hardware.
fn shared_ports(all: &[Link], is_of_function: impl Fn(&Link) -> bool) -> Vec<&Link> {
    let datapaths = datapaths(all);
    all.iter()
        .filter(|it| it.master.is_some_and(|master| datapaths.contains(&master)))
        .filter(|it| !is_datapath(it) && !is_of_function(it))
        .collect()
}

fn apply(steps: &[LinkStep]) -> Vec<KernelError> {
    let mut failures = Vec::new();
    let mut attempt = || -> Result<(), KernelError> {
        let mut route = NetlinkSocket::open(Protocol::Route)?;
        let mark = mark()?;
        for step in steps {
            if let Err(error) = one(&mut route, step, &mark) {
                failures.push(error);
            }
        }
        Ok(())
    };
    if let Err(error) = attempt() {
        failures.push(error);
    }
    failures
}

fn one(route: &mut NetlinkSocket, step: &LinkStep, mark: &Cookie) -> Result<(), KernelError> {
    match step {
        LinkStep::Close { ifindex, .. } => close(route, *ifindex, mark)?,
        LinkStep::Open { ifindex, .. } => {
            // Taken by OVS, it has no use for addresses of the NIC's own.
            link::silence(route, *ifindex)?;
            tc::open(route, *ifindex, mark)?;
            link::set_up(route, *ifindex)?;
        }
        LinkStep::SetMtu { ifindex, mtu, .. } => link::set_mtu(route, *ifindex, *mtu)?,
        LinkStep::SetMac { port, mac, .. } => Devlink::open()
            .and_then(|mut devlink| devlink.set_function_mac(port, *mac))
            .map_err(KernelError::Devlink)?,
    }
    Ok(())
}

/// Down first: that is what no hardware can refuse. Each half is tried whatever became of the others; the first failure
/// is the answer.
pub(crate) fn close(route: &mut NetlinkSocket, ifindex: IfIndex, mark: &Cookie) -> Result<(), Error> {
    let down = link::set_down(route, ifindex);
    let dropped = tc::close(route, ifindex, *mark, Skip::None);
    let silent = link::silence(route, ifindex);
    let flushed = link::flush_addresses(route, ifindex);
    down.and(dropped.map(|_| ())).and(silent).and(flushed.map(|_| ()))
}

/// Says on `wake` when devices changed, until cancelled. Blocks.
pub fn watch(wake: &mpsc::Sender<()>, watched: &Watched, cancel: &CancellationToken) {
    while !cancel.is_cancelled() {
        if let Err(error) = follow(wake, watched, cancel) {
            warn!(%error, "kernel events lost, listening anew");
            std::thread::sleep(PATIENCE);
        }
        // Whatever was missed is seen by the pass that this causes. A full slot says the same.
        let _ = wake.try_send(());
    }
}

fn follow(wake: &mpsc::Sender<()>, watched: &Watched, cancel: &CancellationToken) -> Result<(), Error> {
    let mut monitor = Monitor::open()?;
    while !cancel.is_cancelled() {
        let events = monitor.wait(PATIENCE)?;
        let concerns_us = events.iter().any(|event| match event {
            Event::Tc { ifindex } => watched.lock().unwrap_or_else(PoisonError::into_inner).contains(ifindex),
            Event::TcBlock { .. } => false,
            Event::Link { .. } | Event::Devlink { .. } | Event::Overrun => true,
        });
        if concerns_us {
            let _ = wake.try_send(());
        }
    }
    Ok(())
}
