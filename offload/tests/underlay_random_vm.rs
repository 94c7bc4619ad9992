//! Random policies on ports that the agent owns alone, with real packets: four pods of one simulated NIC and a host on
//! its wire, each sending to each, against the evaluator; policies that change under load; a NIC that refuses, is full
//! and loses its rules; connections that a change ends. Runs in the lab VM, as root;
//! `cargo vm-test -p offload --test underlay_random_vm`.
//!
//! `DRAWBRIDGE_POLICY_ROUNDS` (250) and `DRAWBRIDGE_POLICY_SEED` (1) choose the policies. A difference is shrunk and printed as a
//! fixture; those in `tests/fixtures/policy` are tried first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[allow(dead_code)] // shared with the session's own tests, which use more of it
#[path = "netlink_vm/bench.rs"]
mod bench;
#[path = "underlay_random_vm/cuts.rs"]
mod cuts;
#[path = "../src/underlay/tests/dice.rs"]
mod dice;
#[path = "underlay_random_vm/faults.rs"]
mod faults;
#[path = "underlay_random_vm/field.rs"]
mod field;
#[path = "underlay_random_vm/flips.rs"]
mod flips;
#[path = "underlay_random_vm/generate.rs"]
mod generate;
#[path = "underlay_random_vm/load.rs"]
mod load;
#[path = "underlay_random_vm/outbox.rs"]
mod outbox;
#[path = "../../tests/src/patience.rs"]
mod patience;
#[path = "underlay_random_vm/policies.rs"]
mod policies;
#[path = "underlay_random_vm/probes.rs"]
mod probes;
#[allow(dead_code)] // shared with underlay_vm
#[path = "underlay_vm/stand.rs"]
mod stand;

use std::time::{Duration, Instant};

use field::{Field, PODS, fixtures, keep};
use generate::Generator;
use offload::policy::PodPolicy;
use probes::Probe;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn vm_random_policies_let_by_what_the_evaluator_allows() {
    let rounds = number("DRAWBRIDGE_POLICY_ROUNDS", 250);
    let seed = number("DRAWBRIDGE_POLICY_SEED", 1);
    let mut field = Field::new();
    let probes = Probe::all(PODS + 1);
    let kept = fixtures();
    assert!(!kept.is_empty());
    for (path, fixture) in &kept {
        field.clear();
        for set in &fixture.sets {
            let mut differences = field.install(set).1;
            differences.extend(field.judge(set, &probes));
            assert!(differences.is_empty(), "{}: {differences:?}", path.display());
        }
    }
    println!("{} fixtures, then {rounds} rounds with seed {seed}, {} probes each", kept.len(), probes.len());

    let mut generator = Generator::new(seed, PODS + 1);
    let mut policies = vec![PodPolicy::default(); PODS];
    let (start, before) = (Instant::now(), field.stand.counted());
    let (mut syncing, mut changes, mut software) = (Duration::ZERO, 0, 0u64);
    let (allowed_before, refused_before) = (field.hosts.allowed, field.hosts.refused);
    for round in 1..=rounds {
        let previous = policies.clone();
        generator.change(&mut policies);
        let since = Instant::now();
        let (report, mut differences) = field.install(&policies);
        syncing += since.elapsed();
        changes += report.changes;
        software += report.software.len() as u64;
        differences.extend(field.judge(&policies, &probes));
        if !differences.is_empty() {
            println!("round {round}: {differences:?}");
            let fixture = field.shrink(&[previous, policies], &differences);
            let kept = keep(&fixture, &format!("underlay-{seed}-{round}"));
            panic!(
                "round {round} of seed {seed}: {} differences, {:?} among them; {kept}",
                differences.len(),
                differences[0]
            );
        }
        if round % 25 == 0 {
            println!(
                "round {round}: {:.0} s, of them {:.0} s for policies; {changes} changes of filters so far",
                start.elapsed().as_secs_f64(),
                syncing.as_secs_f64()
            );
        }
    }
    let after = field.stand.counted();
    let (allowed, refused) = (field.hosts.allowed - allowed_before, field.hosts.refused - refused_before);
    let frames = after.frames - before.frames;
    let share = after.hardware_share(before);
    println!(
        "{rounds} sets of policies: {} probes, {allowed} allowed, {refused} denied, 0 differences, {} asked again; \
         {changes} changes, {} filters in software on average; of {frames} frames the eSwitch executed {share} %; {:.0} s",
        allowed + refused,
        field.hosts.repeated,
        software / rounds,
        start.elapsed().as_secs_f64()
    );
    let tenth = (allowed + refused) / 10;
    assert!(allowed > tenth && refused > tenth, "one-sided: {allowed} allowed, {refused} denied");
    assert!(share > 20, "the hardware has hardly taken part: {share} %");
}
