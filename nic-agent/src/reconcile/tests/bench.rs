//! The loop on its fakes, driven by hand: nothing happens between two calls.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::FutureExt;
use offload::ids::VfId;
use offload::policy::PodPolicy;
use tokio::sync::{mpsc, watch};

use super::disk::STATE;
use super::kernel::Kernel;
use super::names::{ZONES, logical, mac, pod_ref, zone};
use super::ovs::Ovs;
use super::recording::Buffer;
use super::southbound::{LogicalPort, Southbound};
use super::switch::Switch;
use super::world::{Crash, EDGE, Rep, World};
use crate::audit::{Auditor, OtherEnd};
use crate::backend::overlay;
use crate::claim::{Attached, Attachments, Claim, PodRef, Refusal, SandboxKey};
use crate::config::Config;
use crate::directory::{Directory, PodRecord};
use crate::edge::Edge;
use crate::enforcement::{self, Known, Policies};
use crate::ledger::Ledger;
use crate::management::Access;
use crate::metrics::Metrics;
use crate::platform::Platform;
use crate::published::{Published, State};
use crate::reconcile::handle::Handle;
use crate::reconcile::trace::Trace;
use crate::reconcile::{Inputs, LEDGER, Parts, Reconciler};
use crate::recording::{Header, Recorded, Recorder, With};
use crate::service_manager::Heartbeat;
use crate::southbound::state::ChassisState;

#[derive(Debug)]
pub enum Plain {}

/// As the agent's own platform, with a recorder, which mostly writes nothing.
pub type Fakes = Recorded<Plain>;

impl Platform for Plain {
    type Links = Kernel;
    type Ovs = Ovs;
    type Southbound = Southbound;
    type Switch = Switch;
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| Arc::new(config()));

fn config() -> Config {
    let text = format!(
        "[node]\nname = 'server1'\n[server]\nlisten = ['192.0.2.21:8443']\n[chassis]\nsystem-id = 'nic1'\n\
         ovn-remote = 'tcp:192.0.2.10:6642'\novn-encap-ip = '192.0.2.1'\n[edge]\nct-zones = '{}-{}'\n\
         [state]\ndir = '{STATE}'\n[profile]\nkind = 'plain'\n",
        ZONES.start(),
        ZONES.end(),
    );
    text.parse().unwrap()
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>>>>;

/// The process.
pub struct Agent {
    pub reconciler: Reconciler<Fakes>,
    handle: Handle,
    published: watch::Receiver<Arc<Published>>,
    _kernel_events: mpsc::Sender<()>,
    _audit: OtherEnd,
    _access: watch::Receiver<Access>,
}

pub struct Bench {
    pub world: World,
    pub config: watch::Sender<Arc<Config>>,
    directory: watch::Sender<Directory>,
    pods: BTreeMap<String, PodRecord>,
    policies: watch::Sender<Policies>,
    denied: BTreeMap<u16, bool>,
    metrics: Metrics,
    agent: Option<Agent>,
    /// Requests under way.
    pub attaching: Vec<(Claim, Answer<Attached>)>,
    /// With what they held.
    detaching: Vec<(SandboxKey, Option<VfId>, Answer<bool>)>,
    /// Answered, by sandbox.
    pub attached: BTreeMap<SandboxKey, Claim>,
    /// Of those that there were, as the disk has it.
    pub detached: BTreeSet<SandboxKey>,
    pub refused: Vec<(SandboxKey, Refusal)>,
    /// Where the processes are recorded, each on one of its own.
    tape: Option<fn() -> Buffer>,
    pub tapes: Vec<Buffer>,
}

/// As an executor that is never tired: what is ready is ready, however often it was asked.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::unconstrained(future))
}

impl Bench {
    pub async fn new(vfs: u16) -> Self {
        Self::with(vfs, None).await
    }

    pub async fn with(vfs: u16, tape: Option<fn() -> Buffer>) -> Self {
        let world = World::new(vfs, ZONES.map(zone));
        let mut bench = Self {
            world,
            config: watch::channel(CONFIG.clone()).0,
            directory: watch::channel(Directory::Known(Arc::default())).0,
            pods: BTreeMap::new(),
            policies: watch::channel(Policies::Known(Arc::default())).0,
            denied: BTreeMap::new(),
            metrics: METRICS.clone(),
            agent: None,
            attaching: Vec::new(),
            detaching: Vec::new(),
            attached: BTreeMap::new(),
            detached: BTreeSet::new(),
            refused: Vec::new(),
            tape,
            tapes: Vec::new(),
        };
        bench.start().await;
        bench
    }

    /// All daemons up, a pass done, and nothing of it in the log.
    pub async fn at_rest(vfs: u16) -> Self {
        let mut bench = Self::new(vfs).await;
        bench.rest().await;
        bench.world.take_log();
        bench
    }

    /// The process begins, as `App::build` has it.
    pub async fn start(&mut self) {
        self.world.lock().seen_ports = None;
        self.world.lock().asked.clear();
        let recorder = match self.tape {
            Some(tape) => {
                let tape = tape();
                self.tapes.push(tape.clone());
                let header = Header::new("nic".to_owned(), Config::clone(&self.config.borrow()));
                Recorder::start(tape, self.world.began, &header).unwrap()
            }
            None => Recorder::default(),
        };
        let (mut auditor, audit) = Auditor::new();
        let world = || self.world.clone();
        let disk = Arc::new(With::new(world(), &recorder));
        let path = std::path::Path::new(STATE).join(LEDGER);
        let ledger = Ledger::load(&*disk, &path).expect("a ledger that can be read").unwrap_or_default();
        let (access, accessed) = watch::channel(Access::of(&self.config.borrow(), &ledger));
        let (send, kernel_events) = mpsc::channel(1);
        let clock = disk.clone();
        let mut inputs = Inputs {
            config: self.config.subscribe(),
            directories: self.directory.subscribe(),
            policies: self.policies.subscribe(),
            health: None,
            kernel_events,
        };
        let trace = Trace::of(recorder.clone(), &mut inputs, &mut auditor);
        let overlay = overlay::Parts {
            ovs: With::new(Ovs(world()), &recorder),
            southbound: With::new(Southbound(world()), &recorder),
            edge: Edge::new(
                EDGE.to_owned(),
                With::new(Switch(world()), &recorder),
                clock.clone(),
                self.metrics.clone(),
            ),
            auditor,
            disk,
            clock,
            hostname: "nic".to_owned(),
            metrics: self.metrics.clone(),
        };
        let (reconciler, handle) = Reconciler::new(Parts {
            inputs,
            kernel: With::new(Kernel(world()), &recorder),
            overlay,
            lookup: None,
            access,
            ledger,
            heartbeat: Heartbeat::new(Duration::from_mins(1)),
            trace,
        });
        let published = handle.published();
        let agent =
            Agent { reconciler, handle, published, _kernel_events: send, _audit: audit, _access: accessed };
        self.agent = Some(agent);
        self.lives(async |agent| agent.reconciler.close_first().await).await;
    }

    /// The process ends, whatever it was about, and all that it knew is gone.
    pub fn stop(&mut self) {
        let mut state = self.world.lock();
        state.ledger_lost |= state.ledger_behind;
        drop(state);
        self.agent = None;
        self.attaching.clear();
        self.detaching.clear();
    }

    pub async fn restart(&mut self) {
        self.stop();
        self.start().await;
    }

    /// Runs what the agent does; false when the process ended in the midst of it.
    async fn lives(&mut self, run: impl AsyncFnOnce(&mut Agent)) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        match AssertUnwindSafe(run(agent)).catch_unwind().await {
            Ok(()) => true,
            Err(cause) if cause.is::<Crash>() => {
                // What it had answered by then is known.
                self.listen();
                self.stop();
                false
            }
            Err(cause) => std::panic::resume_unwind(cause),
        }
    }

    /// The loop, to be run by itself.
    pub fn take(&mut self) -> (Reconciler<Fakes>, Handle) {
        let Agent { reconciler, handle, .. } = self.agent.take().unwrap();
        (reconciler, handle)
    }

    pub fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    pub fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().unwrap()
    }

    /// What is asked is taken in, then a pass, then the answers. True when the pass had nothing to do.
    pub async fn turn(&mut self) -> bool {
        self.listen();
        let mut complete = false;
        let lived = self
            .lives(async |agent| {
                // As the loop's `select`: it is told, and does not find out.
                agent.reconciler.overlay.lost().now_or_never();
                agent.reconciler.take_in();
                complete = agent.reconciler.turn().await;
            })
            .await;
        self.listen();
        let mut state = self.world.lock();
        if lived && state.failing.is_empty() && state.ovsdb_up && state.switch_up {
            // Nothing stood in its way.
            state.look_at_what_is_open();
        }
        state.packets();
        complete
    }

    /// OVS and OVN do what is theirs.
    pub fn daemons(&self) {
        let mut state = self.world.lock();
        state.switch_follows();
        state.ovn_follows();
    }

    /// Until nothing is left to do, for the agent and for everybody else. True when that was.
    pub async fn rest(&mut self) -> bool {
        let mut quiet = 0;
        for _ in 0..30 {
            self.daemons();
            let before = self.world.lock().log.len();
            let complete = self.turn().await;
            self.world.wait(Duration::from_secs(3));
            let is_quiet = complete && self.world.lock().log.len() == before;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            // Longer than a quarantine, and than the edge believes what it wrote.
            if quiet > 3 {
                return true;
            }
        }
        false
    }

    /// All that is asked comes as far as it can.
    pub fn listen(&mut self) {
        let mut waiting = Vec::new();
        for (claim, mut answer) in std::mem::take(&mut self.attaching) {
            match (&mut answer).now_or_never() {
                None => waiting.push((claim, answer)),
                Some(Ok(_)) => {
                    let (holders, is_fine) = {
                        let state = self.world.lock();
                        (state.holders.clone(), !state.ledger_behind)
                    };
                    if is_fine && !holders.values().any(|it| it.claim.key == claim.key) {
                        self.world.lock().violated(format!("{} is answered, and not on the disk", claim.key));
                    }
                    self.attached.insert(claim.key.clone(), claim);
                }
                Some(Err(refusal)) => self.refused.push((claim.key, refusal)),
            }
        }
        self.attaching = waiting;
        let mut waiting = Vec::new();
        for (key, held, mut answer) in std::mem::take(&mut self.detaching) {
            match (&mut answer).now_or_never() {
                None => waiting.push((key, held, answer)),
                Some(Ok(_)) => {
                    let mut state = self.world.lock();
                    let is_free = |vf: &VfId| !state.holders.contains_key(vf);
                    let rep = held.filter(is_free).and_then(|vf| state.reps.get(&Some(vf)));
                    if rep.is_some_and(Rep::is_open) && state.failing.is_empty() {
                        state.violated(format!("{key} is detached, and its VF is open"));
                    }
                    // A disk that takes nothing keeps nobody attached.
                    let is_kept = !state.ledger_behind;
                    self.detached.extend(is_kept.then_some(key));
                }
                Some(Err(refusal)) => self.refused.push((key, refusal)),
            }
        }
        self.detaching = waiting;
    }

    /// The server asks; dropped by [`Self::give_up`].
    pub fn attach(&mut self, claim: Claim) {
        let Some(agent) = &self.agent else { return };
        let (handle, asked) = (agent.handle.clone(), claim.clone());
        self.attaching.push((claim, Box::pin(async move { handle.attach(asked).await })));
        self.listen();
    }

    pub fn detach(&mut self, key: SandboxKey) {
        let Some(agent) = &self.agent else { return };
        let (handle, asked) = (agent.handle.clone(), key.clone());
        self.attached.remove(&key);
        let held = {
            let state = self.world.lock();
            state.holders.iter().find(|(_, it)| it.claim.key == key).map(|(vf, _)| *vf)
        };
        self.detaching.push((key, held, Box::pin(async move { handle.detach(asked).await })));
        self.listen();
    }

    pub fn give_up(&mut self, key: &SandboxKey) {
        self.attaching.retain(|(claim, _)| claim.key != *key);
    }

    /// The API has the pod, and OVN its logical port.
    pub fn pod(&mut self, pod: u16) {
        self.record(pod);
        self.logical_port(pod);
        self.policy(pod, false);
    }

    /// In the API alone.
    pub fn record(&mut self, pod: u16) {
        let PodRef { namespace, name, uid } = pod_ref(pod);
        let record = PodRecord {
            uid: uid.clone(),
            namespace,
            name,
            node: "server1".to_owned(),
            host_network: false,
            mirror: false,
            static_uid: String::new(),
            phase: "Running".to_owned(),
            annotations: BTreeMap::new(),
        };
        self.pods.insert(uid, record);
        self.tell_pods();
    }

    pub fn logical_port(&mut self, pod: u16) {
        let port = LogicalPort {
            mac: mac(pod),
            ip: std::net::Ipv4Addr::new(10, 0, 0, pod.to_be_bytes()[1]).into(),
            uid: format!("u{pod}"),
            chassis: ChassisState::Unbound,
            problem: None,
            external_ids: BTreeMap::new(),
        };
        self.world.lock().logical_ports.insert(logical(pod), port);
    }

    pub fn gone(&mut self, pod: u16) {
        self.pods.remove(&format!("u{pod}"));
        self.tell_pods();
        self.attached.retain(|_, claim| claim.pod != pod_ref(pod));
    }

    pub fn lives_in_api(&self, claim: &Claim) -> bool {
        self.pods.contains_key(&claim.pod.uid)
    }

    pub fn policy(&mut self, pod: u16, denies: bool) {
        self.denied.insert(pod, denies);
        self.tell_policies();
    }

    pub fn denies(&self, claim: &Claim) -> Option<bool> {
        self.denied.iter().find(|(pod, _)| pod_ref(**pod) == claim.pod).map(|(_, denies)| *denies)
    }

    pub fn tell_policies(&mut self) {
        let of = |(pod, denies): (&u16, &bool)| {
            let policy = if *denies { enforcement::closed() } else { PodPolicy::default() };
            (Arc::from(format!("u{pod}")), Arc::new(policy))
        };
        let known = Known { pods: self.denied.iter().map(of).collect(), ..Known::default() };
        self.policies.send_replace(Policies::Known(Arc::new(known)));
    }

    pub fn tell_pods(&mut self) {
        self.directory.send_replace(Directory::Known(Arc::new(self.pods.clone())));
    }

    pub fn directory(&mut self, directory: Directory) {
        self.directory.send_replace(directory);
    }

    /// What the policies were made from, until they are told again.
    pub fn source(&mut self, source: &str) {
        self.policies.send_modify(|it| match it {
            Policies::Known(known) => source.clone_into(&mut Arc::make_mut(known).source),
            other => panic!("{other:?}"),
        });
    }

    /// What is told of it to whoever wrote them.
    pub fn source_in_tables(&mut self) -> Option<String> {
        self.agent().published.borrow().policy.source.clone()
    }

    pub fn policies(&mut self, policies: Policies) {
        self.policies.send_replace(policies);
    }

    /// What the attachment waits for; none: it is ready.
    pub fn stage(&mut self, key: &SandboxKey) -> Option<String> {
        let published = self.agent().published.borrow().clone();
        match &published.attachments.get(key).expect("published").state {
            State::Ready(_) => None,
            State::Waiting(stage) => Some(stage.clone()),
        }
    }

    pub fn violations(&self) -> Vec<String> {
        self.world.lock().violations.clone()
    }

    /// Nothing was wrong on the way, and nothing is missing or stray now.
    #[track_caller]
    pub fn is_fine(&self) {
        assert_eq!(self.violations(), [""; 0]);
        assert_eq!(self.world.at_rest(), [""; 0]);
    }
}
