//! What the agent counts. Who shows it is `endpoint`.
//!
//! Owns the registry and every family in it: nothing is global, so two agents in one process (in a test) count apart.
//! To add a family: a public field, and one line in [`Metrics::new`]. Labels take few, known values; names of pods and
//! ports belong in the log.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use exposition::Certificates;
pub use exposition::Format;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

/// A gRPC request's method and what became of it: `ok`, or the refusal's reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    pub method: &'static str,
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    pub cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageLabel {
    pub stage: &'static str,
}

/// `error`, `warn` or `info`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LevelLabel {
    pub level: &'static str,
}

/// Lines of the log that were not written, by level.
pub type Withheld = Family<LevelLabel, Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    pub outcome: &'static str,
}

/// A kind of objects, and what was said of one: `object`, `gone` or, of all, `list`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    pub kind: &'static str,
    pub what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerLabel {
    pub peer: &'static str,
}

type HistogramFamily<L> = Family<L, Histogram, fn() -> Histogram>;

/// From a millisecond to a minute: an attach within our own steps, or one that waited for its port.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

/// All families. A clone counts into the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub requests: Family<RequestLabels, Counter>,
    /// Connections that did not become one: by cause.
    pub tls_failures: Family<CauseLabel, Counter>,
    /// Connections that were turned away because `server.max-connections` were open.
    pub connections_refused: Counter,
    pub connections: Gauge,
    /// When the server last asked for something, with its own certificate; 0: never.
    pub host_last_request: Gauge,
    /// Where an attach spent its time.
    pub attach_seconds: HistogramFamily<StageLabel>,
    pub reconciles: Family<OutcomeLabel, Counter>,
    pub reconcile_seconds: Histogram,
    /// Steps that reconciling took; none when everything is as it should be.
    pub steps: Family<OutcomeLabel, Counter>,
    /// Changes that the last pass made; none when all was right.
    pub pending_steps: Gauge,
    pub attachments: Gauge,
    pub closed_representors: Gauge,
    /// 1 when there is a session with that peer.
    pub connected: Family<PeerLabel, Gauge>,
    pub zones_free: Gauge,
    /// Connections that policy denies, ended, by cause: `policy`, those there when it changed or let in by a switch that did
    /// not follow yet; `began-denied`, ended as they began; `settled`, found when the pod was settled; `answer`, begun by an
    /// answer to one that was ended.
    pub connections_cut: Family<CauseLabel, Counter>,
    /// How long an audit of connections took.
    pub audit_seconds: Histogram,
    /// Connections that the last one judged.
    pub audited: Gauge,
    /// How often events of new connections were lost; each is followed by an audit.
    pub conntrack_events_lost: Counter,
    /// From new rules in the tables until nothing, the hardware included, serves what they deny.
    pub tighten_seconds: Histogram,
    /// Pods by what is enforced on them: `policy`, or `closed` when nobody knows it.
    pub enforced: Family<OutcomeLabel, Gauge>,
    /// How often a pod's policy was put together anew: what a change in the cluster costs us.
    pub pods_compiled: Counter,
    /// What the watches on the Kubernetes API said.
    pub watch_events: Family<KindLabel, Counter>,
    /// Tries to watch that failed, by cause.
    pub watch_failures: Family<CauseLabel, Counter>,
    /// Attachments that have met their limit of connections.
    pub limited_pods: Gauge,
    /// TC filters of OVS's ports: in `hardware`; `refused` by it, or `lost`, although it could run them.
    pub filters: Family<OutcomeLabel, Gauge>,
    /// How often the hardware was asked whether it takes now a filter that it has refused: `taken`, `refused`.
    pub offload_probes: Family<OutcomeLabel, Counter>,
    /// How often OVS was made to offer all its flows again, by cause.
    pub offload_retries: Family<CauseLabel, Counter>,
    /// Configuration files that were turned down while we ran.
    pub config_rejected: Counter,
    /// Lines that the log was spared, as there were too many of them.
    pub lines_withheld: Withheld,
    /// Requests of callers that were gone before anything was done for them.
    pub abandoned: Counter,
    /// When those that we use end.
    pub certificates: Certificates,
}

impl Metrics {
    pub fn new() -> Self {
        Self::counting(Withheld::default())
    }

    /// With the log's own count of what it did not write.
    pub fn counting(withheld: Withheld) -> Self {
        let mut root = Registry::default();
        exposition::process::register(&mut root);
        let registry = root.sub_registry_with_prefix("drawbridge_nic_agent");
        let certificates = Certificates::default();
        registry.register_collector(Box::new(certificates.clone()));
        registry.register(
            "build",
            "What is running",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let mut all = Registrar(registry);
        let requests = all.add("requests", "gRPC requests, by method and result", Family::default());
        let tls_failures = all.add("tls_failures", "TLS handshakes that failed, by cause", Family::default());
        let connections_refused =
            all.add("connections_refused", "Connections closed for being too many", Counter::default());
        let connections = all.add("connections", "Open gRPC connections", Gauge::default());
        let host_last_request = all.add(
            "host_last_request_timestamp_seconds",
            "When the server last asked for something, with its own certificate",
            Gauge::default(),
        );
        let attach_seconds = all.add(
            "attach_duration_seconds",
            "Time that an attach spent, by stage",
            HistogramFamily::new_with_constructor(seconds as fn() -> Histogram),
        );
        let reconciles = all.add("reconciles", "Passes of the reconcile loop, by outcome", Family::default());
        let reconcile_seconds = all.add("reconcile_duration_seconds", "Time that a pass took", seconds());
        let steps = all.add("steps", "Changes that passes made, by outcome", Family::default());
        let pending_steps =
            all.add("pending_steps", "Changes that the last pass had to make", Gauge::default());
        let attachments = all.add("attachments", "Attachments in the ledger", Gauge::default());
        let closed_representors = all.add(
            "closed_representors",
            "Representors that reach nothing, as nobody holds them",
            Gauge::default(),
        );
        let connected = all.add("connected", "Whether there is a session, by peer", Family::default());
        let zones_free =
            all.add("zones_free", "Conntrack zones that an attachment may be given", Gauge::default());
        let connections_cut = all.add(
            "connections_cut",
            "Connections ended as policy denies them, by cause",
            Family::default(),
        );
        let audit_seconds =
            all.add("audit_duration_seconds", "Time that an audit of connections took", seconds());
        let audited =
            all.add("audited_connections", "Connections that the last audit judged", Gauge::default());
        let conntrack_events_lost = all.add(
            "conntrack_events_lost",
            "Times that events of new connections were lost",
            Counter::default(),
        );
        let tighten_seconds =
            all.add("tighten_duration_seconds", "Time until nothing serves what new rules deny", seconds());
        let enforced = all.add("pods_enforced", "Pods by what is enforced on them", Family::default());
        let pods_compiled =
            all.add("pods_compiled", "Policies of pods that were put together anew", Counter::default());
        let watch_events =
            all.add("watch_events", "What the Kubernetes API said, by kind of object", Family::default());
        let watch_failures = all.add(
            "watch_failures",
            "Watches on the Kubernetes API that failed, by cause",
            Family::default(),
        );
        let limited_pods = all.add(
            "limited_pods",
            "Pods that have, or had within the last five minutes, as many connections as they may",
            Gauge::default(),
        );
        let filters =
            all.add("filters", "TC filters of Open vSwitch's ports, by where they are", Family::default());
        let offload_probes = all.add(
            "offload_probes",
            "Copies of refused filters that the hardware was asked to take, by its answer",
            Family::default(),
        );
        let offload_retries = all.add(
            "offload_retries",
            "Times that all flows were offered to the hardware again",
            Family::default(),
        );
        let config_rejected =
            all.add("config_rejected", "Configuration files turned down while running", Counter::default());
        let lines_withheld =
            all.add("log_lines_withheld", "Lines of the log that were too many, by level", withheld);
        let abandoned = all.add(
            "requests_abandoned",
            "Requests whose callers were gone before they were looked at",
            Counter::default(),
        );
        Self {
            registry: Arc::new(root),
            requests,
            tls_failures,
            connections_refused,
            connections,
            host_last_request,
            attach_seconds,
            reconciles,
            reconcile_seconds,
            steps,
            pending_steps,
            attachments,
            closed_representors,
            connected,
            zones_free,
            connections_cut,
            audit_seconds,
            audited,
            conntrack_events_lost,
            tighten_seconds,
            enforced,
            pods_compiled,
            watch_events,
            watch_failures,
            limited_pods,
            filters,
            offload_probes,
            offload_retries,
            config_rejected,
            lines_withheld,
            abandoned,
            certificates,
        }
    }

    pub fn request(&self, method: &'static str, reason: &'static str) {
        self.requests.get_or_create(&RequestLabels { method, reason }).inc();
    }

    /// The server asked, with its own certificate.
    pub fn host_asked(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.host_last_request.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    pub fn tls_failure(&self, cause: &'static str) {
        self.tls_failures.get_or_create(&CauseLabel { cause }).inc();
    }

    pub fn set_connected(&self, peer: &'static str, connected: bool) {
        self.connected.get_or_create(&PeerLabel { peer }).set(i64::from(connected));
    }

    pub fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        exposition::encode(&self.registry, format)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

struct Registrar<'a>(&'a mut Registry);

impl Registrar<'_> {
    /// The registry keeps one handle, the caller the other.
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}
