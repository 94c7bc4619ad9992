//! Policies held against real packets: pods of three namespaces on both servers, their NICs' agents with a file of policies
//! that the test writes, and probes between the pods.
//!
//! ```text
//!  test ── objects ──► agents: policy.json, SIGHUP, until /policy names that text, until the datapath follows
//!       ── probes ───► station (one thread in each pod): connects, sends, serves
//!       ◄─ events ──── station: answered;  witness (one thread in each pod): arrived, as a packet socket sees it
//! ```
//!
//! Every probe is a connection of its own, from a source port (of ICMP, an identifier) that no earlier one had: what was
//! established before helps nobody. What arrives is judged at the receiver's interface, before its stack.
//!
//! One at a time in a lab: it owns VFs 20 to 22 of both servers and both agents' `[policy]`. All goes back when it drops.

mod agents;
mod fixture;
mod probe;
mod range;
mod shrink;
mod station;
mod volley;
mod witness;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kube_oracle::Cluster;
use crate::{Nic, Pod, Wish};
use agents::Agents;
pub use agents::{policy_of, revalidated};
pub use fixture::{Fixture, directory};
pub use probe::{Difference, Kind, Probe, Seen};
pub use range::{PORTS, Pace, Range, Stand};
pub use shrink::{shrink, simpler};

/// A pod's place in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub name: &'static str,
    pub namespace: &'static str,
    pub host: &'static str,
    pub vf: u16,
}

const fn role(name: &'static str, namespace: &'static str, host: &'static str, vf: u16) -> Role {
    Role { name, namespace, host, vf }
}

/// Each namespace but `c` has pods on both servers; `a` has two that share one.
pub const ROLES: [Role; 6] = [
    role("a1", "a", "host1", 20),
    role("a2", "a", "host1", 21),
    role("b1", "b", "host1", 22),
    role("a3", "a", "host2", 20),
    role("b2", "b", "host2", 21),
    role("c1", "c", "host2", 22),
];
pub const NAMESPACES: [&str; 3] = ["a", "b", "c"];

const PACE: Pace = Pace { exchanges: 4, wave: 60, late: Duration::from_secs(1) };

/// See the module.
pub struct PolicyLab {
    // Dropped in this order: threads first, then the pods that they are in.
    range: Range,
    pods: Together,
    agents: Agents,
}

/// Pods that, dropped, go at the same time: each takes seconds.
struct Together(Vec<Pod>);

impl Drop for Together {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            for pod in self.0.drain(..) {
                scope.spawn(move || drop(pod));
            }
        });
    }
}

impl PolicyLab {
    /// Attaches the pods of [`ROLES`] and has both agents enforce a cluster without policies.
    #[track_caller]
    pub fn start() -> Self {
        let pods: Vec<Pod> = std::thread::scope(|scope| {
            let adding: Vec<_> = ROLES
                .iter()
                .map(|role| {
                    scope.spawn(|| {
                        let options = ["--namespace", role.namespace];
                        Pod::add(&Wish { name: role.name, host: role.host, vf: role.vf, options: &options })
                    })
                })
                .collect();
            adding.into_iter().map(|pod| pod.join().expect("a pod")).collect()
        });
        let stands = pods.iter().zip(ROLES).map(|(pod, role)| Stand {
            name: format!("{}/{}", role.namespace, role.name),
            place: pod.place(),
            addresses: [&pod.ip, &pod.ip6].map(|ip| ip.parse().expect("a pod's address")),
        });
        let mut lab =
            Self { range: Range::start(stands, PACE), pods: Together(pods), agents: Agents::default() };
        let items = lab.objects();
        lab.agents.switch_on(&items);
        lab.settle();
        lab
    }

    pub fn pod(&self, index: usize) -> &Pod {
        &self.pods.0[index]
    }

    /// Index of a role.
    #[track_caller]
    pub fn index(&self, name: &str) -> usize {
        ROLES.iter().position(|role| role.name == name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// IPv4, then IPv6.
    pub fn addresses(&self, index: usize) -> [IpAddr; 2] {
        self.range.addresses(index)
    }

    /// The pod as the API would show it. `ports`: a list as in a container.
    pub fn pod_object(&self, index: usize, labels: &Value, ports: &Value) -> Value {
        let (role, uid) = (ROLES[index], &self.pod(index).uid);
        let ips = self.addresses(index).map(|ip| json!({"ip": ip}));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": role.name, "namespace": role.namespace, "uid": uid, "labels": labels},
            "spec": {"nodeName": role.host, "hostNetwork": false,
                "containers": [{"name": "main", "ports": ports}]},
            "status": {"phase": "Running", "podIP": ips[0]["ip"], "podIPs": ips},
        })
    }

    /// The cluster without policies. Pods are labelled `app: NAME`, namespaces `kubernetes.io/metadata.name` and `team`,
    /// both with their name. The named ports `http` (TCP) and `dns` (UDP) are another number from pod to pod.
    pub fn objects(&self) -> Vec<Value> {
        let namespace = |name: &&str| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
                "labels": {"kubernetes.io/metadata.name": name, "team": name}}})
        };
        let pod = |index: usize| {
            let ports = json!([
                {"name": "http", "protocol": "TCP", "containerPort": 80 + index % 3},
                {"name": "dns", "protocol": "UDP", "containerPort": 80 + (index + 1) % 3},
            ]);
            self.pod_object(index, &json!({"app": ROLES[index].name}), &ports)
        };
        NAMESPACES.iter().map(namespace).chain((0..ROLES.len()).map(pod)).collect()
    }

    /// Gives both NICs these objects, all that there is. When it returns, every new connection is judged by them, in the
    /// hardware, too; connections that they deny may still be in the course of being cut.
    #[track_caller]
    pub fn enforce(&mut self, items: &[Value]) {
        self.agents.enforce(items);
    }

    /// Gives both NICs these objects and returns at once: for who looks at what happens meanwhile.
    #[track_caller]
    pub fn announce(&mut self, items: &[Value]) {
        self.agents.announce(items);
    }

    /// Of each pod of one NIC, by uid, what its agent says under the objects that it was given last: `None` is settled, else
    /// why it is not. `Err`: it does not follow them yet.
    pub fn unsettled(&self, nic: Nic) -> Result<BTreeMap<String, Option<String>>, String> {
        self.agents.unsettled(nic)
    }

    /// Waits until both agents say that no connection is left, in hardware neither, that the policies deny.
    #[track_caller]
    pub fn settle(&self) {
        let pods: Vec<&str> = self.pods.0.iter().map(|it| it.uid.as_str()).collect();
        self.agents.settle(&pods);
    }

    /// Each pod to each other one, both IP versions, all these kinds.
    pub fn all_pairs(&self, kinds: &[Kind]) -> Vec<Probe> {
        self.range.all_pairs(kinds)
    }

    /// Is this allowed, as the oracle reads the objects?
    pub fn is_allowed(&self, items: &[Value], probe: Probe) -> bool {
        let cluster = Cluster { items: items.to_vec(), ..Cluster::default() };
        self.allowed(&cluster, probe)
    }

    fn allowed(&self, cluster: &Cluster, probe: Probe) -> bool {
        let own = self.addresses(probe.from)[usize::from(probe.to.is_ipv6())];
        cluster.allowed(own, probe.to, probe.kind.traffic())
    }

    /// As [`Range::shoot`].
    #[track_caller]
    pub fn shoot(&mut self, probes: &[Probe], wanted: &[bool], patience: Duration) -> Vec<Seen> {
        self.range.shoot(probes, wanted, patience)
    }

    /// One probe that nothing is known of.
    #[track_caller]
    pub fn see(&mut self, probe: Probe) -> Seen {
        self.range.see(probe)
    }

    /// Probes, and what of it is not as the oracle says. What should have got through and did not is tried again, more
    /// patiently; what should not have and did is a difference at once.
    #[track_caller]
    pub fn differences(&mut self, items: &[Value], probes: &[Probe]) -> Vec<Difference> {
        let cluster = Cluster { items: items.to_vec(), ..Cluster::default() };
        let wanted: Vec<bool> = probes.iter().map(|probe| self.allowed(&cluster, *probe)).collect();
        self.compare(probes, &wanted)
    }

    /// As [`Self::differences`], with what is right from elsewhere.
    #[track_caller]
    pub fn compare(&mut self, probes: &[Probe], wanted: &[bool]) -> Vec<Difference> {
        self.range.compare(probes, wanted)
    }

    /// For a message: who, to whom, what.
    pub fn describe(&self, difference: &Difference) -> String {
        self.range.describe(difference)
    }
}
