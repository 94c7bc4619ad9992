//! OVN's southbound database.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use offload::ids::MacAddr;

use super::world::World;
use crate::attachment::Binding;
use crate::config::Profile;
use crate::platform;
use crate::southbound::state::{ChassisState, PortState};

#[derive(Debug)]
pub struct Southbound(pub World);

#[derive(Debug, Clone)]
pub struct LogicalPort {
    pub mac: MacAddr,
    pub ip: IpAddr,
    /// Of the pod that it is made for.
    pub uid: String,
    /// Who has bound it.
    pub chassis: ChassisState,
    /// Why it gives no identity.
    pub problem: Option<crate::southbound::IdentityError>,
    pub external_ids: BTreeMap<String, String>,
}

impl platform::Southbound for Southbound {
    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    fn ask_for(&mut self, ports: &BTreeSet<String>) {
        self.0.lock().asked.clone_from(ports);
    }

    fn unready(&self) -> Option<String> {
        (!self.0.lock().southbound_up).then(|| "OVN southbound not connected: made to fail".to_owned())
    }

    fn external_ids(&self, port: &str) -> Option<BTreeMap<String, String>> {
        self.0.lock().seen_ports.as_ref()?.get(port).map(|it| it.external_ids.clone())
    }

    fn ports(
        &mut self,
        claimed: &BTreeMap<String, String>,
        _: &str,
        _: &Profile,
    ) -> BTreeMap<String, (PortState, Option<Binding>)> {
        let mut state = self.0.lock();
        if state.southbound_up {
            state.seen_ports = Some(state.logical_ports.clone());
        }
        let absent = match (state.southbound_up, &state.seen_ports) {
            (false, _) => PortState::Disconnected { why: "made to fail".to_owned() },
            (true, _) => PortState::Missing,
        };
        let of = |(name, uid): (&String, &String)| {
            let port = state.seen_ports.as_ref().and_then(|ports| ports.get(name));
            // A condition that was never set gives no row.
            let port = port.filter(|_| state.asked.contains(name));
            (name.clone(), port.map_or_else(|| (absent.clone(), None), |port| port.answer(uid)))
        };
        claimed.iter().map(of).collect()
    }
}

impl LogicalPort {
    fn answer(&self, uid: &str) -> (PortState, Option<Binding>) {
        if self.uid != uid {
            return (PortState::OtherPod { uid: self.uid.clone() }, None);
        }
        if let Some(problem) = &self.problem {
            return (PortState::NoIdentity(problem.clone()), None);
        }
        let state = PortState::Known { chassis: self.chassis.clone() };
        let binding = Binding { mac: self.mac, ips: vec![self.ip], dhcp: false, dhcp_servers: Vec::new() };
        let binding = (!state.is_lost()).then_some(binding);
        (state, binding)
    }
}
