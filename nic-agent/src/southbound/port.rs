//! What a row of `Port_Binding` means for the pod that claims it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ovsdb_session::Uuid;
use ovsdb_session::rows::southbound::{Chassis, PortBinding};

use super::{DHCP, DHCP_SERVERS, IdentityError, dhcp_servers, identity};
use crate::attachment::Binding;
use crate::southbound::state::{ChassisState, PortState};

/// Key in `Port_Binding.options` (northd copies a logical switch port's there): the uid of the pod that the port is for.
/// `ovn-controller` binds no Interface that bears another.
const UID: &str = "iface-id-ver";
/// The same: names of chassis, the first of them the one that shall bind it.
const REQUESTED: &str = "requested-chassis";

/// A chassis: `requested-chassis` may mean it by either name (`lport_can_bind_on_this_chassis()` of ovn-controller).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// `external_ids:system-id`.
    pub name: String,
    /// `external_ids:hostname`.
    pub hostname: String,
}

impl From<Chassis> for Names {
    fn from(row: Chassis) -> Self {
        Self { name: row.name, hostname: row.hostname }
    }
}

/// Who asks.
pub struct Asker<'a> {
    /// Our `system-id`.
    pub own_chassis: &'a str,
    pub chassis: &'a BTreeMap<Uuid, Names>,
    /// The pod is a DHCP client, whatever the port says.
    pub dhcp: bool,
    /// Where the port names no DHCP servers.
    pub dhcp_servers: &'a [IpAddr],
}

impl Asker<'_> {
    fn is_own(&self, chassis: &Uuid) -> bool {
        self.chassis.get(chassis).is_some_and(|it| it.name == self.own_chassis)
    }

    fn name(&self, chassis: &Uuid) -> String {
        self.chassis.get(chassis).map_or_else(|| chassis.to_string(), |it| it.name.clone())
    }

    /// As ovn-controller has registered it. Until it has, it binds nothing.
    fn own_hostname(&self) -> &str {
        let own = self.chassis.values().find(|it| it.name == self.own_chassis);
        own.map(|it| it.hostname.as_str()).unwrap_or_default()
    }

    fn is_named(&self, listed: &str) -> bool {
        let names = [self.own_chassis, self.own_hostname()];
        listed.split(',').map(str::trim).any(|it| !it.is_empty() && names.contains(&it))
    }

    /// `uid` is the claim's; empty: of no pod. A port that is another's gives no identity: what it says is not of this pod.
    pub fn port(&self, row: &PortBinding, uid: &str) -> (PortState, Option<Binding>) {
        if let Some(other) = row.options.get(UID).filter(|it| !it.is_empty() && !uid.is_empty() && *it != uid)
        {
            return (PortState::OtherPod { uid: other.clone() }, None);
        }
        let listed = row.options.get(REQUESTED).map(String::as_str).unwrap_or_default();
        let requested =
            row.requested_chassis.as_ref().is_some_and(|it| self.is_own(it)) || self.is_named(listed);
        if let Some(elsewhere) = row.requested_chassis.as_ref().filter(|_| !requested) {
            let chassis = ChassisState::Elsewhere { name: self.name(elsewhere) };
            return (PortState::Known { chassis }, None);
        }
        let binding = match self.identity_of(row) {
            Ok(binding) => binding,
            Err(error) => return (PortState::NoIdentity(error), None),
        };
        let chassis = match &row.chassis {
            // Nobody's: northd has found no chassis of this name, and ours does not bind it either.
            None if !requested && !listed.trim().is_empty() => ChassisState::Nowhere {
                requested: listed.to_owned(),
                own: self.own_chassis.to_owned(),
                hostname: self.own_hostname().to_owned(),
            },
            None => ChassisState::Unbound,
            Some(uuid) if self.is_own(uuid) => ChassisState::Ours,
            Some(uuid) => ChassisState::Other { name: self.name(uuid), requested },
        };
        let state = PortState::Known { chassis };
        let binding = (!state.is_lost()).then_some(binding);
        (state, binding)
    }

    fn identity_of(&self, row: &PortBinding) -> Result<Binding, IdentityError> {
        let servers = match row.external_ids.get(DHCP_SERVERS) {
            Some(text) => dhcp_servers(text)?,
            None => self.dhcp_servers.to_vec(),
        };
        identity(row.mac.iter().map(String::as_str), self.dhcp_of(row), servers)
    }

    fn dhcp_of(&self, row: &PortBinding) -> bool {
        self.dhcp || row.external_ids.get(DHCP).is_some_and(|v| v == "true")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn uuid(number: u8) -> Uuid {
        Uuid::from_bytes([number; 16])
    }

    fn row() -> PortBinding {
        PortBinding {
            uuid: uuid(9),
            logical_port: "bank_web-0".to_owned(),
            kind: String::new(),
            datapath: uuid(8),
            tunnel_key: 1,
            mac: ["0a:00:00:00:00:01 10.0.0.1".to_owned()].into(),
            port_security: BTreeSet::new(),
            chassis: None,
            additional_chassis: BTreeSet::new(),
            requested_chassis: None,
            up: None,
            options: BTreeMap::new(),
            external_ids: BTreeMap::new(),
        }
    }

    fn judge(row: &PortBinding, uid: &str) -> (PortState, bool) {
        let names =
            |name: &str, hostname: &str| Names { name: name.to_owned(), hostname: hostname.to_owned() };
        let chassis = BTreeMap::from([(uuid(1), names("nic1", "host1")), (uuid(2), names("nic2", "host2"))]);
        let asker = Asker { own_chassis: "nic1", chassis: &chassis, dhcp: false, dhcp_servers: &[] };
        let (state, binding) = asker.port(row, uid);
        (state, binding.is_some())
    }

    #[test]
    fn an_identity_is_taken_with_the_claims_own_uid_only() {
        let mut port = row();
        let unbound = PortState::Known { chassis: ChassisState::Unbound };
        assert_eq!(judge(&port, "u1"), (unbound.clone(), true), "a CMS that says no uid");
        port.options.insert("iface-id-ver".to_owned(), "u1".to_owned());
        assert_eq!(judge(&port, "u1"), (unbound.clone(), true));
        assert_eq!(judge(&port, ""), (unbound, true), "the management port, which is no pod's");
        // Made again under its old name: the old one's NIC, which may not have heard of it, learns nothing.
        port.options.insert("iface-id-ver".to_owned(), "u2".to_owned());
        let (state, learns) = judge(&port, "u1");
        assert_eq!((&state, learns), (&PortState::OtherPod { uid: "u2".to_owned() }, false));
        assert!(state.is_lost() && !state.may_plug());
    }

    #[test]
    fn a_port_that_is_another_chassis_is_left_to_it() {
        let known = |chassis| PortState::Known { chassis };
        let other = |requested| known(ChassisState::Other { name: "nic2".to_owned(), requested });
        let elsewhere = known(ChassisState::Elsewhere { name: "nic2".to_owned() });
        let nowhere = known(ChassisState::Nowhere {
            requested: "server1".to_owned(),
            own: "nic1".to_owned(),
            hostname: "host1".to_owned(),
        });
        for (bound, requested, listed, state, learns) in [
            (None, None, "", known(ChassisState::Unbound), true),
            (Some(1), None, "", known(ChassisState::Ours), true),
            (Some(1), Some(1), "nic1", known(ChassisState::Ours), true),
            (Some(2), None, "", other(false), false),
            (Some(2), Some(1), "nic1", other(true), true),
            // Whoever has bound it yet.
            (Some(1), Some(2), "nic2", elsewhere.clone(), false),
            (None, Some(2), "nic2", elsewhere.clone(), false),
            (Some(2), Some(2), "nic2", elsewhere.clone(), false),
            // By its host's name, as northd has found it, or not yet.
            (None, Some(1), "host1", known(ChassisState::Unbound), true),
            (None, None, "host1", known(ChassisState::Unbound), true),
            (None, Some(2), "host2", elsewhere.clone(), false),
            (None, None, "server1", nowhere, true),
            // It migrates to us.
            (Some(2), Some(2), "nic2,nic1", other(true), true),
        ] {
            let mut port = row();
            port.chassis = bound.map(uuid);
            port.requested_chassis = requested.map(uuid);
            port.options.insert("requested-chassis".to_owned(), listed.to_owned());
            assert_eq!(judge(&port, "u1"), (state.clone(), learns), "{bound:?} {requested:?} {listed}");
            assert_eq!(state.is_lost(), !learns);
            assert_eq!(state.may_plug(), learns);
        }
    }

    #[test]
    fn dhcp_servers_are_the_ports_or_the_profiles() {
        let (chassis, profiles) = (BTreeMap::new(), ["10.0.0.9".parse().unwrap()]);
        let asker = Asker { own_chassis: "nic1", chassis: &chassis, dhcp: true, dhcp_servers: &profiles };
        let mut port = row();
        let servers = |port: &PortBinding| asker.port(port, "u1").1.map(|it| it.dhcp_servers);
        assert_eq!(servers(&port), Some(profiles.to_vec()));
        port.external_ids.insert(DHCP_SERVERS.to_owned(), "10.0.0.1, fe80::1".to_owned());
        assert_eq!(servers(&port), Some(["10.0.0.1", "fe80::1"].map(|ip| ip.parse().unwrap()).to_vec()));
        port.external_ids.insert(DHCP_SERVERS.to_owned(), String::new());
        assert_eq!(servers(&port), Some(Vec::new()), "it says that it has none");
        port.external_ids.insert(DHCP_SERVERS.to_owned(), "10.0.0.1/24".to_owned());
        let (state, binding) = asker.port(&port, "u1");
        assert!(matches!(state, PortState::NoIdentity(IdentityError::DhcpServer(_))) && binding.is_none());
    }

    #[test]
    fn a_port_without_addresses_says_why() {
        let mut port = row();
        port.mac = ["unknown".to_owned()].into();
        assert!(matches!(judge(&port, "u1"), (PortState::NoIdentity(_), false)));
    }
}
