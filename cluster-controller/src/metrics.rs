//! What the controller counts. Nothing is global: two controllers in one process (in a test) count apart.

use std::fmt;
use std::sync::Arc;

use exposition::Certificates;
pub use exposition::Format;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    pub kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    pub outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabel {
    pub table: &'static str,
}

/// All families. A clone counts into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// 1 while we lead.
    pub leading: Gauge,
    pub northbound_connected: Gauge,
    pub transactions: Family<OutcomeLabel, Counter>,
    /// Operations of transactions that were done, fences apart.
    pub operations: Counter,
    pub rows: Family<TableLabel, Gauge>,
    /// 1 while floods of pods are bounded in OVN.
    pub copp: Gauge,
    /// Rows that cannot be as they shall be.
    pub blocked: Gauge,
    /// Services without a load balancer, as they are too much.
    pub refused_services: Gauge,
    pub watch_failures: Family<KindLabel, Counter>,
    pub tainted_nodes: Gauge,
    /// By what became of them.
    pub taint_writes: Family<OutcomeLabel, Counter>,
    /// 1 while no NIC has a fresh heartbeat.
    pub nics_disrupted: Gauge,
    /// When those that we use end.
    pub certificates: Certificates,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::default();
        exposition::process::register(&mut root);
        let registry = root.sub_registry_with_prefix("drawbridge_cluster_controller");
        let certificates = Certificates::default();
        registry.register_collector(Box::new(certificates.clone()));
        let leading = Gauge::default();
        registry.register("leading", "1 while this one writes the northbound", leading.clone());
        let northbound_connected = Gauge::default();
        registry.register(
            "northbound_connected",
            "1 while the northbound's replica is kept up to date",
            northbound_connected.clone(),
        );
        let transactions = Family::default();
        registry.register("transactions", "Transactions, by what became of them", transactions.clone());
        let operations = Counter::default();
        registry.register(
            "operations",
            "OVSDB operations of transactions that were done",
            operations.clone(),
        );
        let rows = Family::default();
        registry.register("rows", "Rows that there shall be, by table", rows.clone());
        let copp = Gauge::default();
        registry.register(
            "copp",
            "1 where OVN bounds what pods ask of ovn-controller; 0 with --copp-rate=0, or if OVN's schema lacks it",
            copp.clone(),
        );
        let blocked = Gauge::default();
        registry.register("blocked_rows", "Rows that cannot be written; the log says why", blocked.clone());
        let refused_services = Gauge::default();
        registry.register(
            "refused_services",
            "Services without a load balancer, as they, or those of their namespace, are more than there may be",
            refused_services.clone(),
        );
        let watch_failures = Family::default();
        registry.register("watch_failures", "Watches of the API that failed", watch_failures.clone());
        let tainted_nodes = Gauge::default();
        registry.register(
            "tainted_nodes",
            "Nodes that take no more pods, as their NICs are not ready",
            tainted_nodes.clone(),
        );
        let taint_writes = Family::default();
        registry.register(
            "taint_writes",
            "Writes of nodes' taints: tainted, freed, conflict, failed",
            taint_writes.clone(),
        );
        let nics_disrupted = Gauge::default();
        registry.register(
            "nics_disrupted",
            "1 while no NIC's heartbeat is seen to go on: no node is tainted then",
            nics_disrupted.clone(),
        );
        Self {
            registry: Arc::new(root),
            leading,
            northbound_connected,
            transactions,
            operations,
            rows,
            copp,
            blocked,
            refused_services,
            watch_failures,
            tainted_nodes,
            taint_writes,
            nics_disrupted,
            certificates,
        }
    }
}

impl Metrics {
    pub fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        exposition::encode(&self.registry, format)
    }
}
