//! The NIC's table is full, it refuses rules, it loses them without a word, while policies are in force and change: what
//! they deny arrives at no time. `/policy` says what software runs, and why, until the hardware has it again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::counters::{Counters, carried};
use tests::fault::{self, Knob};
use tests::nic::{NICS, Nic};
use tests::policy_lab::Kind::{Tcp, Udp};
use tests::policy_lab::{PolicyLab, policy_of};
use tests::traffic::{Client, Denied, Stream};
use tests::{Capture, patience, until};

/// Served by every pod of the lab.
const UDP: u16 = 53;
const TCP: u16 = 80;
const SCTP: u16 = 7000;
/// Served by none, allowed to none.
const CLOSED: u16 = 9999;
const OFTEN: Duration = Duration::from_millis(50);
/// Denied connections, of each protocol, IP version and pair of pods.
const KNOCK: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_mins(1);

const REFUSED: &str = "the hardware has refused it";
const LOST: &str = "the hardware has lost it without a word";
/// `FLOW_ACTION_DROP` taken out.
const ALL_BUT_DROP: &str = "0xfffffffffffffffd";

struct Fault {
    name: &'static str,
    inject: fn(Nic) -> Vec<Knob>,
    /// As in the agent's metrics.
    cause: &'static str,
}

const FAULTS: [Fault; 3] = [
    Fault {
        name: "rules lost without a word",
        inject: |nic| {
            fault::forget(nic);
            Vec::new()
        },
        cause: "lost",
    },
    Fault {
        name: "table full",
        // Too small for what goes on all the time, too.
        inject: |nic| vec![Knob::turn(nic, "max_rules", &(fault::rules(nic) / 2).to_string())],
        cause: "refused",
    },
    // What would turn a policy over, if what denies were refused and what allows below it were not.
    Fault {
        name: "every drop refused",
        inject: |nic| vec![Knob::turn(nic, "acts", ALL_BUT_DROP)],
        cause: "refused",
    },
];

/// How often the agent has made OVS offer all flows anew.
fn offered_anew(nic: Nic, cause: &str) -> f64 {
    nic.metric(&format!("drawbridge_nic_agent_offload_retries_total{{cause=\"{cause}\"}}"))
}

/// Filters that software runs on this NIC, and why.
fn in_software(nic: Nic) -> Vec<(String, String)> {
    let policy = policy_of(nic).unwrap();
    let of_pods = policy["pods"].as_array().unwrap().iter().map(|it| &it["offload"]);
    let from_outside = policy["fromOutside"].as_object().unwrap().values();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of_pods
        .chain(from_outside)
        .flat_map(|it| it["software"].as_array().unwrap())
        .map(|it| (text(&it["filter"]), text(&it["why"])))
        .collect()
}

fn refused(nic: Nic) -> Vec<(String, String)> {
    in_software(nic).into_iter().filter(|it| it.1 == REFUSED).collect()
}

/// What hardware could run, and does not.
fn not_as_foreseen(nic: Nic) -> Vec<(String, String)> {
    in_software(nic).into_iter().filter(|it| it.1 == REFUSED || it.1 == LOST).collect()
}

/// What the kernel says by iproute2 of the filters of all ports that OVS has: in hardware, and not.
fn filters(nic: Nic) -> (usize, usize) {
    let ports =
        nic.run(&["sh", "-c", "ls -d /sys/class/net/*/upper_ovs-system /sys/class/net/*/master 2>/dev/null"]);
    let devices: Vec<&str> = ports.stdout.lines().filter_map(|it| it.split('/').nth(4)).collect();
    let mut count = (0, 0);
    for device in devices {
        let said = nic.run(&["tc", "-s", "filter", "show", "dev", device, "ingress"]).stdout;
        count.1 += said.lines().filter(|line| line.trim() == "not_in_hw").count();
        count.0 += said.lines().filter(|line| line.trim().starts_with("in_hw")).count();
    }
    count
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "a", "name": name, "uid": name}, "spec": spec})
}

/// Two sets of policies in which `a1` may reach `a2` and `a3` on a few ports, and nobody else may, by other rules each;
/// and one in which nobody may.
fn sets(lab: &PolicyLab) -> [Vec<Value>; 3] {
    let open = lab.objects();
    let servers = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a2", "a3"]}]});
    let ports = json!([{"protocol": "UDP", "port": UDP}, {"protocol": "TCP", "port": TCP}, {"protocol": "SCTP", "port": SCTP}]);
    let blocks: Vec<Value> = lab
        .addresses(lab.index("a1"))
        .iter()
        .map(|ip| json!({"ipBlock": {"cidr": format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })}}))
        .collect();
    let client = json!([{"podSelector": {"matchLabels": {"app": "a1"}}}]);
    let of = |name, ingress: Value| {
        policy(name, &json!({"podSelector": servers, "policyTypes": ["Ingress"], "ingress": ingress}))
    };
    [
        of("by-pod", json!([{"from": client, "ports": ports}])),
        of("by-block", json!([{"from": blocks, "ports": ports}])),
        of("nobody", json!([])),
    ]
    .map(|policy| open.iter().cloned().chain([policy]).collect())
}

/// Everybody to the pods that are selected, by a port that is allowed and by one that is not.
#[track_caller]
fn no_differences(lab: &mut PolicyLab, what: &str, items: &[Value]) {
    let selected: Vec<_> = ["a2", "a3"].iter().flat_map(|it| lab.addresses(lab.index(it))).collect();
    let mut probes = lab.all_pairs(&[Tcp(TCP), Udp(UDP), Udp(81)]);
    probes.retain(|probe| selected.contains(&probe.to));
    let differences = lab.differences(items, &probes);
    let said: Vec<String> = differences.iter().map(|it| lab.describe(it)).collect();
    assert!(said.is_empty(), "{what}: {said:#?}");
}

/// What this hardware never takes is told, with the reason, without any fault.
fn the_reason_is_told(lab: &PolicyLab) {
    let (from, to) = (lab.pod(lab.index("a1")), lab.pod(lab.index("a2")));
    until("SCTP's ports are in software", PATIENCE, || {
        from.run(&["timeout", "2", "ncat", "--sctp", "-w", "1", &to.ip, &SCTP.to_string()]);
        let said = in_software(Nic(1));
        let wanted = "Only UDP and TCP transports are supported for L4 matching";
        if said.iter().any(|it| it.1.contains(wanted)) { Ok(()) } else { Err(format!("{said:#?}")) }
    });
}

fn under(lab: &mut PolicyLab, fault: &Fault, sets: &[Vec<Value>; 3]) {
    let began = Instant::now();
    let before = NICS.map(|nic| offered_anew(nic, fault.cause));
    let knobs: Vec<Knob> = NICS.iter().flat_map(|nic| (fault.inject)(*nic)).collect();
    lab.enforce(&sets[1]);
    no_differences(lab, fault.name, &sets[1]);
    if !knobs.is_empty() {
        says_why(fault);
    }
    lab.enforce(&sets[0]);
    tighten(lab, fault, sets);
    lab.enforce(&sets[0]);
    lab.settle();
    let busy = Busy::start(lab);
    drop(knobs);
    recover(lab, fault, before);
    NICS.into_iter().for_each(nothing_stays);
    busy.stop();
    println!("{}: {:.1} s", fault.name, began.elapsed().as_secs_f64());
}

/// `/policy`, the metrics and the kernel agree that something is refused, be it on one NIC: what was there before the fault
/// and is in use stays in hardware.
fn says_why(fault: &Fault) {
    let said = until(&format!("{}: a NIC says why", fault.name), PATIENCE, || {
        let look = |nic: Nic| {
            let counted = nic.metric("drawbridge_nic_agent_filters{outcome=\"refused\"}");
            (refused(nic), counted, filters(nic))
        };
        let seen = NICS.map(look);
        match seen.iter().find(|(said, counted, kernel)| !said.is_empty() && *counted > 0.0 && kernel.1 > 0) {
            Some((said, ..)) => Ok(said.clone()),
            None => Err(format!("{seen:#?}")),
        }
    });
    println!("  {} filters: {REFUSED}; first: {}", said.len(), said[0].0);
}

/// How often each agent has asked its hardware whether it takes now what it has refused, by the answer.
fn asked_anew(outcome: &str) -> [f64; 2] {
    NICS.map(|nic| nic.metric(&format!("drawbridge_nic_agent_offload_probes_total{{outcome=\"{outcome}\"}}")))
}

/// What was asked of the hardware in other ports' stead is gone, by iproute2.
fn nothing_stays(nic: Nic) {
    let said = nic.run(&["tc", "filter", "show", "dev", "pf0hpf", "ingress"]).stdout;
    assert_eq!(said.matches("handle 0x").count(), 1, "what closes it, and nothing else: {said}");
}

/// Established connections end when the policy says so, whoever carries them.
fn tighten(lab: &mut PolicyLab, fault: &Fault, sets: &[Vec<Value>; 3]) {
    let [client, near, far] = ["a1", "a2", "a3"].map(|it| lab.index(it));
    let (datagrams, stream) = (
        Client::start(lab.pod(client), &lab.pod(near).ip, UDP, OFTEN),
        Stream::start(lab.pod(client), &lab.pod(far).ip6, TCP, OFTEN),
    );
    std::thread::sleep(Duration::from_secs(1));
    let reported = || NICS.map(|nic| nic.metric("drawbridge_nic_agent_tighten_duration_seconds_count"));
    let (before, began) = (reported(), Instant::now());
    lab.enforce(&sets[2]);
    lab.settle();
    let took = began.elapsed();
    let sender = lab.pod(client);
    let filter = format!("(tcp or udp) and (src host {} or src host {})", sender.ip, sender.ip6);
    let captures = [near, far].map(|it| Capture::start(&lab.pod(it).place(), "eth0", &filter));
    std::thread::sleep(Duration::from_secs(1));
    let arrived: Vec<String> = captures.into_iter().flat_map(Capture::stop).collect();
    assert!(arrived.is_empty(), "{}: after the policy has settled: {arrived:#?}", fault.name);
    assert!(datagrams.stop().lost() > 0 && stream.stop().lost() > 0, "both were cut");
    let after = reported();
    assert!(before.iter().zip(after).all(|(before, after)| *before < after), "{before:?} {after:?}");
    println!("  tightened and settled in {:.2} s", took.as_secs_f64());
}

/// Allowed traffic that never pauses.
struct Busy {
    datagrams: [Client; 2],
    stream: Stream,
}

impl Busy {
    fn start(lab: &PolicyLab) -> Self {
        let [client, near, far] = ["a1", "a2", "a3"].map(|it| lab.pod(lab.index(it)));
        let datagrams = [&near.ip, &far.ip6].map(|to| Client::start(client, to, UDP, OFTEN));
        Self { datagrams, stream: Stream::start(client, &far.ip, TCP, OFTEN) }
    }

    /// It went on all the time.
    fn stop(self) {
        self.datagrams.iter().for_each(Client::halt);
        let stream = self.stream.stop();
        println!("  TCP meanwhile: {stream:?}");
        assert_eq!(stream.lost(), 0, "a connection did not survive: {stream:?}");
        for report in self.datagrams.map(Client::stop) {
            println!("  UDP meanwhile: {report:?}");
            // An emulated machine drops some of its own.
            assert!(report.lost() * 10 < report.sent, "{report:?}");
        }
    }
}

/// Room is back: the eSwitch has the rules again, also of traffic that never pauses.
fn recover(lab: &PolicyLab, fault: &Fault, before: [f64; 2]) {
    let client = lab.index("a1");
    let began = Instant::now();
    for nic in NICS {
        until(&format!("{}: {nic:?} is as before", fault.name), PATIENCE * 2, || {
            // What is refused may end by itself, with its traffic, and nobody sees at once what is lost.
            let offered = offered_anew(nic, fault.cause) - before[usize::from(nic.0) - 1];
            let (said, was_offered) = (not_as_foreseen(nic), offered > 0.0 || fault.cause == "refused");
            let (frames, carried) = (Counters::of(nic.0), carried(nic.0, &lab.pod(client).ip6).len());
            std::thread::sleep(Duration::from_millis(500));
            let ended = Counters::of(nic.0).since(frames).hardware;
            if said.is_empty() && was_offered && carried > 0 && ended > 0 {
                Ok(())
            } else {
                Err(format!("offered anew {offered} times, carried {carried}, ended {ended}, {said:#?}"))
            }
        });
        println!(
            "  {nic:?} recovered {:.1} s later, tc (in hardware, not): {:?}, rules {}",
            began.elapsed().as_secs_f64(),
            filters(nic),
            fault::rules(nic)
        );
    }
}

#[test]
fn faults_of_the_nic_open_nothing() {
    let mut lab = PolicyLab::start();
    let sets = sets(&lab);
    lab.enforce(&sets[0]);
    lab.settle();
    the_reason_is_told(&lab);
    let [client, near, far, other, distant] = ["a1", "a2", "a3", "b1", "b2"].map(|it| lab.index(it));
    let denied = {
        let receivers = [lab.pod(near), lab.pod(far)];
        [
            Denied::start(&[lab.pod(other), lab.pod(distant)], &receivers, UDP, patience(KNOCK)),
            Denied::start(&[lab.pod(client)], &receivers, CLOSED, patience(KNOCK)),
        ]
    };
    for nic in NICS {
        assert!(offered_anew(nic, "lost") == 0.0, "{nic:?} has lost nothing yet");
    }
    for fault in &FAULTS {
        under(&mut lab, fault, &sets);
    }
    // While the table is full there is always something to ask for. Whether anything is left to be taken when there is room
    // again depends on whose traffic has ended by then.
    let [refused, taken] = ["refused", "taken"].map(asked_anew);
    println!("asked anew: refused {refused:?}, taken {taken:?}");
    assert!(refused.iter().any(|it| *it > 0.0), "none was asked again");
    for (begun, arrived) in denied.map(Denied::stop) {
        println!("{begun} denied connections begun, {} packets of them arrived", arrived.len());
        assert!(arrived.is_empty(), "denied all the time: {arrived:#?}");
        assert!(begun > 100, "{begun}");
    }
}
