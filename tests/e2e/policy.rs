//! NetworkPolicy case by case, with real packets between pods on both servers, IPv4 and IPv6, judged at the receiver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "policy/cases.rs"]
mod cases;
#[path = "policy/changes.rs"]
mod changes;
#[path = "policy/marks.rs"]
mod marks;
#[path = "policy/sctp.rs"]
mod sctp;
#[path = "policy/services.rs"]
mod services;

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};
use tests::nic::NICS;
use tests::policy_lab::{Difference, PolicyLab, Probe, ROLES, policy_of};

use cases::Case;

/// The pods and namespaces, labelled as [`cases::cases`] says. What `a2` calls `web` is another port than at `a3`.
fn objects(lab: &PolicyLab) -> Vec<Value> {
    let of = |name: &str| match name {
        "a1" | "b1" => (json!({"app": name, "role": "client"}), json!([])),
        "a2" => (json!({"app": "web", "side": "near"}), json!([{"name": "web", "containerPort": 80}])),
        "a3" => (json!({"app": "web", "side": "far"}), json!([{"name": "web", "containerPort": 81}])),
        "c1" => (json!({"app": "dns"}), json!([])),
        _ => (json!({"app": name, "role": "batch"}), json!([])),
    };
    let mut items: Vec<Value> = lab.objects().into_iter().filter(|it| it["kind"] == "Namespace").collect();
    items.extend((0..ROLES.len()).map(|index| {
        let (labels, ports) = of(ROLES[index].name);
        lab.pod_object(index, &labels, &ports)
    }));
    items
}

fn with(mut items: Vec<Value>, more: &[Value]) -> Vec<Value> {
    items.extend(more.iter().cloned());
    items
}

#[track_caller]
fn none(lab: &PolicyLab, case: &str, differences: &[Difference]) {
    let said: Vec<String> = differences.iter().map(|it| lab.describe(it)).collect();
    assert!(said.is_empty(), "{case}: {said:#?}");
}

/// Rules that are in `br-edge`'s tables of some NIC, by the text that leads back to them.
fn rules_in_tables() -> BTreeSet<String> {
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let mut rules = BTreeSet::new();
    for nic in NICS {
        let said = policy_of(nic).unwrap();
        let texts = said["rules"].as_object().unwrap();
        for flow in nic.flows() {
            let cookie = flow.split(',').next().and_then(|it| number(it.trim().strip_prefix("cookie=")?));
            rules.extend(
                texts.iter().filter(|it| cookie == number(it.0)).map(|it| it.1.as_str().unwrap().to_owned()),
            );
        }
    }
    rules
}

fn run(lab: &mut PolicyLab, case: &Case) {
    let began = Instant::now();
    let items = with(objects(lab), &case.policies);
    lab.enforce(&items);
    let in_force = began.elapsed();
    let rules = rules_in_tables();
    for rule in case.rules {
        assert!(rules.contains(*rule), "{}: no flow of {rule}, but of {rules:#?}", case.name);
    }
    let mut probes = lab.all_pairs(&[case.all]);
    for (from, to, kind, allowed) in &case.cells {
        let (from, receiver) = (lab.index(from), lab.index(to));
        for to in lab.addresses(receiver) {
            let probe = Probe { from, to, kind: *kind };
            assert_eq!(lab.is_allowed(&items, probe), *allowed, "{}: the oracle, of {probe:?}", case.name);
            probes.push(probe);
        }
    }
    // Not all at once: the machine is emulated, and who waits too long counts as refused.
    for probes in probes.chunks(24) {
        let differences = lab.differences(&items, probes);
        none(lab, case.name, &differences);
    }
    println!(
        "{}: {} new connections as they should be; in force after {:.1} s, {:.1} s in all",
        case.name,
        probes.len(),
        in_force.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn cases_and_cluster_ips() {
    let mut lab = PolicyLab::start();
    let open = objects(&lab);
    for case in cases::cases() {
        run(&mut lab, &case);
    }
    sctp::run(&mut lab, &open);
    services::run(&mut lab, &open);
}

#[test]
fn changes_under_traffic() {
    let mut lab = PolicyLab::start();
    let open = objects(&lab);
    changes::removed_and_restored(&mut lab, &open);
    changes::loosened(&mut lab, &open);
}

#[test]
fn connections_name_their_rule() {
    let mut lab = PolicyLab::start();
    let open = objects(&lab);
    marks::named(&mut lab, &open);
}

/// With pods of its own: what earlier connections leave in the zones is in the way of proving that the hardware has let go.
#[test]
fn tightening_cuts() {
    let mut lab = PolicyLab::start();
    let open = objects(&lab);
    changes::tightened(&mut lab, &open);
}
