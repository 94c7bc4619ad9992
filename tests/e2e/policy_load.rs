//! Policies are changed again and again under a thousand packets a second (as many fewer as this machine is slower than the
//! reference machine) that all of them allow: none is lost. What all of them deny is sent all the time, and never arrives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::policy_lab::PolicyLab;
use tests::traffic::{By, Client, Denied, Echo, Newcomers, Report};
use tests::{Pod, patience, until};

const FLIPS: usize = 8;
const PORT: u16 = 7777;
/// In one connection, on the reference machine; a slower one carries less in the same time. The pod on the other server
/// gets less: each packet between servers is a lot of work for an emulated processor.
const NEAR: Duration = Duration::from_micros(2300);
const FAR: Duration = Duration::from_millis(25);
/// One new connection each.
const NEW: Duration = Duration::from_millis(66);
const KNOCK: Duration = Duration::from_secs(1);
/// Between two flips, to see what the new rules do by themselves.
const BETWEEN: Duration = Duration::from_millis(500);
/// The machine is emulated, and others compute on it: it loses packets of its own. What a flip loses, each flip loses.
const ATTEMPTS: usize = 4;
const PATIENCE: Duration = Duration::from_mins(1);

/// 430 datagrams a second in one connection to a pod on the same server, 40 to one on the other, and 15 new connections a
/// second to each: with the answers 1000 packets a second.
struct Load {
    steady: Vec<Client>,
    new: Vec<Newcomers>,
    began: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    sent: u32,
    lost: u32,
}

impl Load {
    fn start(from: &Pod, to: [&str; 2]) -> Self {
        Self {
            steady: to
                .iter()
                .zip([NEAR, FAR])
                .map(|(it, often)| Client::start(from, it, PORT, patience(often)))
                .collect(),
            new: to.iter().map(|it| Newcomers::start(from, it, PORT, By::Udp, patience(NEW))).collect(),
            began: Instant::now(),
        }
    }

    fn stop(self, what: &str) -> Count {
        let seconds = self.began.elapsed().as_secs_f64();
        self.steady.iter().for_each(Client::halt);
        self.new.iter().for_each(Newcomers::halt);
        let steady: Vec<Report> = self.steady.into_iter().map(Client::stop).collect();
        let new: Vec<Report> = self.new.into_iter().map(Newcomers::stop).collect();
        let all = || steady.iter().chain(&new);
        let count = Count { sent: all().map(|it| it.sent).sum(), lost: all().map(Report::lost).sum() };
        let rate = f64::from(2 * count.sent) / seconds;
        println!(
            "{what}: {count:?}, with answers {rate:.0} packets/s for {seconds:.0} s, steady {steady:?}, new {new:?}"
        );
        count
    }
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "a", "name": name, "uid": name}, "spec": spec})
}

/// Two sets of policies that both allow the client to send to the servers, and nobody else, by other rules each; both
/// directions of every pod of the namespace change.
fn both(lab: &PolicyLab) -> [Vec<Value>; 2] {
    let open = lab.objects();
    let client = json!({"podSelector": {"matchLabels": {"app": "a1"}}});
    let servers = ["a2", "a3"].map(|it| lab.addresses(lab.index(it)));
    let block = |ip: std::net::IpAddr| {
        let length = if ip.is_ipv4() { 32 } else { 128 };
        json!({"ipBlock": {"cidr": format!("{ip}/{length}")}})
    };
    let servers: Vec<Value> = servers.as_flattened().iter().map(|ip| block(*ip)).collect();
    let own = lab.addresses(lab.index("a1"));
    let by_pod = [
        policy(
            "in",
            &json!({"podSelector": {}, "ingress": [{"from": [client], "ports": [{"protocol": "UDP", "port": PORT}]}]}),
        ),
        policy(
            "out",
            &json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": {}}], "ports": [{"protocol": "UDP", "port": PORT}]}]}),
        ),
    ];
    let range = json!([{"protocol": "UDP", "port": 7000, "endPort": 7900}, {"protocol": "TCP", "port": 80}]);
    let by_block = [
        policy(
            "blocks-in",
            &json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
            "ingress": [{"from": own.map(block), "ports": range}]}),
        ),
        policy(
            "blocks-out",
            &json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": servers}]}),
        ),
    ];
    [by_pod, by_block].map(|policies| open.iter().cloned().chain(policies).collect())
}

#[test]
fn flips_under_load() {
    let mut lab = PolicyLab::start();
    let snapshots = both(&lab);
    lab.enforce(&snapshots[0]);
    lab.settle();
    let [client, near, far, other, distant] = ["a1", "a2", "a3", "b1", "b2"].map(|it| lab.index(it));
    let _echoes = [near, far].map(|it| Echo::start(lab.pod(it), PORT));
    // One by each version of IP.
    let (to_near, to_far) = (lab.pod(near).ip.clone(), lab.pod(far).ip6.clone());
    let to = [to_near.as_str(), to_far.as_str()];

    // Denied by both: others to the same port, the client to another one.
    let receivers = [near, far].map(|it| lab.pod(it));
    let denied = [
        Denied::start(&[lab.pod(other), lab.pod(distant)], &receivers, PORT, patience(KNOCK)),
        Denied::start(&[lab.pod(client)], &receivers, 9999, patience(KNOCK)),
    ];

    // The datapath's flows are made by the first packets, one at a time: a thousand would wait in OVS's queue.
    for to in to {
        until(&format!("{to} answers"), PATIENCE, || {
            let client = Client::start(lab.pod(client), to, PORT, Duration::from_millis(100));
            std::thread::sleep(Duration::from_secs(1));
            let report = client.stop();
            if report.lost() == 0 { Ok(()) } else { Err(format!("{report:?}")) }
        });
    }

    let mut attempts = Vec::new();
    while attempts.len() < ATTEMPTS && attempts.last().is_none_or(|it: &Count| it.lost > 0) {
        let load = Load::start(lab.pod(client), to);
        let mut longest = Duration::ZERO;
        for flip in 1..=FLIPS {
            std::thread::sleep(BETWEEN);
            let began = Instant::now();
            lab.enforce(&snapshots[flip % 2]);
            longest = longest.max(began.elapsed());
        }
        std::thread::sleep(BETWEEN);
        attempts
            .push(load.stop(&format!("{FLIPS} flips, each in force within {:.2} s", longest.as_secs_f64())));
    }

    let mut knocked = 0;
    for (begun, arrived) in denied.map(Denied::stop) {
        println!("{begun} denied connections begun, {} packets of them arrived", arrived.len());
        assert!(arrived.is_empty(), "denied by every policy: {arrived:#?}");
        knocked += begun;
    }
    assert!(knocked > 100, "{knocked}");
    assert!(attempts.iter().all(|it| it.sent > 2000), "{attempts:?}");
    assert!(attempts.iter().any(|it| it.lost == 0), "each time some were lost: {attempts:?}");
    // What the tables hold at the end does deny and allow.
    let probes = lab.all_pairs(&[tests::policy_lab::Kind::Udp(80), tests::policy_lab::Kind::Tcp(80)]);
    let differences = lab.differences(&snapshots[FLIPS % 2], &probes);
    let said: Vec<String> = differences.iter().map(|it| lab.describe(it)).collect();
    assert!(said.is_empty(), "{said:#?}");
}
