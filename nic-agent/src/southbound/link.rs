//! The session with OVN's southbound: a conditional monitor on just our logical ports, and all chassis by name.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb_session::rows::southbound::{Chassis, PortBinding};
use ovsdb_session::{Condition, MonitorTable, Options, Remote, Table, TlsFiles, Uuid};

use super::port::{Asker, Names};
use super::state::PortState;
use crate::attachment::Binding;
use crate::config::Profile;
use crate::replica::Replica;

const DATABASE: &str = "OVN_Southbound";

/// OVN's southbound database.
pub trait Southbound: Send + Sync + 'static {
    /// Resolves when the answers may be others.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// From now on these logical ports are followed, and no others.
    fn ask_for(&mut self, ports: &BTreeSet<String>);

    /// Why nothing can be learned now, if so.
    fn unready(&self) -> Option<String>;

    /// Those of the northbound's port, as last known.
    fn external_ids(&self, port: &str) -> Option<BTreeMap<String, String>>;

    /// What is known of each of these ports, by the uid of the pod that claims it, with its identity where it gives one.
    fn ports(
        &mut self,
        claimed: &BTreeMap<String, String>,
        own_chassis: &str,
        profile: &Profile,
    ) -> BTreeMap<String, (PortState, Option<Binding>)>;
}

pub struct SouthboundLink {
    replica: Replica,
    /// The ports of the last request, and its generation.
    asked: BTreeSet<String>,
    generation: u64,
}

impl SouthboundLink {
    pub fn start(remotes: Vec<Remote>, tls: Option<TlsFiles>) -> Self {
        let options = Options { tls, ..Options::new(remotes) };
        let ports = MonitorTable::of::<PortBinding>().when(Vec::new());
        let replica = Replica::start(options, DATABASE, vec![ports, MonitorTable::of::<Chassis>()]);
        Self { replica, asked: BTreeSet::new(), generation: 0 }
    }
}

impl Southbound for SouthboundLink {
    async fn changed(&mut self) {
        self.replica.changed().await;
    }

    fn ask_for(&mut self, ports: &BTreeSet<String>) {
        if self.asked == *ports {
            return;
        }
        let conditions: Vec<_> = ports.iter().map(|port| Condition::equal("logical_port", port)).collect();
        self.generation = self.replica.monitor.set_conditions(PortBinding::NAME, conditions);
        self.asked.clone_from(ports);
    }

    fn unready(&self) -> Option<String> {
        self.replica.outage().map(|why| format!("OVN southbound not connected: {why}"))
    }

    fn external_ids(&self, port: &str) -> Option<BTreeMap<String, String>> {
        let snapshot = self.replica.monitor.snapshot();
        let mut rows = snapshot.rows::<PortBinding>().filter_map(Result::ok);
        rows.find(|row| row.logical_port == *port).map(|row| row.external_ids)
    }

    fn ports(
        &mut self,
        claimed: &BTreeMap<String, String>,
        own_chassis: &str,
        profile: &Profile,
    ) -> BTreeMap<String, (PortState, Option<Binding>)> {
        let snapshot = self.replica.last();
        let chassis: BTreeMap<Uuid, Names> =
            snapshot.rows::<Chassis>().filter_map(Result::ok).map(|c| (c.uuid, Names::from(c))).collect();
        let rows: BTreeMap<String, PortBinding> = snapshot
            .rows::<PortBinding>()
            .filter_map(Result::ok)
            .map(|row| (row.logical_port.clone(), row))
            .collect();
        let absent = match self.replica.outage() {
            Some(why) => PortState::Disconnected { why: why.to_string() },
            None if !snapshot.covers(self.generation) => PortState::Asking,
            None => PortState::Missing,
        };
        let asker =
            Asker { own_chassis, chassis: &chassis, dhcp: profile.dhcp, dhcp_servers: &profile.dhcp_servers };
        let judge = |(name, uid): (&String, &String)| {
            let state = match rows.get(name) {
                Some(row) => asker.port(row, uid),
                None => (absent.clone(), None),
            };
            (name.clone(), state)
        };
        claimed.iter().map(judge).collect()
    }
}
