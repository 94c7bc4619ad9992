//! Random NetworkPolicies against real packets: TCP, UDP and ICMP, IPv4 and IPv6, between pods on two servers. What gets
//! through must be what the oracle reads from the same objects, and nothing else.
//!
//! `DRAWBRIDGE_POLICY_ROUNDS` (250) and `DRAWBRIDGE_POLICY_SEED` (1): round n of a seed is always the same cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::PolicyLab;
use tests::counters::Counters;
use tests::kube_oracle::random::{self, Dice, PORTS};
use tests::nic::NICS;
use tests::policy_lab::{Difference, Kind, NAMESPACES, Probe, ROLES, directory, shrink};

/// Steps of a shrink; each is a policy enforced and a probe.
const TRIES: usize = 60;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// The lab's pods with random labels and named ports, in namespaces with random labels, and up to five policies.
fn cluster(lab: &PolicyLab, dice: &mut Dice) -> Vec<Value> {
    let addresses: Vec<IpAddr> = (0..ROLES.len()).flat_map(|it| lab.addresses(it)).collect();
    let mut items = Vec::new();
    for namespace in NAMESPACES {
        // One that is not known yet, or no more, is meant by no selector.
        if !dice.one_in(12) {
            items.push(json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace, "labels": random::labels(dice)}}));
        }
    }
    for index in 0..ROLES.len() {
        let (labels, ports) = (random::labels(dice), random::container_ports(dice));
        items.push(lab.pod_object(index, &labels, &ports));
    }
    let block = |dice: &mut Dice| random::block_around(dice, &addresses);
    for number in 0..=dice.roll(5) {
        let namespace = dice.pick(&NAMESPACES);
        items.push(random::policy(dice, namespace, &format!("it-{number}"), &block));
    }
    dice.shuffle(&mut items);
    items
}

/// Of each protocol two ports, at most one of which no rule knows.
fn kinds(dice: &mut Dice) -> Vec<Kind> {
    let mut two = || {
        let first = dice.pick(&PORTS[1..4]);
        let others: Vec<u16> = PORTS.into_iter().filter(|it| *it != first).collect();
        [first, dice.pick(&others)]
    };
    let (tcp, udp) = (two(), two());
    tcp.map(Kind::Tcp).into_iter().chain(udp.map(Kind::Udp)).chain([Kind::Echo]).collect()
}

/// Makes the case small, leaves it as a file, and ends the test.
fn report(lab: &mut PolicyLab, why: &str, items: &[Value], differences: &[Difference]) -> ! {
    for difference in differences.iter().take(10) {
        println!("{}", lab.describe(difference));
    }
    let (probe, allowed) = (differences[0].probe, differences[0].allowed);
    let mut last = differences[0];
    let shrunk = shrink(items, TRIES, |items| {
        // What is right must stay right: else a smaller case is another one.
        if lab.is_allowed(items, probe) != allowed {
            return false;
        }
        lab.enforce(items);
        // Less patient than the test itself: a step that is slow is taken back.
        let seen = lab.shoot(&[probe], &[allowed], Duration::from_secs(3))[0];
        let is_wrong = seen.is_wrong(allowed);
        if is_wrong {
            last.seen = seen;
        }
        is_wrong
    });
    let fixture = serde_json::to_string_pretty(&lab.to_fixture(why, &shrunk, &last)).unwrap();
    let path = format!("/share/logs/policy-{}.json", why.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let written = std::fs::write(&path, &fixture);
    panic!(
        "{why}: {} differences, the first: {}\n{fixture}\nalso in the lab's {path} ({written:?}): copy it to {}",
        differences.len(),
        lab.describe(&last),
        directory().display()
    );
}

#[test]
fn what_gets_through_is_what_the_policies_say() {
    let (rounds, seed) = (setting("DRAWBRIDGE_POLICY_ROUNDS", 250), setting("DRAWBRIDGE_POLICY_SEED", 1));
    let mut lab = PolicyLab::start();
    let fixtures = lab.fixtures();
    for fixture in &fixtures {
        lab.enforce(&fixture.items);
        let mut probes = lab.all_pairs(&[fixture.probe.kind]);
        probes.push(fixture.probe);
        let differences = lab.differences(&fixture.items, &probes);
        let all: Vec<String> = differences.iter().map(|it| lab.describe(it)).collect();
        assert!(differences.is_empty(), "{} is wrong again: {all:#?}", fixture.path.display());
    }
    println!("{} fixtures hold", fixtures.len());

    // Without a policy everything gets through: the lab itself stands in nobody's way.
    let items = lab.objects();
    lab.enforce(&items);
    let open: Vec<Probe> = lab.all_pairs(&[Kind::Tcp(80), Kind::Udp(80), Kind::Echo]);
    let differences = lab.compare(&open, &vec![true; open.len()]);
    assert!(
        differences.is_empty(),
        "without policies: {:#?}",
        differences.iter().map(|it| lab.describe(it)).collect::<Vec<_>>()
    );

    let counted = NICS.map(|nic| Counters::of(nic.0));
    let (began, mut enforcing) = (Instant::now(), Duration::ZERO);
    let (mut allowed, mut denied) = (0, 0);
    for round in 0..rounds {
        let mut dice = Dice(seed << 32 | round);
        let items = cluster(&lab, &mut dice);
        let probes = lab.all_pairs(&kinds(&mut dice));
        let start = Instant::now();
        lab.enforce(&items);
        enforcing += start.elapsed();
        let right = probes.iter().filter(|it| lab.is_allowed(&items, **it)).count();
        (allowed, denied) = (allowed + right, denied + probes.len() - right);
        let differences = lab.differences(&items, &probes);
        if !differences.is_empty() {
            report(&mut lab, &format!("seed {seed} round {round}"), &items, &differences);
        }
        if (round + 1) % 25 == 0 {
            println!(
                "{} rounds in {:.0} s ({:.0} s of it enforcing), {allowed} allowed, {denied} denied",
                round + 1,
                began.elapsed().as_secs_f64(),
                enforcing.as_secs_f64()
            );
        }
    }
    for (nic, before) in NICS.into_iter().zip(counted) {
        let Counters { frames, hardware, software } = Counters::of(nic.0).since(before);
        println!("{nic:?}: {frames} frames, {hardware} ended in hardware, {software} handed to software");
        assert!(hardware > 0, "the eSwitch of {nic:?} took part");
    }
    lab.settle();
    for nic in NICS {
        nic.settle();
    }
    println!(
        "{rounds} rounds, {} probes: {allowed} allowed, {denied} denied, 0 differences",
        allowed + denied
    );
    let tenth = (allowed + denied) / 10;
    assert!(allowed > tenth && denied > tenth, "both kinds are tried");
}
