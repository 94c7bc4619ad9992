//! A platform that answers what a recording says, as long as it is asked the same.
//!
//! Where it is not, it keeps silent: what the loop does from there on says nothing, and whoever drives it has stopped it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Instant;

use offload::ids::CtZone;
use offload::openflow::{FlowMod, InstalledFlow, InstalledMeter, MeterMod, MeterStats};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::line::Kind;
use super::player::Player;
use super::words::{self, DiskFailure, FileWord, SwitchFailure};
use crate::attachment::Binding;
use crate::config::Profile;
use crate::durable::Disk;
use crate::kernel::view::LinkStep;
use crate::kernel::{KernelError, Seen};
use crate::openflow::Error;
use crate::ovs::link::{OvsError, Unseen};
use crate::ovs::plan::OvsStep;
use crate::ovs::unixctl::ControlError;
use crate::ovs::view::OvsView;
use crate::platform::{Clock, Links, Ovs, Platform, Southbound, Switch, SwitchSession};
use crate::southbound::state::PortState;

/// All that the loop touches is a recording.
#[derive(Debug)]
pub enum Replayed {}

impl Platform for Replayed {
    type Links = Tape;
    type Ovs = Tape;
    type Southbound = Tape;
    type Switch = Tape;
}

#[derive(Debug, Clone)]
pub struct Tape(Player);

impl Tape {
    pub fn new(player: &Player) -> Self {
        Self(player.clone())
    }

    /// Never resolves where there is no answer.
    async fn answer<A: DeserializeOwned>(&self, of: Kind, ask: impl Serialize + Send) -> A {
        match self.0.answer(of, &ask) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn done(&self, of: Kind, ask: impl Serialize + Send) -> Result<(), Error> {
        Ok(self.answer::<Result<(), SwitchFailure>>(of, ask).await?)
    }
}

impl Links for Tape {
    async fn observe(&self) -> Result<Seen, KernelError> {
        self.answer::<Result<_, String>>(Kind::Observe, ()).await.map_err(KernelError::Recorded)
    }

    async fn apply(&self, steps: Vec<LinkStep>) -> Vec<KernelError> {
        let failures: Vec<String> = self.answer(Kind::Links, Some(&steps)).await;
        for step in &steps {
            self.0.tell(|| match step {
                LinkStep::Close { name, .. } => format!("closes representor {name}"),
                LinkStep::Open { name, .. } => format!("opens representor {name}"),
                LinkStep::SetMtu { name, mtu, .. } => format!("sets the MTU of representor {name} to {mtu}"),
                LinkStep::SetMac { name, mac, .. } => format!("sets the MAC of the VF of {name} to {mac}"),
            });
        }
        self.failed("representors", &failures);
        failures.into_iter().map(KernelError::Recorded).collect()
    }

    fn forget_flows(&self) {
        self.0.compare(Kind::ForgetLosses, &());
    }
}

impl Tape {
    fn failed(&self, what: &str, failures: &[String]) {
        for failure in failures {
            self.0.tell(|| format!("  {what}: {failure}"));
        }
    }
}

impl Ovs for Tape {
    fn view(&mut self) -> Result<OvsView, Unseen> {
        let view: Option<Result<_, String>> = self.0.answer(Kind::View, &());
        view.unwrap_or_else(|| Err(String::new())).map_err(Unseen::Recorded)
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    async fn apply(&mut self, steps: &[OvsStep], bump: bool) -> Result<(), OvsError> {
        let done: Result<(), String> = self.answer(Kind::Ovs, (steps, bump)).await;
        for step in steps {
            self.0.tell(|| match step {
                OvsStep::AddPort { port, .. } => format!("adds port {}", port.name),
                OvsStep::RemovePort { port, bridge } => format!("removes port {port} from {bridge}"),
                OvsStep::AddBridge(bridge) => format!("adds bridge {}", bridge.name),
                OvsStep::MendBridge(bridge) => format!("mends bridge {}", bridge.name),
                OvsStep::MendInterface { port, .. } => format!("mends interface {}", port.name),
                OvsStep::SetRoot { .. } => "sets keys of Open_vSwitch".to_owned(),
            });
        }
        self.failed("Open vSwitch", done.as_ref().err().map(std::slice::from_ref).unwrap_or_default());
        done.map_err(OvsError::Recorded)
    }

    fn forget_flows(&self, _: &Path) -> impl Future<Output = Result<(), ControlError>> + Send + 'static {
        self.0.compare(Kind::ForgetFlows, &());
        self.0.tell(|| "offers all flows to the hardware anew".to_owned());
        std::future::ready(Ok(()))
    }
}

impl Southbound for Tape {
    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    fn ask_for(&mut self, ports: &BTreeSet<String>) {
        self.0.compare(Kind::AskFor, ports);
    }

    fn unready(&self) -> Option<String> {
        self.0.answer(Kind::Unready, &()).flatten()
    }

    fn external_ids(&self, port: &str) -> Option<BTreeMap<String, String>> {
        self.0.answer(Kind::ExternalIds, &port).flatten()
    }

    fn ports(
        &mut self,
        claimed: &BTreeMap<String, String>,
        _: &str,
        _: &Profile,
    ) -> BTreeMap<String, (PortState, Option<Binding>)> {
        self.0.answer(Kind::Ports, claimed).unwrap_or_default()
    }
}

impl Switch for Tape {
    type Session = Self;

    async fn connect(&self) -> Result<Self, Error> {
        self.done(Kind::Connect, ()).await.map(|()| self.clone())
    }
}

impl SwitchSession for Tape {
    /// Asked when it was lost, and at no other time.
    async fn closed(&self) {
        self.0.compare(Kind::Lost, &());
    }

    async fn dump_flows(&self) -> Result<Vec<InstalledFlow>, Error> {
        let all: Result<Vec<String>, SwitchFailure> = self.answer(Kind::DumpFlows, ()).await;
        match words::flows_of(&all?) {
            Ok(flows) => Ok(flows),
            Err(why) => {
                self.0.damaged(why);
                std::future::pending().await
            }
        }
    }

    async fn meters(&self) -> Result<Vec<InstalledMeter>, Error> {
        Ok(self.answer::<Result<_, SwitchFailure>>(Kind::Meters, ()).await?)
    }

    async fn meter_stats(&self) -> Result<Vec<MeterStats>, Error> {
        Ok(self.answer::<Result<_, SwitchFailure>>(Kind::MeterStats, ()).await?)
    }

    async fn change_meters(&self, changes: &[MeterMod]) -> Result<(), Error> {
        let done = self.done(Kind::ChangeMeters, changes).await;
        if !changes.is_empty() {
            self.0.tell(|| format!("changes {} meters", changes.len()));
        }
        done
    }

    async fn apply(&self, changes: &[FlowMod]) -> Result<(), Error> {
        let asked: Vec<_> = changes.iter().map(ToString::to_string).collect();
        let done = self.done(Kind::Flows, asked).await;
        let deleted = changes.iter().filter(|it| matches!(it, FlowMod::DeleteStrict(_))).count();
        self.0.tell(|| format!("puts {} flows, deletes {deleted}", changes.len() - deleted));
        done
    }

    async fn flush_ct_zone(&self, zone: CtZone) -> Result<(), Error> {
        let done = self.done(Kind::FlushZone, zone).await;
        self.0.tell(|| format!("empties conntrack zone {zone}"));
        done
    }
}

impl Disk for Tape {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let read: Option<Result<String, DiskFailure>> =
            self.0.answer(Kind::Read, &path.display().to_string());
        let contents = read.ok_or_else(|| io::Error::other("the recording has ended"))??;
        Ok(contents.into_bytes())
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let done: Option<Result<(), DiskFailure>> =
            self.0.answer(Kind::Write, &FileWord::new(path, contents));
        self.0.tell(|| format!("writes {}", path.display()));
        Ok(done.ok_or_else(|| io::Error::other("the recording has ended"))??)
    }
}

impl Clock for Tape {
    fn now(&self) -> Instant {
        self.0.now()
    }
}
