//! A server asks its NIC without waiting for the answer, as fast as it can: policy changes of other pods are in force as
//! when it is quiet, the agent lives, and its ledger is written no more often than it makes passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::host::claim;
use tests::lies::HOST;
use tests::policy_lab::{Kind, Probe};
use tests::{Nic, Pod, PolicyLab, Wish, until};

/// What an honest answer cannot come in.
const TIME: Duration = Duration::from_millis(5);
const LANES: usize = 4;
const CHANGES: usize = 6;

/// Changes what may reach `a2`, again and again, and looks each time that it is so. How long each took, in order of size.
fn change(lab: &mut PolicyLab) -> Vec<Duration> {
    let open = lab.objects();
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "nobody", "namespace": "a"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let (from, receiver) = (lab.index("b2"), lab.index("a2"));
    let probes = lab.addresses(receiver).map(|to| Probe { from, to, kind: Kind::Udp(80) });
    let mut times = Vec::new();
    for round in 0..CHANGES {
        let mut items: Vec<Value> = open.clone();
        if round % 2 == 0 {
            items.push(deny.clone());
        }
        let began = Instant::now();
        lab.enforce(&items);
        times.push(began.elapsed());
        let differences = lab.differences(&items, &probes);
        let said: Vec<String> = differences.iter().map(|it| lab.describe(it)).collect();
        assert!(said.is_empty(), "round {round}: {said:#?}");
    }
    times.sort_unstable();
    times
}

fn shown(times: &[Duration]) -> String {
    let seconds = |at: usize| times[at].as_secs_f64();
    format!("median {:.2} s, worst {:.2} s", seconds(times.len() / 2), seconds(times.len() - 1))
}

#[test]
fn requests_that_nobody_waits_for_cost_no_one_elses_policy() {
    let nic = Nic(1);
    let mut lab = PolicyLab::start();
    let asks = Pod::create(&Wish { name: "asks", host: "host1", vf: 23, options: &[] });
    let quiet = change(&mut lab);

    let pid = nic.pid("agent");
    let generation = || nic.ledger()["generation"].as_f64().unwrap();
    let passes = || nic.metric("nic_agent_reconciles_total");
    let (written, passed) = (generation(), passes());
    let (stop, honest) = (AtomicBool::new(false), claim(&asks));
    let (busy, answers) = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| HOST.attach_in_vain(&honest, TIME, &stop));
        let lanes: Vec<_> = (0..LANES).map(|_| ask()).collect();
        let busy = change(&mut lab);
        stop.store(true, Ordering::Relaxed);
        let mut answers = BTreeMap::<String, usize>::new();
        for lane in lanes {
            for (answer, times) in lane.join().unwrap() {
                *answers.entry(answer).or_default() += times;
            }
        }
        (busy, answers)
    });
    let (written, passed) = (generation() - written, passes() - passed);
    println!("a policy change is in force: quiet {}; during the flood {}", shown(&quiet), shown(&busy));
    println!("the flood was answered {answers:?}; {written} writes of the ledger in {passed} passes");

    assert_eq!(nic.pid("agent"), pid, "the agent was ended");
    nic.ask("/healthz").unwrap();
    assert!(!answers.contains_key("attached"), "{answers:?}");
    assert!(answers.values().sum::<usize>() > 256, "that was no flood: {answers:?}");
    // What a pass took of it, and beside that what it learned itself.
    assert!(written <= 3.0 * (passed + 1.0), "{written} writes in {passed} passes");
    let abandoned = nic.metric("nic_agent_requests_abandoned_total");
    println!("{abandoned} were given up before anything was done for them");

    // Nothing of it stays, and the same pod is attached when somebody waits for it: the shim repeats what came too soon.
    until("the ledger has none of the claims", Duration::from_mins(1), || {
        let held = nic.ledger()["attachments"].to_string();
        if held.contains(&format!("{}-", asks.container)) { Err(held) } else { Ok(()) }
    });
    asks.cni("ADD", &[]).ok();
    nic.settle();
}
