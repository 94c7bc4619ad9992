//! The server's management port: a VF of the server itself, by which it reaches the pods and the Services.
//!
//! The NicNode names it, and no claim is needed: the NIC attaches it by itself ([`crate::reconcile`]). In the ledger it is an
//! attachment like a pod's, of the host's own, so that a restart finds its zone and its identity again. Its
//! boundary is that of any attachment: the server sends with the MAC and the addresses that OVN gives the port, or not at
//! all. It may begin connections and is begun none with.
//!
//! What it sends to this node's own pods passes whatever their policies say, as Kubernetes wants of a node's traffic
//! ([`Access`]); to all other pods it is a stranger.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use offload::ids::{CtZone, VfId};
use offload::policy::{PodPolicy, Rules};

use crate::attachment::{Attachment, AttachmentId, OverlayPort, Owner, Port};
use crate::config::{Config, Profile, ProfileKind};
use crate::enforcement;
use crate::ledger::Ledger;

/// Whose traffic to the node's own pods is the node's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Access {
    /// There is no management port: the addresses in the Node's status.
    #[default]
    NodeAddresses,
    /// The management port's, none until it has some. What the Node's status says, which the server itself writes, does not
    /// count then.
    Port(Vec<IpAddr>),
}

impl Access {
    pub fn of(config: &Config, ledger: &Ledger) -> Self {
        if config.edge.management_port.is_none() {
            return Self::NodeAddresses;
        }
        let binding = ledger.get(&AttachmentId::Host).and_then(Attachment::binding);
        Self::Port(binding.map(|it| it.ips.clone()).unwrap_or_default())
    }
}

pub fn attachment(vf: VfId, zone: CtZone, logical_port: String) -> Attachment {
    let port = Port::Overlay(OverlayPort::new(zone, logical_port));
    Attachment { owner: Owner::Host, vf, network: String::new(), port }
}

/// The name of the node's management port, as the CMS gives it.
pub fn logical_port(profile: &Profile, node: &str) -> String {
    match &profile.kind {
        // ovn-kubernetes: go-controller/pkg/types/const.go, `K8sPrefix`. cluster-controller: plan/node.rs.
        ProfileKind::OvnKubernetes | ProfileKind::Plain { .. } => format!("k8s-{node}"),
        // pkg/util/ovn.go, `NodeLspName`
        ProfileKind::KubeOvn => format!("node-{node}"),
    }
}

/// The server may begin what it likes, the pods' own boundaries judge it. Nobody begins anything with the server.
pub fn policy() -> Arc<PodPolicy> {
    static POLICY: LazyLock<Arc<PodPolicy>> = LazyLock::new(|| {
        Arc::new(PodPolicy { egress: Rules::default(), ingress: enforcement::closed().ingress })
    });
    POLICY.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::Binding;

    fn config(kind: &str) -> Config {
        format!(
            "[node]\nname = 'server1'\n[server]\nlisten = ['192.0.2.21:8443']\n[chassis]\nsystem-id = 'nic1'\novn-remote = 'tcp:192.0.2.10:6642'\n\
             ovn-encap-ip = '192.0.2.1'\n[profile]\nkind = '{kind}'\n"
        )
        .parse()
        .unwrap()
    }

    #[test]
    fn each_cms_has_its_name_for_it() {
        for (kind, name) in
            [("ovn-kubernetes", "k8s-server1"), ("plain", "k8s-server1"), ("kube-ovn", "node-server1")]
        {
            assert_eq!(logical_port(&config(kind).profile, "server1"), name);
        }
    }

    #[test]
    fn the_node_is_whoever_has_the_ports_address() {
        let mut config = config("plain");
        let mut ledger = Ledger::default();
        assert_eq!(Access::of(&config, &ledger), Access::NodeAddresses);
        let vf = VfId { pf: 0, vf: 0 };
        config.edge.management_port = Some(vf);
        assert_eq!(Access::of(&config, &ledger), Access::Port(Vec::new()));
        let mut port = attachment(vf, CtZone::new(61000).unwrap(), "k8s-server1".into());
        let ips: Vec<IpAddr> = vec!["10.244.1.2".parse().unwrap()];
        port.overlay_mut().unwrap().binding = Some(Binding {
            mac: "0a:00:00:00:00:01".parse().unwrap(),
            ips: ips.clone(),
            dhcp: true,
            dhcp_servers: Vec::new(),
        });
        assert!(port.is_host());
        ledger.insert(port);
        assert_eq!(Access::of(&config, &ledger), Access::Port(ips));
        assert_eq!(ledger.pods().count(), 0);
    }

    #[test]
    fn nothing_begins_a_connection_with_the_server() {
        let policy = policy();
        assert!(policy.egress.is_open() && !policy.ingress.is_open());
        assert!(Arc::ptr_eq(&policy, &super::policy()), "it is looked up by its address");
    }
}
