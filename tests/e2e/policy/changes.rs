//! Policies that change while packets are on their way.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::counters::carried;
use tests::netns;
use tests::nic::{NICS, Nic};
use tests::policy_lab::PolicyLab;
use tests::traffic::{By, Client, Newcomers, Report, Stream};
use tests::{Capture, Pod, patience};

use crate::cases::{app, policy};
use crate::with;

/// Served by every pod of the lab.
const UDP: u16 = 53;
const TCP: u16 = 80;
/// Of each connection that is kept busy, on the reference machine; and between the connections that a pod begins to one
/// address. What a slower machine's lab is to carry it gets in as much more time: else it drops some by itself.
const OFTEN: Duration = Duration::from_millis(50);
const KNOCK: Duration = Duration::from_millis(400);
/// OVS, when it is busy, forgets flows of fewer than five packets a second (`min-revalidate-pps`).
const SELDOM: Duration = Duration::from_millis(150);

fn from_clients(scope: &Value) -> Value {
    policy("a", "web", &json!({"podSelector": app("web"), "ingress": [{"from": scope}]}))
}

/// Established connections from one pod: both protocols to each address.
pub struct Held {
    name: String,
    datagrams: Vec<Client>,
    streams: Vec<Stream>,
}

impl Held {
    pub fn start(from: &Pod, to: &[&str]) -> Self {
        let often = patience(OFTEN).min(SELDOM);
        Self {
            name: from.name.clone(),
            datagrams: to.iter().map(|it| Client::start(from, it, UDP, often)).collect(),
            streams: to.iter().map(|it| Stream::start(from, it, TCP, often)).collect(),
        }
    }

    /// Of each connection.
    pub fn stop(self) -> Vec<Report> {
        self.datagrams.iter().for_each(Client::halt);
        self.streams.iter().for_each(Stream::halt);
        let datagrams = self.datagrams.into_iter().map(Client::stop);
        let reports: Vec<Report> = datagrams.chain(self.streams.into_iter().map(Stream::stop)).collect();
        println!("  {}: {reports:?}", self.name);
        reports
    }
}

fn watch(pods: &[&Pod], filter: &str) -> Vec<Capture> {
    pods.iter().map(|pod| Capture::start(&pod.place(), "eth0", filter)).collect()
}

fn seen(captures: Vec<Capture>) -> Vec<String> {
    captures.into_iter().flat_map(Capture::stop).collect()
}

/// In pcap-filter(7)'s words: what these pods send.
fn from(pods: &[&Pod]) -> String {
    let hosts: Vec<String> =
        pods.iter().flat_map(|it| [&it.ip, &it.ip6]).map(|ip| format!("src host {ip}")).collect();
    format!("({})", hosts.join(" or "))
}

/// Taken away and put back: what is allowed all the time never notices, what is denied passes only in between.
pub fn removed_and_restored(lab: &mut PolicyLab, open: &[Value]) {
    let rule =
        with(open.to_vec(), &[from_clients(&json!([{"podSelector": {"matchLabels": {"role": "client"}}}]))]);
    lab.enforce(&rule);
    lab.settle();
    let denied = ["b1", "b2"].map(|it| lab.index(it));
    let (client, near, far) = (lab.index("a1"), lab.index("a2"), lab.index("a3"));
    let to: Vec<(usize, String)> = [near, far]
        .iter()
        .flat_map(|it| [&lab.pod(*it).ip, &lab.pod(*it).ip6].map(|ip| (*it, ip.clone())))
        .collect();
    let addresses: Vec<&str> = to.iter().map(|it| it.1.as_str()).collect();
    let held = Held::start(lab.pod(client), &addresses);
    let mut knocking = Vec::new();
    let knock = patience(KNOCK);
    for from in denied {
        for address in &addresses {
            knocking.push(Newcomers::start(lab.pod(from), address, UDP, By::Udp, knock));
            knocking.push(Newcomers::start(lab.pod(from), address, TCP, By::Tcp, knock));
        }
    }
    let arrivals = |lab: &PolicyLab, what: &str, seconds: u64| {
        let receivers = [near, far].map(|it| lab.pod(it));
        let captures = watch(&receivers, &format!("{what} and {}", from(&denied.map(|it| lab.pod(it)))));
        std::thread::sleep(patience(Duration::from_secs(seconds)));
        seen(captures)
    };
    let arrived = arrivals(lab, "(tcp or udp)", 3);
    assert!(arrived.is_empty(), "denied, in force: {arrived:#?}");
    lab.enforce(open);
    let arrived = arrivals(lab, "(tcp or udp)", 2);
    assert!(arrived.len() > 10, "removed, so all arrive: {arrived:#?}");
    lab.enforce(&rule);
    // A datagram is a connection's only one here. What TCP has begun in between is about to be cut.
    let arrived = arrivals(lab, "udp", 2);
    assert!(arrived.is_empty(), "new connections after the policy is back: {arrived:#?}");
    lab.settle();
    let arrived = arrivals(lab, "(tcp or udp)", 3);
    assert!(arrived.is_empty(), "denied, in force again: {arrived:#?}");
    println!("removed and restored under traffic:");
    for report in held.stop() {
        assert_eq!(report.lost(), 0, "an allowed connection noticed: {report:?}");
    }
    knocking.iter().for_each(Newcomers::halt);
    let knocked: u32 = knocking.into_iter().map(|it| it.stop().sent).sum();
    println!("  {knocked} connections of denied pods");
}

/// What the agent has logged since, of connections that it has cut: how long it took in milliseconds, and whether the
/// hardware is known to have let go.
fn cut_log(nic: Nic, since: usize) -> Vec<(u64, bool)> {
    let log = agent_log(nic);
    let field = |line: &str, name: &str| {
        line.split_whitespace().find_map(|it| it.strip_prefix(&format!("{name}=")).map(str::to_owned))
    };
    log[since..]
        .lines()
        .filter(|line| line.contains("connections cut that policy no longer allows"))
        .map(|line| {
            let took = field(line, "took_ms").and_then(|it| it.parse().ok());
            (
                took.unwrap_or_else(|| panic!("took_ms in {line}")),
                field(line, "released").as_deref() == Some("true"),
            )
        })
        .collect()
}

fn agent_log(nic: Nic) -> String {
    std::fs::read_to_string(format!("/share/logs/{}/agent.log", nic.place())).expect("the agent's log")
}

/// A tighter policy ends what it denies, in the eSwitch, too, and nothing else.
pub fn tightened(lab: &mut PolicyLab, open: &[Value]) {
    let both = json!([{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"team": "b"}}}]);
    let one = json!([{"namespaceSelector": {"matchLabels": {"team": "b"}}}]);
    lab.enforce(&with(open.to_vec(), &[from_clients(&both)]));
    lab.settle();
    let [client, near, far, other] = ["a1", "a2", "a3", "b1"].map(|it| lab.index(it));
    let receivers = |lab: &PolicyLab| [near, far].map(|it| [lab.pod(it).ip.clone(), lab.pod(it).ip6.clone()]);
    let addresses = receivers(lab);
    let addresses: Vec<&str> = addresses.as_flattened().iter().map(String::as_str).collect();
    let cut = Held::start(lab.pod(client), &addresses);
    let kept = Held::start(lab.pod(other), &addresses);
    std::thread::sleep(patience(Duration::from_secs(4)));
    let in_hardware = |lab: &PolicyLab| {
        let of = |nic: Nic, ip: &str| carried(nic.0, ip);
        let sender = lab.pod(client);
        // Of the receivers' zones: the sender's own policy has not changed.
        let zones = NICS.map(|nic| zones(nic, &[&lab.pod(near).uid, &lab.pod(far).uid]));
        let all = NICS.iter().zip(zones).flat_map(|(nic, zones)| {
            [of(*nic, &sender.ip), of(*nic, &sender.ip6)]
                .concat()
                .into_iter()
                .filter(move |line| zones.iter().any(|zone| line.contains(&format!(" zone {zone} "))))
        });
        all.collect::<Vec<_>>()
    };
    let before = in_hardware(lab);
    assert!(before.len() >= 8, "the eSwitches carry these connections: {before:#?}");
    let logged = NICS.map(|nic| agent_log(nic).len());
    let measured = NICS.map(|nic| nic.metric("drawbridge_nic_agent_tighten_duration_seconds_count"));

    let began = Instant::now();
    lab.enforce(&with(open.to_vec(), &[from_clients(&one)]));
    let in_force = began.elapsed();
    lab.settle();
    let settled = began.elapsed();
    let left = in_hardware(lab);
    assert!(left.is_empty(), "settled, and yet in the eSwitch: {left:#?}");
    let sender = lab.pod(client);
    let captures = watch(&[lab.pod(near), lab.pod(far)], &format!("(tcp or udp) and {}", from(&[sender])));
    std::thread::sleep(patience(Duration::from_secs(4)));
    let arrived = seen(captures);
    assert!(arrived.is_empty(), "after the policy has settled: {arrived:#?}");
    println!(
        "tightened: in force after {:.2} s, settled after {:.2} s",
        in_force.as_secs_f64(),
        settled.as_secs_f64()
    );
    for (nic, (since, count)) in NICS.iter().zip(logged.iter().zip(measured)) {
        let said = cut_log(*nic, *since);
        println!("  {nic:?} logged, in ms, and whether the hardware has let go: {said:?}");
        assert!(!said.is_empty() && said.iter().all(|it| it.1), "{nic:?}: {said:?}");
        assert!(
            nic.metric("drawbridge_nic_agent_tighten_duration_seconds_count") > count,
            "{nic:?} measures it"
        );
    }
    for report in cut.stop() {
        assert!(report.lost() > 0, "cut: {report:?}");
    }
    for report in kept.stop() {
        assert_eq!(report.lost(), 0, "an allowed connection noticed: {report:?}");
    }
}

/// Zones of these pods, of those that this NIC has.
pub fn zones(nic: Nic, uids: &[&str]) -> Vec<u64> {
    let policy = tests::policy_lab::policy_of(nic).unwrap();
    let pods = policy["pods"].as_array().unwrap();
    let ours = pods.iter().filter(|it| uids.contains(&it["uid"].as_str().unwrap_or_default()));
    ours.map(|it| it["zone"].as_u64().unwrap()).collect()
}

/// A pod that knocks all the time is let in as soon as the policy says so.
pub fn loosened(lab: &mut PolicyLab, open: &[Value]) {
    let deny = policy("a", "deny-in", &json!({"podSelector": app("web"), "policyTypes": ["Ingress"]}));
    lab.enforce(&with(open.to_vec(), &[deny]));
    lab.settle();
    let (client, receivers) = (lab.index("a1"), ["a2", "a3"].map(|it| lab.index(it)));
    let mut knocking = Vec::new();
    for to in receivers {
        for address in [&lab.pod(to).ip, &lab.pod(to).ip6] {
            let address: std::net::IpAddr = address.parse().unwrap();
            let place = lab.pod(client).place();
            knocking.push((address, netns::spawn(&place, move || first_answer(address))));
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    assert!(knocking.iter().all(|it| !it.1.is_finished()), "denied until now");
    lab.enforce(open);
    let in_force = began.elapsed();
    for (address, thread) in knocking {
        let answered = thread.join().unwrap().unwrap_or_else(|| panic!("{address} never let it in"));
        println!(
            "loosened: {address} answers {:.2} s after the policy was written, in force after {:.2} s",
            answered.duration_since(began).as_secs_f64(),
            in_force.as_secs_f64()
        );
    }
}

/// When a datagram was first answered that is sent again and again, in one connection.
fn first_answer(address: std::net::IpAddr) -> Option<Instant> {
    let any: std::net::IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect((address, UDP)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let end = Instant::now() + patience(Duration::from_mins(1));
    while Instant::now() < end {
        let _ = socket.send(b"knock");
        if socket.recv(&mut [0; 16]).is_ok() {
            return Some(Instant::now());
        }
    }
    None
}
