//! The session with OVN's southbound: a conditional monitor on just our logical ports, and all chassis by name.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb_session::rows::southbound::{Chassis, PortBinding};
use ovsdb_session::{Condition, MonitorTable, Options, Remote, Table, TlsFiles, Uuid};

use super::{DHCP, identity};
use crate::attachment::Binding;
use crate::reconcile::stage::{ChassisState, PortState};
use crate::replica::Replica;

const DATABASE: &str = "OVN_Southbound";

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

    /// Resolves when the answers may be others.
    pub async fn changed(&mut self) {
        self.replica.changed().await;
    }

    /// From now on these logical ports are followed, and no others.
    pub fn ask_for(&mut self, ports: &BTreeSet<String>) {
        if self.asked == *ports {
            return;
        }
        let conditions: Vec<_> = ports.iter().map(|port| Condition::equal("logical_port", port)).collect();
        self.generation = self.replica.monitor.set_conditions(PortBinding::NAME, conditions);
        self.asked.clone_from(ports);
    }

    /// Why nothing can be learned now, if so.
    pub fn unready(&self) -> Option<String> {
        self.replica.outage().map(|why| format!("OVN southbound not connected: {why}"))
    }

    /// What is known of each of these ports, with its identity where it gives one.
    pub fn ports(
        &mut self,
        names: &BTreeSet<String>,
        own_chassis: &str,
        dhcp: bool,
    ) -> BTreeMap<String, (PortState, Option<Binding>)> {
        let snapshot = self.replica.last();
        let chassis: BTreeMap<Uuid, String> =
            snapshot.rows::<Chassis>().filter_map(Result::ok).map(|c| (c.uuid, c.name)).collect();
        let rows: BTreeMap<String, PortBinding> = snapshot
            .rows::<PortBinding>()
            .filter_map(Result::ok)
            .map(|row| (row.logical_port.clone(), row))
            .collect();
        let absent = match self.replica.outage() {
            Some(why) => PortState::Disconnected { why },
            None if !snapshot.covers(self.generation) => PortState::Asking,
            None => PortState::Missing,
        };
        let own = |uuid: &Uuid| chassis.get(uuid).is_some_and(|name| name == own_chassis);
        names
            .iter()
            .map(|name| {
                let Some(row) = rows.get(name) else { return (name.clone(), (absent.clone(), None)) };
                let dhcp = dhcp || row.external_ids.get(DHCP).is_some_and(|v| v == "true");
                let binding = match identity(row.mac.iter().map(String::as_str), dhcp) {
                    Ok(binding) => binding,
                    Err(error) => return (name.clone(), (PortState::NoIdentity(error), None)),
                };
                let state = match &row.chassis {
                    None => ChassisState::Unbound,
                    Some(uuid) if own(uuid) => ChassisState::Ours,
                    Some(uuid) => ChassisState::Other {
                        name: chassis.get(uuid).cloned().unwrap_or_else(|| uuid.to_string()),
                        requested: row.requested_chassis.as_ref().is_some_and(own),
                    },
                };
                (name.clone(), (PortState::Known { chassis: state }, Some(binding)))
            })
            .collect()
    }
}
