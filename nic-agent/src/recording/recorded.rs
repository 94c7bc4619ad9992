//! A platform whose answers, and what it was asked, are recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::time::Instant;

use offload::ids::CtZone;
use offload::openflow::{FlowMod, InstalledFlow, InstalledMeter, MeterMod, MeterStats};

use super::line::Kind;
use super::recorder::Recorder;
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

/// `P`, with a recorder, which may be one that writes nothing.
#[derive(Debug)]
pub struct Recorded<P>(PhantomData<P>);

impl<P: Platform> Platform for Recorded<P> {
    type Links = With<P::Links>;
    type Ovs = With<P::Ovs>;
    type Southbound = With<P::Southbound>;
    type Switch = With<P::Switch>;
}

/// One of its interfaces.
#[derive(Debug, Clone)]
pub struct With<T> {
    inner: T,
    recorder: Recorder,
}

impl<T> With<T> {
    pub fn new(inner: T, recorder: &Recorder) -> Self {
        Self { inner, recorder: recorder.clone() }
    }
}

impl<T: Links> Links for With<T> {
    async fn observe(&self) -> Result<Seen, KernelError> {
        let seen = self.inner.observe().await;
        self.recorder.note(Kind::Observe, || ((), seen.as_ref().map_err(ToString::to_string)));
        seen
    }

    async fn apply(&self, steps: Vec<LinkStep>) -> Vec<KernelError> {
        let asked = self.recorder.is_on().then(|| steps.clone());
        let failures = self.inner.apply(steps).await;
        let texts = || failures.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.recorder.note(Kind::Links, || (asked, texts()));
        failures
    }

    fn forget_flows(&self) {
        self.recorder.note(Kind::ForgetLosses, || ((), ()));
        self.inner.forget_flows();
    }
}

impl<T: Ovs> Ovs for With<T> {
    fn view(&mut self) -> Result<OvsView, Unseen> {
        let view = self.inner.view();
        self.recorder.note(Kind::View, || ((), view.as_ref().map_err(ToString::to_string)));
        view
    }

    async fn changed(&mut self) {
        self.inner.changed().await;
    }

    async fn apply(&mut self, steps: &[OvsStep], bump: bool) -> Result<(), OvsError> {
        let done = self.inner.apply(steps, bump).await;
        self.recorder.note(Kind::Ovs, || ((steps, bump), done.as_ref().map_err(ToString::to_string)));
        done
    }

    fn forget_flows(
        &self,
        run_dir: &Path,
    ) -> impl Future<Output = Result<(), ControlError>> + Send + 'static {
        self.recorder.note(Kind::ForgetFlows, || ((), ()));
        self.inner.forget_flows(run_dir)
    }
}

impl<T: Southbound> Southbound for With<T> {
    async fn changed(&mut self) {
        self.inner.changed().await;
    }

    fn ask_for(&mut self, ports: &BTreeSet<String>) {
        self.recorder.note(Kind::AskFor, || (ports, ()));
        self.inner.ask_for(ports);
    }

    fn unready(&self) -> Option<String> {
        let why = self.inner.unready();
        self.recorder.note(Kind::Unready, || ((), &why));
        why
    }

    fn external_ids(&self, port: &str) -> Option<BTreeMap<String, String>> {
        let ids = self.inner.external_ids(port);
        self.recorder.note(Kind::ExternalIds, || (port, &ids));
        ids
    }

    fn ports(
        &mut self,
        claimed: &BTreeMap<String, String>,
        own_chassis: &str,
        profile: &Profile,
    ) -> BTreeMap<String, (PortState, Option<Binding>)> {
        let ports = self.inner.ports(claimed, own_chassis, profile);
        self.recorder.note(Kind::Ports, || (claimed, &ports));
        ports
    }
}

impl<T: Switch> Switch for With<T> {
    type Session = With<T::Session>;

    async fn connect(&self) -> Result<Self::Session, Error> {
        let session = self.inner.connect().await;
        let heard = || session.as_ref().map(|_| ()).map_err(SwitchFailure::from);
        self.recorder.note(Kind::Connect, || ((), heard()));
        session.map(|inner| With::new(inner, &self.recorder))
    }
}

impl<T: SwitchSession> SwitchSession for With<T> {
    async fn closed(&self) {
        self.inner.closed().await;
        // Whoever waits for it drops the session, without waiting for anything else.
        self.recorder.note(Kind::Lost, || ((), ()));
    }

    async fn dump_flows(&self) -> Result<Vec<InstalledFlow>, Error> {
        let all = self.inner.dump_flows().await;
        let heard = || match &all {
            Ok(all) => words::flows(all),
            Err(e) => Err(SwitchFailure::from(e)),
        };
        self.recorder.note(Kind::DumpFlows, || ((), heard()));
        all
    }

    async fn meters(&self) -> Result<Vec<InstalledMeter>, Error> {
        let all = self.inner.meters().await;
        self.recorder.note(Kind::Meters, || ((), all.as_ref().map_err(SwitchFailure::from)));
        all
    }

    async fn meter_stats(&self) -> Result<Vec<MeterStats>, Error> {
        let all = self.inner.meter_stats().await;
        self.recorder.note(Kind::MeterStats, || ((), all.as_ref().map_err(SwitchFailure::from)));
        all
    }

    async fn change_meters(&self, changes: &[MeterMod]) -> Result<(), Error> {
        let done = self.inner.change_meters(changes).await;
        self.recorder.note(Kind::ChangeMeters, || (changes, done.as_ref().map_err(SwitchFailure::from)));
        done
    }

    async fn apply(&self, changes: &[FlowMod]) -> Result<(), Error> {
        let done = self.inner.apply(changes).await;
        let asked = || changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.recorder.note(Kind::Flows, || (asked(), done.as_ref().map_err(SwitchFailure::from)));
        done
    }

    async fn flush_ct_zone(&self, zone: CtZone) -> Result<(), Error> {
        let done = self.inner.flush_ct_zone(zone).await;
        self.recorder.note(Kind::FlushZone, || (zone, done.as_ref().map_err(SwitchFailure::from)));
        done
    }
}

impl<T: Disk> Disk for With<T> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let contents = self.inner.read(path);
        let heard = || contents.as_ref().map(|it| String::from_utf8_lossy(it)).map_err(DiskFailure::from);
        self.recorder.note(Kind::Read, || (path.display().to_string(), heard()));
        contents
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let done = self.inner.replace(path, contents);
        let heard = || done.as_ref().map_err(DiskFailure::from);
        self.recorder.note(Kind::Write, || (FileWord::new(path, contents), heard()));
        done
    }
}

impl<T: Clock> Clock for With<T> {
    fn now(&self) -> Instant {
        let now = self.inner.now();
        self.recorder.note(Kind::Now, || ((), self.recorder.offset(now)));
        now
    }
}
