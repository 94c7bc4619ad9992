//! `ClusterIP`s: what the sender's boundary sees is the Service, and its policy speaks of the pods behind it.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tests::balancer::ClusterIp;
use tests::nic::NICS;
use tests::policy_lab::Kind::{Tcp, Udp};
use tests::policy_lab::{PolicyLab, Probe, policy_of};

use crate::cases::policy;
use crate::{none, with};

const PORT: u16 = 8000;
const TARGET: u16 = 81;
const KINDS: [tests::policy_lab::Kind; 2] = [Tcp(PORT), Udp(PORT)];
const PATIENCE: Duration = Duration::from_secs(5);

/// `a2` alone, `a3` alone, both: of `a1`, a local backend, a remote one, and one of each.
struct Services {
    near: ClusterIp,
    far: ClusterIp,
    mixed: ClusterIp,
}

impl Services {
    fn all(&self) -> [&ClusterIp; 3] {
        [&self.near, &self.far, &self.mixed]
    }

    fn objects(&self) -> Vec<Value> {
        self.all().iter().flat_map(|it| it.objects()).collect()
    }
}

fn probes(lab: &PolicyLab, from: &[&str], services: &[&ClusterIp]) -> Vec<Probe> {
    let mut probes = Vec::new();
    for from in from {
        let from = lab.index(from);
        for to in services.iter().flat_map(|it| it.ips) {
            probes.extend(KINDS.map(|kind| Probe { from, to, kind }));
        }
    }
    probes
}

fn reports() -> Vec<String> {
    let of = |nic| policy_of(nic).unwrap()["reports"].as_array().cloned().unwrap_or_default();
    NICS.iter().flat_map(|nic| of(*nic)).filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

/// All of these, and each twice, as each connection may go to another backend. Returns who received any.
fn expect(
    lab: &mut PolicyLab,
    case: &str,
    from: &[&str],
    services: &[&ClusterIp],
    allowed: bool,
) -> Vec<usize> {
    let probes: Vec<Probe> = (0..2).flat_map(|_| probes(lab, from, services)).collect();
    let mut at = Vec::new();
    for probes in probes.chunks(8) {
        let wanted = vec![allowed; probes.len()];
        let differences = lab.compare(probes, &wanted);
        none(lab, case, &differences);
        if allowed {
            at.extend(lab.shoot(probes, &wanted, PATIENCE).iter().filter_map(|it| it.arrived));
        }
    }
    at.sort_unstable();
    at.dedup();
    println!("{case}: {} connections from {from:?}", probes.len());
    at
}

pub fn run(lab: &mut PolicyLab, open: &[Value]) {
    let (a2, a3) = (lab.index("a2"), lab.index("a3"));
    let backends: [[IpAddr; 2]; 2] = [a2, a3].map(|it| lab.addresses(it));
    let add = |name, ips, backends| ClusterIp::add(("a", name), ips, PORT, backends, TARGET);
    let services = Services {
        near: add("near", ["10.96.0.11", "fd00:10:96::11"], &backends[..1]),
        far: add("far", ["10.96.0.12", "fd00:10:96::12"], &backends[1..]),
        mixed: add("mixed", ["10.96.0.13", "fd00:10:96::13"], &backends),
    };
    let items = with(open.to_vec(), &services.objects());

    lab.enforce(&items);
    let at = expect(lab, "ClusterIP, no policy", &["a1", "b2"], &services.all(), true);
    assert_eq!(at, [a2, a3], "both backends are balanced to");

    let ports = json!([{"protocol": "TCP", "port": TARGET}, {"protocol": "UDP", "port": TARGET}]);
    let to = |pods: Value| {
        policy(
            "a",
            "to-web",
            &json!({"podSelector": {"matchLabels": {"role": "client"}}, "policyTypes": ["Egress"],
                "egress": [{"to": [{"podSelector": {"matchLabels": pods}}], "ports": ports}]}),
        )
    };
    lab.enforce(&with(items.clone(), &[to(json!({"app": "web"}))]));
    expect(lab, "egress covers all backends", &["a1", "b2"], &services.all(), true);
    assert_eq!(reports(), [""; 0], "nothing to report");

    let part = with(items.clone(), &[to(json!({"side": "near"}))]);
    lab.enforce(&part);
    expect(lab, "egress covers the local backend, of a local one", &["a1"], &[&services.near], true);
    expect(
        lab,
        "egress covers the local backend, of the others",
        &["a1"],
        &[&services.far, &services.mixed],
        false,
    );
    expect(lab, "whom the policy does not select", &["b1"], &services.all(), true);
    let said = reports();
    for (ip, protocol) in services.mixed.ips.iter().zip(["TCP", "UDP"].iter().cycle()) {
        let missing = std::net::SocketAddr::new(lab.addresses(a3)[usize::from(ip.is_ipv6())], TARGET);
        let is_it = |it: &&String| {
            it.contains(&format!("Service a/mixed ({ip} {protocol} {PORT}) is refused to a/a1"))
                && it.contains("a/to-web")
                && it.contains(&missing.to_string())
        };
        assert!(said.iter().any(|it| is_it(&it)), "{ip} {protocol}: {said:#?}");
    }
    // The oracle says the same, of everyone who is no backend: what goes to itself comes under another name.
    let probes = probes(lab, &["a1", "b1", "b2", "c1"], &services.all());
    for probes in probes.chunks(8) {
        let differences = lab.differences(&part, probes);
        none(lab, "egress covers the local backend", &differences);
    }

    hairpin(lab, &items, &services);
}

/// A pod that nothing may reach, and that may reach nothing, reaches itself through its Service; others do not.
fn hairpin(lab: &mut PolicyLab, items: &[Value], services: &Services) {
    let deny = policy(
        "a",
        "deny-web",
        &json!({"podSelector": crate::cases::app("web"), "policyTypes": ["Ingress", "Egress"]}),
    );
    lab.enforce(&with(items.to_vec(), &[deny]));
    for (from, own) in [("a2", &services.near), ("a3", &services.far)] {
        for to in own.ips {
            for kind in KINDS {
                // It arrives from the ClusterIP, so what is seen at the receiver is only that it was answered.
                let probe = Probe { from: lab.index(from), to, kind };
                let answered = (0..3).any(|_| lab.shoot(&[probe], &[true], PATIENCE / 2)[0].answered);
                assert!(answered, "{from} to itself through {to} {kind}");
            }
        }
    }
    println!("hairpin: a2 and a3 reach themselves");
    expect(lab, "hairpin, others", &["a1", "b1", "b2"], &services.all(), false);
    expect(lab, "hairpin, a backend of both", &["a2"], &[&services.far, &services.mixed], false);
}
