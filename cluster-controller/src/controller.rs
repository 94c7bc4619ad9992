//! The loop: changes and the northbound's replica in, transactions out, while we lead.
//!
//! Who does not lead does everything but write: so it is ready the moment it does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use ovsdb_session::rows::northbound::DATABASE;
use ovsdb_session::{Error, Monitor, Session};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::cluster::ObjectName;
use crate::core::{Applied, Core, fenced};
use crate::health::Health;
use crate::lease::Leading;
use crate::metrics::{Metrics, OutcomeLabel, TableLabel};
use crate::northbound::observed::monitored;
use crate::northbound::{Key, Table};
use crate::publish::Wanted;
use crate::settings::Settings;
use crate::taint::{self, AllWanted, Nics};
use crate::watch::{Input, Kind};

/// Changes that go into the same transactions, at most.
const AT_ONCE: usize = 4096;
/// How often the loop turns with nothing to do.
const TICK: Duration = Duration::from_secs(5);
/// Every so many of them, what the server refused is tried again.
const RETRY_TICKS: u32 = 6;
/// How many Services that are too much are named at a tick.
const NAMED: usize = 5;
/// How many times in a row the fence may be another's before the loop turns.
const CLAIMS: u32 = 3;

#[derive(Debug)]
pub struct Controller {
    core: Core,
    session: Session,
    monitor: Monitor,
    inputs: mpsc::Receiver<Input>,
    leading: watch::Receiver<Leading>,
    /// Ours, of this process: the fence in the northbound.
    token: String,
    listed: BTreeSet<Kind>,
    reported: BTreeSet<Key>,
    /// Services that are too much, at the last tick.
    refused: BTreeSet<ObjectName>,
    metrics: Metrics,
    health: watch::Sender<Health>,
    cluster: Vec<IpNet>,
    wanted: watch::Sender<Arc<Wanted>>,
    /// The plan's, when `wanted` was made.
    published: Option<u64>,
    lacks_copp: bool,
    nics: Nics,
    taints: watch::Sender<Arc<AllWanted>>,
    disrupted: bool,
    /// Of each Node that there was at first: before that it would look as if none had a range, as after an update.
    decided: bool,
}

impl Controller {
    pub fn new(
        settings: Settings,
        session: Session,
        inputs: mpsc::Receiver<Input>,
        leading: watch::Receiver<Leading>,
        token: String,
        metrics: Metrics,
        taints: taint::Timing,
    ) -> (Self, watch::Receiver<Health>) {
        let starting = Health { turned: Instant::now(), unready: Some("starting".to_owned()) };
        let (health, receiver) = watch::channel(starting);
        let monitor = session.monitor(DATABASE, monitored());
        let cluster = settings.allocation.cluster.clone();
        let controller = Self {
            core: Core::new(settings),
            session,
            monitor,
            inputs,
            leading,
            token,
            listed: BTreeSet::new(),
            reported: BTreeSet::new(),
            refused: BTreeSet::new(),
            metrics,
            health,
            cluster,
            wanted: watch::channel(Arc::new(Wanted::default())).0,
            published: None,
            lacks_copp: false,
            nics: Nics::new(taints),
            taints: watch::channel(Arc::new(AllWanted::new())).0,
            disrupted: false,
            decided: false,
        };
        (controller, receiver)
    }

    /// What shall be written into the API.
    pub fn wanted(&self) -> watch::Receiver<Arc<Wanted>> {
        self.wanted.subscribe()
    }

    /// Which Nodes' taints are to be others.
    pub fn taints(&self) -> watch::Receiver<Arc<AllWanted>> {
        self.taints.subscribe()
    }

    /// Runs until `cancel`; nothing is written after it returns.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut snapshots = self.monitor.watch();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        loop {
            let mut is_tick = false;
            tokio::select! {
                () = cancel.cancelled() => return,
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                changed = snapshots.changed() => if changed.is_err() { return },
                changed = self.leading.changed() => if changed.is_err() { return },
                _ = tick.tick() => {
                    is_tick = true;
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(RETRY_TICKS) {
                        self.core.retry_refused();
                    }
                }
            }
            // What has come meanwhile goes into the same transactions; whoever writes without end must not keep the others
            // from theirs.
            for _ in 0..AT_ONCE {
                let Ok(input) = self.inputs.try_recv() else { break };
                self.take(input);
            }
            let snapshot = snapshots.borrow_and_update().clone();
            self.core.observe(snapshot);
            self.publish();
            if is_tick {
                self.judge_nics();
                self.report_services();
            }
            self.write(&cancel).await;
            self.report();
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Change(change) => {
                self.nics.take(&change, Instant::now());
                self.core.change(change);
            }
            Input::Listed(kind) => {
                if self.listed.insert(kind) {
                    info!(kind = kind.as_str(), "listed");
                }
            }
        }
    }

    fn leads_until(&self) -> Option<Instant> {
        self.leading.borrow().filter(|until| *until > Instant::now())
    }

    /// Decides which ranges are whose, as soon as all claims are known, and whatever becomes of the northbound.
    fn publish(&mut self) {
        self.decided |= self.unlisted().is_empty() && self.core.plan().undecided().is_none();
        let revision = self.core.plan().ranges_revision();
        if !self.unlisted().is_empty() || self.published == Some(revision) {
            return;
        }
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.wanted.send_replace(Arc::new(Wanted::of(self.core.plan(), &self.cluster, &now)));
        self.published = Some(revision);
    }

    /// Who is to be tainted, whatever becomes of the rest.
    fn judge_nics(&mut self) {
        if ![Kind::Node, Kind::NicNode].iter().all(|kind| self.listed.contains(kind)) {
            return;
        }
        let wanted = self.nics.plan(Instant::now());
        self.taints.send_if_modified(|now| {
            let is_other = **now != wanted;
            if is_other {
                *now = Arc::new(wanted);
            }
            is_other
        });
        let disrupted = self.nics.is_disrupted();
        if disrupted && !self.disrupted {
            warn!("no NIC's heartbeat is seen to go on: no node is tainted until one's is");
        }
        self.disrupted = disrupted;
        self.metrics.nics_disrupted.set(disrupted.into());
        self.metrics.tainted_nodes.set(i64::try_from(self.nics.tainted()).unwrap_or(i64::MAX));
    }

    fn unlisted(&self) -> Vec<&'static str> {
        let missing = Kind::ALL.iter().filter(|kind| !self.listed.contains(kind));
        missing.map(|kind| kind.as_str()).collect()
    }

    /// Why nothing may be written.
    fn unready(&self) -> Option<String> {
        let missing = self.unlisted();
        if !missing.is_empty() {
            return Some(format!("not listed yet: {}", missing.join(", ")));
        }
        if let (false, Some(node)) = (self.decided, self.core.plan().undecided()) {
            return Some(format!("the NodeRange of {node} has not been written yet"));
        }
        let snapshot = self.monitor.snapshot();
        match (&snapshot.error, snapshot.synced && snapshot.connected) {
            (Some(error), _) => Some(format!("the northbound refuses to be monitored: {error}")),
            (None, false) => Some("no connection to the northbound".to_owned()),
            (None, true) => None,
        }
    }

    async fn write(&mut self, cancel: &CancellationToken) {
        let mut claims = 0;
        while !cancel.is_cancelled() && self.unready().is_none() {
            let Some(until) = self.leads_until() else { return };
            self.core.observe(self.monitor.snapshot());
            if self.core.fence().as_deref() != Some(&self.token) {
                claims += 1;
                if claims > CLAIMS || !self.claim(until).await {
                    return;
                }
                continue;
            }
            let Some(batch) = self.core.next_batch(Timestamp::now()) else { return };
            let operations = batch.ops.len();
            let sent = self.session.transact(DATABASE, fenced(&self.token, batch.ops.clone()));
            let result = match timeout_at(until, sent).await {
                Ok(result) => result,
                // Whether it was done shows in the replica.
                Err(_) => Err(Error::Lost("no answer while we lead".to_owned())),
            };
            let applied = self.core.applied(&batch, result);
            self.count(&applied, operations);
            match applied {
                Applied::Done => debug!(operations, rows = batch.keys.len(), "northbound written"),
                Applied::Fenced => info!("another has led, looking again"),
                Applied::Refused(error) => {
                    warn!(error, rows = batch.keys.len(), "transaction refused, trying in parts");
                }
                Applied::Lost(error) => {
                    warn!(error, "transaction's outcome unknown");
                    return;
                }
            }
        }
    }

    async fn claim(&self, until: Instant) -> bool {
        let claim = self.session.transact(DATABASE, self.core.claim(&self.token));
        match timeout_at(until, claim).await {
            Ok(Ok(_)) => {
                info!(token = self.token, "northbound claimed");
                true
            }
            Ok(Err(error)) => {
                warn!(%error, "northbound not claimed");
                false
            }
            Err(_) => false,
        }
    }

    fn count(&self, applied: &Applied, operations: usize) {
        let outcome = match applied {
            Applied::Done => {
                self.metrics.operations.inc_by(u64::try_from(operations).unwrap_or(u64::MAX));
                "done"
            }
            Applied::Fenced => "fenced",
            Applied::Refused(_) => "refused",
            Applied::Lost(_) => "lost",
        };
        self.metrics.transactions.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    fn report(&mut self) {
        let blocked: BTreeSet<Key> = self.core.blocked().map(|(key, _)| key.clone()).collect();
        for (key, why) in self.core.blocked().filter(|(key, _)| !self.reported.contains(*key)) {
            warn!(row = %key, %why, "row cannot be written");
        }
        self.metrics.blocked.set(i64::try_from(blocked.len()).unwrap_or(i64::MAX));
        self.reported = blocked;
        self.report_copp();
        self.metrics.leading.set(self.leads_until().is_some().into());
        let snapshot = self.monitor.snapshot();
        self.metrics.northbound_connected.set((snapshot.synced && snapshot.connected).into());
        for table in Table::ALL {
            let count = i64::try_from(self.core.plan().count(table)).unwrap_or(i64::MAX);
            self.metrics.rows.get_or_create(&TableLabel { table: table.name() }).set(count);
        }
        self.health.send_replace(Health { turned: Instant::now(), unready: self.unready() });
    }

    /// With each tick a few: who makes Services can make them come and go.
    fn report_services(&mut self) {
        let refused: BTreeSet<ObjectName> =
            self.core.plan().refused_services().map(|(name, _)| name.clone()).collect();
        let fresh = refused.difference(&self.refused).count();
        let is_fresh = |name: &ObjectName| !self.refused.contains(name);
        let all = self.core.plan().refused_services().filter(|(name, _)| is_fresh(name));
        for (service, excess) in all.take(NAMED) {
            warn!(%service, %excess, "Service has no load balancer: make it smaller, or fewer of its namespace");
        }
        if fresh > NAMED {
            warn!(others = fresh - NAMED, "more Services have none");
        }
        self.metrics.refused_services.set(i64::try_from(refused.len()).unwrap_or(i64::MAX));
        self.refused = refused;
    }

    /// Once, and not for each row.
    fn report_copp(&mut self) {
        let lacks = self.core.observed().lacks_copp();
        let wanted = self.core.plan().count(Table::Copp) > 0;
        if lacks && wanted && !self.lacks_copp {
            let missing = &*self.monitor.snapshot().missing;
            warn!(
                ?missing,
                "OVN's schema lacks control plane protection: a pod's flood is not bounded; update OVN"
            );
        }
        self.lacks_copp = lacks;
        self.metrics.copp.set((wanted && !lacks).into());
    }
}
