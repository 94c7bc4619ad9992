//! SCTP: rules with its ports, which the eSwitch does not take. The kernel's own SCTP associates; tcpdump judges.

use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tests::command::in_place;
use tests::policy_lab::PolicyLab;
use tests::{Capture, Pod};

use crate::cases::{app, policy};
use crate::with;

const PORT: u16 = 7000;

/// Takes associations until dropped. One address each: of two wildcards, SCTP may find the one of the other version.
struct Listener(Child);

impl Listener {
    fn start(pod: &Pod, address: &str, port: u16) -> Self {
        let child = in_place(&pod.place(), &["ncat", "--sctp", "-l", "-k", address, &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("ncat");
        Self(child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a first packet arrived, and whether there was an association.
fn associate(from: &Pod, to: &Pod, address: &str, port: u16) -> (bool, bool) {
    let own = if address.contains(':') { &from.ip6 } else { &from.ip };
    let capture = Capture::start(&to.place(), "eth0", &format!("src host {own} and sctp dst port {port}"));
    let ncat = ["timeout", "5", "ncat", "--sctp", "--send-only", "-w", "3", address, &port.to_string()];
    let is_there = from.run(&ncat).is_ok();
    (!capture.stop().is_empty(), is_there)
}

pub fn run(lab: &mut PolicyLab, open: &[Value]) {
    let rule = policy(
        "a",
        "sctp",
        &json!({"podSelector": app("web"), "ingress": [{
            "from": [{"podSelector": {"matchLabels": {"role": "client"}}}],
            "ports": [{"protocol": "SCTP", "port": PORT}]}]}),
    );
    lab.enforce(&with(open.to_vec(), &[rule]));
    let mut listeners = Vec::new();
    for name in ["a2", "a3"] {
        for port in [PORT, PORT + 1] {
            let pod = lab.pod(lab.index(name));
            listeners.extend([&pod.ip, &pod.ip6].map(|address| Listener::start(pod, address, port)));
        }
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut cases = Vec::new();
    for (from, to, port, allowed) in [
        ("a1", "a2", PORT, true),
        ("a1", "a3", PORT, true),
        ("a1", "a2", PORT + 1, false),
        ("b1", "a3", PORT, false),
        ("b2", "a2", PORT, false),
    ] {
        let (from, to) = (lab.pod(lab.index(from)), lab.pod(lab.index(to)));
        cases.extend([&to.ip, &to.ip6].map(|address| (from, to, address, port, allowed)));
    }
    std::thread::scope(|scope| {
        for (from, to, address, port, allowed) in &cases {
            scope.spawn(move || {
                // What must get through may be slow to do so.
                let attempts = if *allowed { 3 } else { 1 };
                let seen: Vec<_> = (0..attempts).map(|_| associate(from, to, address, *port)).collect();
                let wanted = (*allowed, *allowed);
                assert!(seen.contains(&wanted), "SCTP {} to {address} {port}: {seen:?}", from.name);
            });
        }
    });
    println!("SCTP: {} associations as they should be", cases.len());
}
