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
mod shrink;
mod station;
mod volley;
mod witness;

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kube_oracle::Cluster;
use crate::{Pod, Wish};
use agents::Agents;
pub use agents::policy_of;
pub use fixture::{Fixture, directory};
pub use probe::{Difference, Kind, Probe, Seen};
pub use shrink::{shrink, simpler};
use station::{Order, Shot, Station};
use volley::Volley;

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
/// Every pod answers on these, TCP and UDP, IPv4 and IPv6.
pub const PORTS: [u16; 9] = [53, 79, 80, 81, 82, 83, 443, 8080, 8443];

/// The source ports of probes; all below are served or free.
const SOURCES: std::ops::Range<u16> = 10_240..65_000;
/// How long a packet that must not arrive may take to do so.
const QUIET: Duration = Duration::from_millis(300);
/// How long nothing at all may happen while one that must arrive has not. The VM is emulated and shares its processor, so
/// it is silence that counts; who waits for nothing that should come does not wait for this.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many probes are sent at once: more at a time overflow OVS's upcalls, and a SYN that is lost costs a second.
const WAVE: usize = 60;
/// The next ones do not wait for those that are late.
const LATE: Duration = Duration::from_secs(1);
/// What should get through and does not is sent anew.
const ATTEMPTS: usize = 3;

/// Who sent a packet, in which protocol, and from which port or with which identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    protocol: u8,
    source: IpAddr,
    id: u16,
}

#[derive(Debug)]
enum Event {
    Sent(Key),
    /// At the interface of this pod.
    Arrived(Key, usize),
    Answered(Key),
    /// A station could not do what it was told.
    Broken(String),
}

struct Member {
    // Dropped in this order: threads first, then the pod that they are in.
    station: Station,
    _witness: witness::Witness,
    pod: Pod,
    next: u16,
}

/// See the module.
pub struct PolicyLab {
    members: Vec<Member>,
    agents: Agents,
    events: Receiver<Event>,
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
        let (send, events) = channel();
        let members = pods
            .into_iter()
            .enumerate()
            .map(|(index, pod)| Member {
                station: Station::start(&pod, send.clone()),
                _witness: witness::Witness::start(&pod, index, send.clone()),
                pod,
                next: SOURCES.start,
            })
            .collect();
        let mut lab = Self { members, agents: Agents::default(), events };
        let items = lab.objects();
        lab.agents.switch_on(&items);
        lab.settle();
        lab
    }

    pub fn pod(&self, index: usize) -> &Pod {
        &self.members[index].pod
    }

    /// Index of a role.
    #[track_caller]
    pub fn index(&self, name: &str) -> usize {
        ROLES.iter().position(|role| role.name == name).unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// IPv4, then IPv6.
    pub fn addresses(&self, index: usize) -> [IpAddr; 2] {
        let pod = self.pod(index);
        [&pod.ip, &pod.ip6].map(|ip| ip.parse().expect("a pod's address"))
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

    /// Waits until both agents say that no connection is left, in hardware neither, that the policies deny.
    #[track_caller]
    pub fn settle(&self) {
        let pods: Vec<&str> = self.members.iter().map(|it| it.pod.uid.as_str()).collect();
        self.agents.settle(&pods);
    }

    /// Each pod to each other one, both IP versions, all these kinds.
    pub fn all_pairs(&self, kinds: &[Kind]) -> Vec<Probe> {
        let mut probes = Vec::new();
        for from in 0..self.members.len() {
            for receiver in (0..self.members.len()).filter(|it| *it != from) {
                for to in self.addresses(receiver) {
                    probes.extend(kinds.iter().map(|kind| Probe { from, to, kind: *kind }));
                }
            }
        }
        probes
    }

    /// Is this allowed, as the oracle reads the objects?
    pub fn is_allowed(&self, items: &[Value], probe: Probe) -> bool {
        let cluster = Cluster { items: items.to_vec(), node_addresses: Vec::new() };
        self.allowed(&cluster, probe)
    }

    fn allowed(&self, cluster: &Cluster, probe: Probe) -> bool {
        let own = self.addresses(probe.from)[usize::from(probe.to.is_ipv6())];
        cluster.allowed(own, probe.to, probe.kind.traffic())
    }

    /// Sends all probes. Returns when each that `wanted` says should get through has done so, or nothing has happened for
    /// `patience`, and the others have been silent for a while.
    #[track_caller]
    pub fn shoot(&mut self, probes: &[Probe], wanted: &[bool], patience: Duration) -> Vec<Seen> {
        while self.events.try_recv().is_ok() {}
        let mut volley = Volley::new(probes.len());
        let waves = probes.len().div_ceil(WAVE);
        for wave in 0..waves {
            let mut orders = vec![Vec::new(); self.members.len()];
            for (index, probe) in probes.iter().enumerate().skip(wave).step_by(waves) {
                let source = self.addresses(probe.from)[usize::from(probe.to.is_ipv6())];
                let id = self.next_source(probe.from);
                let key = Key { protocol: station::protocol(probe.kind, source), source, id };
                volley.fire(key, index, wanted[index]);
                orders[probe.from].push(Shot { key, to: probe.to, kind: probe.kind });
            }
            for (member, shots) in self.members.iter().zip(orders) {
                member.station.order(Order::Fire(shots));
            }
            let is_last = wave + 1 == waves;
            volley.follow(&self.events, |volley| {
                let silence = volley.last.elapsed();
                let is_quiet = !is_last || !wanted.contains(&false) || silence >= QUIET;
                let patience = if is_last { patience } else { LATE };
                volley.unsent == 0 && is_quiet && (volley.missing == 0 || silence >= patience)
            });
        }
        for member in &self.members {
            member.station.order(Order::Cease);
        }
        volley.seen
    }

    /// One probe that nothing is known of.
    #[track_caller]
    pub fn see(&mut self, probe: Probe) -> Seen {
        self.shoot(&[probe], &[false], Duration::ZERO)[0]
    }

    /// Probes, and what of it is not as the oracle says. What should have got through and did not is tried again, more
    /// patiently; what should not have and did is a difference at once.
    #[track_caller]
    pub fn differences(&mut self, items: &[Value], probes: &[Probe]) -> Vec<Difference> {
        let cluster = Cluster { items: items.to_vec(), node_addresses: Vec::new() };
        let wanted: Vec<bool> = probes.iter().map(|probe| self.allowed(&cluster, *probe)).collect();
        self.compare(probes, &wanted)
    }

    /// As [`Self::differences`], with what is right from elsewhere.
    #[track_caller]
    pub fn compare(&mut self, probes: &[Probe], wanted: &[bool]) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut left: Vec<(Probe, bool)> = probes.iter().copied().zip(wanted.iter().copied()).collect();
        for attempt in 1..=ATTEMPTS {
            let (probes, wanted): (Vec<Probe>, Vec<bool>) = left.into_iter().unzip();
            left = Vec::new();
            for ((probe, allowed), seen) in
                probes.iter().zip(&wanted).zip(self.shoot(&probes, &wanted, PATIENCE))
            {
                let (probe, allowed) = (*probe, *allowed);
                if !seen.is_wrong(allowed) {
                    continue;
                }
                if allowed && attempt < ATTEMPTS {
                    left.push((probe, allowed));
                } else {
                    differences.push(Difference { probe, allowed, seen });
                }
            }
            if left.is_empty() {
                break;
            }
            println!("{} of {} not through in {PATIENCE:?}, again", left.len(), probes.len());
        }
        differences
    }

    fn next_source(&mut self, member: usize) -> u16 {
        let next = &mut self.members[member].next;
        let id = *next;
        *next = if id + 1 < SOURCES.end { id + 1 } else { SOURCES.start };
        id
    }

    /// For a message: who, to whom, what.
    pub fn describe(&self, difference: &Difference) -> String {
        let Difference { probe, allowed, seen } = difference;
        let name = |index: usize| format!("{}/{}", ROLES[index].namespace, ROLES[index].name);
        let to = (0..self.members.len())
            .find(|it| self.addresses(*it).contains(&probe.to))
            .map_or_else(|| probe.to.to_string(), |it| format!("{} ({})", name(it), probe.to));
        let should = if *allowed { "should get through" } else { "should not arrive" };
        let arrived =
            seen.arrived.map_or_else(|| "did not arrive".to_owned(), |at| format!("arrived at {}", name(at)));
        let answered = if seen.answered { "was answered" } else { "was not answered" };
        format!("{} -> {to} {}: {should}, {arrived}, {answered}", name(probe.from), probe.kind)
    }
}
