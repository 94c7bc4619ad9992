//! What others do costs a tenant neither its enforcement nor its connections. A tenant's policy is changed again and again, and
//! its connections go on, while nothing else happens; then the same
//! - while its server asks the NIC without waiting for the answer, as fast as it can;
//! - while another tenant's pod begins connections as fast as it can, through one flow of the datapath;
//! - while that pod tries port after port of one whose policy speaks of ports, each of which is a flow of its own.
//!
//! How long a change takes is printed beside the quiet figure. What is lost is held against what the quiet run loses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proto::v1::AttachRequest;
use serde_json::{Value, json};
use tests::host::claim;
use tests::lies::HOST;
use tests::policy_lab::{Kind, Probe};
use tests::traffic::{Beginning, Beginnings, Begins, By, Client, Echo, End, Newcomers};
use tests::unharmed::{Seen, unharmed};
use tests::{Nic, Pod, PolicyLab, Wish, netns, patience, until};

/// All of it happens on this one.
const NIC: Nic = Nic(1);
/// What an honest answer cannot come in.
const TIME: Duration = Duration::from_millis(5);
const LANES: usize = 4;
const CHANGES: usize = 6;
/// Of the tenant's connections, and between two new ones.
const PORT: u16 = 7777;
const OFTEN: Duration = Duration::from_millis(50);
const NEW: Duration = Duration::from_millis(200);
/// To which the other tenant's pod begins its connections, and the ports that it tries. Few of these pass.
const FLOODED: u16 = 4000;
const TRIED: std::ops::Range<u16> = 20_000..22_000;
const ALLOWED: usize = 64;
const PATIENCE: Duration = Duration::from_mins(1);

struct Scene {
    lab: PolicyLab,
    /// Those of the tenant, and of the other one, as they always are.
    policies: Vec<Value>,
}

impl Scene {
    fn start() -> Self {
        let lab = PolicyLab::start();
        let mut policies = lab.objects();
        // Each of the ports that it allows is a flow, and each that is tried beside them is one, too.
        let ports: Vec<Value> = TRIED
            .step_by(TRIED.len() / ALLOWED)
            .map(|port| json!({"protocol": "TCP", "port": port}))
            .collect();
        policies.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "ports", "namespace": "b", "uid": "ports"},
            "spec": {"podSelector": {"matchLabels": {"app": "b2"}}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]},
        }));
        Self { lab, policies }
    }

    fn pod(&self, name: &str) -> &Pod {
        self.lab.pod(self.lab.index(name))
    }

    /// Changes what may reach `a2`, again and again, and looks each time that it is so.
    fn change(&mut self) -> Vec<Duration> {
        let deny = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "nobody", "namespace": "a", "uid": "nobody"},
            "spec": {"podSelector": {"matchLabels": {"app": "a2"}}, "policyTypes": ["Ingress"]},
        });
        let (from, receiver) = (self.lab.index("c1"), self.lab.index("a2"));
        let probes = self.lab.addresses(receiver).map(|to| Probe { from, to, kind: Kind::Udp(80) });
        let mut times = Vec::new();
        for round in 0..CHANGES {
            let mut items = self.policies.clone();
            if round % 2 == 0 {
                items.push(deny.clone());
            }
            let began = Instant::now();
            self.lab.enforce(&items);
            times.push(began.elapsed());
            let differences = self.lab.differences(&items, &probes);
            let said: Vec<String> = differences.iter().map(|it| self.lab.describe(it)).collect();
            assert!(said.is_empty(), "round {round}: {said:#?}");
        }
        times
    }

    /// The tenant, while whatever goes on goes on.
    fn look(&mut self) -> Seen {
        let (from, to) = (self.pod("a1"), self.pod("a3"));
        let _echo = Echo::start(to, PORT);
        let standing = Client::start(from, &to.ip, PORT, patience(OFTEN));
        let new = Newcomers::start(from, &to.ip, PORT, By::Udp, patience(NEW));
        let changes = self.change();
        standing.halt();
        new.halt();
        Seen::new(changes, &[standing.stop(), new.stop()])
    }

    /// The pod of the other tenant begins connections of these kinds, in turn, as fast as it can.
    fn flood(&self, to: &str, begins: impl Iterator<Item = Begins>) -> Beginnings {
        let end = |pod: &Pod| End { mac: pod.mac.clone(), ip: pod.ip.parse::<IpAddr>().unwrap() };
        let (from, to) = (self.pod("b1"), self.pod(to));
        let list = begins.map(|it| Beginning::new(it, &end(from), &end(to))).collect();
        Beginnings::start(&from.place(), list, None)
    }
}

/// Until it is dropped.
struct Asks<'a>(&'a AtomicBool);

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Attach after Attach of several at once, and what they were answered.
fn asking<T>(honest: &AttachRequest, meanwhile: impl FnOnce() -> T) -> (T, BTreeMap<String, usize>) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || scope.spawn(|| HOST.attach_in_vain(honest, TIME, &stop));
        let lanes: Vec<_> = (0..LANES).map(|_| ask()).collect();
        // Also when it fails: else nobody tells them to end.
        let asks = Asks(&stop);
        let seen = meanwhile();
        drop(asks);
        let mut answers = BTreeMap::<String, usize>::new();
        for lane in lanes {
            for (answer, times) in lane.join().unwrap() {
                *answers.entry(answer).or_default() += times;
            }
        }
        (seen, answers)
    })
}

#[test]
fn what_others_do_costs_a_tenant_nothing() {
    let mut scene = Scene::start();
    let asks = Pod::create(&Wish { name: "asks", host: "host1", vf: 23, options: &[] });
    // The first one is slower: everything is new to the switch.
    scene.look();
    let quiet = scene.look();
    quiet.tell("quiet");

    let honest = claim(&asks);
    let generation = || NIC.ledger()["generation"].as_f64().unwrap();
    let passes = || NIC.metric("drawbridge_nic_agent_reconciles_total");
    let (written, passed) = (generation(), passes());
    let answers = unharmed(NIC, &quiet, "a server that asks", || asking(&honest, || scene.look()));
    let (written, passed) = (generation() - written, passes() - passed);
    println!("  answered {answers:?}; {written} writes of the ledger in {passed} passes");
    assert!(!answers.contains_key("attached"), "{answers:?}");
    assert!(answers.values().sum::<usize>() > 256, "that was no flood: {answers:?}");
    // What a pass took of it, and beside that what it learned itself.
    assert!(written <= 3.0 * (passed + 1.0), "{written} writes in {passed} passes");
    let abandoned = NIC.metric("drawbridge_nic_agent_requests_abandoned_total");
    println!("  {abandoned} were given up before anything was done for them");
    // Nothing of it stays.
    until("the ledger has none of the claims", PATIENCE, || {
        let held = NIC.ledger()["attachments"].to_string();
        if held.contains(&format!("{}-", asks.container)) { Err(held) } else { Ok(()) }
    });

    let sent = unharmed(NIC, &quiet, "connections begun through one flow", || {
        // Takes what arrives, and never answers.
        let _silent =
            netns::within(&scene.pod("c1").place(), || UdpSocket::bind(("0.0.0.0", FLOODED)).unwrap());
        let flood = scene.flood("c1", std::iter::once(Begins::Udp(FLOODED)));
        let seen = scene.look();
        (seen, flood.stop())
    });
    println!("  {sent} were begun");
    assert!(sent > 1000, "that was no flood: {sent}");

    let sent = unharmed(NIC, &quiet, "port after port", || {
        let flood = scene.flood("b2", TRIED.map(Begins::Tcp));
        let seen = scene.look();
        (seen, flood.stop())
    });
    println!("  {sent} were tried");
    assert!(sent > 1000, "that was no flood: {sent}");

    // What the cluster here does not know has no policy, and so no network; without it, what was asked for in vain is had.
    drop(scene);
    asks.cni("ADD", &[]).ok();
    NIC.settle();
}
