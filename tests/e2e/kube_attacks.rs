//! What one tenant writes into the API costs another neither its enforcement nor its connections. A tenant's policy is changed
//! again and again, and its connections go on, while nothing else happens; then the same while another tenant writes the
//! largest objects that the API server takes, again and again. On a lab with Kubernetes and cluster-controller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::UdpSocket;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::{Api, KubePod, Namespaces, Wanted};
use tests::policy_lab::policy_of;
use tests::traffic::{By, Client, Echo, Newcomers};
use tests::unharmed::{Seen, unharmed};
use tests::{Nic, netns, patience, place, until};

static API: LazyLock<Api> = LazyLock::new(Api::admin);
/// All pods are on its server.
const NIC: Nic = Nic(1);
const CALM: &str = "e2e-calm";
const LOUD: &str = "e2e-loud";
const CALM_POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/e2e-calm/networkpolicies";
const LOUD_POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/e2e-loud/networkpolicies";
const LOUD_SERVICES: &str = "/api/v1/namespaces/e2e-loud/services";

const CHANGES: usize = 4;
/// Of the tenant's connections, always allowed, and of what is allowed at times.
const PORT: u16 = 7777;
const AT_TIMES: u16 = 7778;
const OFTEN: Duration = Duration::from_millis(50);
const NEW: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_mins(2);
/// `MemoryMax` of the agent's unit.
const MEMORY_MAX: u64 = 256 << 20;

fn sleeps(namespace: &str, name: &str) -> Wanted {
    Wanted {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node: "host1",
        labels: json!({"app": name}),
        ports: json!([]),
        grace: 0,
    }
}

fn policy(name: &str, app: &str, ingress: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"], "ingress": ingress}})
}

fn allows(name: &str, port: u16) -> Value {
    policy(name, "b", &json!([{"ports": [{"protocol": "UDP", "port": port}]}]))
}

struct Scene {
    a: KubePod,
    b: KubePod,
}

impl Scene {
    fn answers(&self, of: &KubePod, port: u16) -> bool {
        let to = (of.addresses[0], port);
        netns::within(&self.a.place(), || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(patience(Duration::from_millis(500)))).unwrap();
            (0..4).any(|_| socket.send_to(b"drawbridge", to).is_ok() && socket.recv(&mut [0; 64]).is_ok())
        })
    }

    /// What reaches `b` is changed, and each time it is waited until it is so.
    fn change(&self, changes: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        for round in 0..changes {
            let is_allowed = round % 2 == 0;
            let began = Instant::now();
            if is_allowed {
                API.create(CALM_POLICIES, &allows("at-times", AT_TIMES));
            } else {
                API.delete(&format!("{CALM_POLICIES}/at-times"));
            }
            // By packets: of a kind's versions `source` says only up to which all are in, the other tenant's, too.
            until(&format!("change {round} is in force"), PATIENCE, || {
                if self.answers(&self.b, AT_TIMES) == is_allowed { Ok(()) } else { Err(String::new()) }
            });
            times.push(began.elapsed());
        }
        times
    }

    /// The tenant, while whatever goes on goes on.
    fn look(&self, changes: usize) -> Seen {
        let to = self.b.addresses[0].to_string();
        let standing = Client::start(&self.a, &to, PORT, patience(OFTEN));
        let new = Newcomers::start(&self.a, &to, PORT, By::Udp, patience(NEW));
        let changes = self.change(changes);
        standing.halt();
        new.halt();
        Seen::new(changes, &[standing.stop(), new.stop()])
    }
}

/// Writes the objects again and again while something else goes on, as fast as the API server takes them. Returns how often it
/// did.
fn writing<T>(paths: &[String], meanwhile: impl FnOnce() -> T) -> (T, usize) {
    let stop = AtomicBool::new(false);
    let goes_on = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 0;
            for path in paths.iter().cycle().take_while(|_| goes_on()) {
                let change = json!({"metadata": {"annotations": {"written": written.to_string()}}});
                API.patch(path, &change);
                written += 1;
            }
            written
        });
        // Also when it fails: else nobody tells the writer to end.
        let guard = Stop(&stop);
        let seen = meanwhile();
        drop(guard);
        (seen, writer.join().unwrap())
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes, the most that it ever was.
fn memory(nic: Nic) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", nic.pid("agent"))).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// What the agent says of the other tenant's objects.
fn reported(of: &str) {
    until(&format!("the agent reports {of}"), PATIENCE, || {
        let said = policy_of(NIC)?["reports"].to_string();
        if said.contains(&format!("{LOUD}/{of}")) { Ok(()) } else { Err(said) }
    });
}

fn excepts(name: &str, app: &str) -> Value {
    let holes: Vec<String> =
        (0..8000_u32).map(|it| format!("10.{}.{}.{}/32", it % 200, it / 200, it % 13 * 19)).collect();
    policy(name, app, &json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": holes}}]}]))
}

/// 1.2 MB of rules that say nothing.
fn rules(name: &str, app: &str) -> Value {
    policy(name, app, &json!(vec![json!({}); 400_000]))
}

fn service(name: &str) -> Value {
    let ports: Vec<Value> =
        (1..=2000).map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "x"}, "ports": ports}})
}

fn balancers() -> usize {
    let said =
        place("central", &["ovn-nbctl", "--timeout=60", "--bare", "--columns=name", "find", "Load_Balancer"]);
    said.ok().lines().filter(|name| name.starts_with(LOUD)).count()
}

#[test]
fn what_a_tenant_writes_costs_another_nothing() {
    let namespaces = Namespaces::create(&API, &[(CALM, json!({})), (LOUD, json!({}))]);
    let mut pods = namespaces.run(&[sleeps(CALM, "a"), sleeps(CALM, "b"), sleeps(LOUD, "x")]);
    let x = pods.pop().unwrap();
    let b = pods.pop().unwrap();
    let scene = Scene { a: pods.pop().unwrap(), b };
    let _echoes = [Echo::start(&scene.b, PORT), Echo::start(&scene.b, AT_TIMES), Echo::start(&x, PORT)];
    API.create(CALM_POLICIES, &allows("always", PORT));
    until("the tenant's pods reach each other", PATIENCE, || {
        if scene.answers(&scene.b, PORT) && scene.answers(&x, PORT) { Ok(()) } else { Err(String::new()) }
    });
    // The first one is slower: everything is new to the switch.
    scene.look(2);
    let quiet = scene.look(CHANGES);
    quiet.tell("quiet");
    let before = memory(NIC);

    let made = |collection: &str, objects: Vec<Value>| -> Vec<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
        objects
            .iter()
            .map(|object| {
                API.create(collection, object);
                format!("{collection}/{}", name(object))
            })
            .collect()
    };
    let gone = |paths: Vec<String>| paths.iter().for_each(|path| API.delete(path));

    let superseded =
        || NIC.metric(r#"drawbridge_nic_agent_watch_events_total{kind="networkpolicies",what="superseded"}"#);
    let paths = made(LOUD_POLICIES, (0..4).map(|it| excepts(&format!("excepts-{it}"), "x")).collect());
    reported("excepts-3");
    let written =
        unharmed(NIC, &quiet, "policies of 8000 excepts", || writing(&paths, || scene.look(CHANGES)));
    println!("  written {written} times");
    assert!(written > 1, "that was no attack: {written}");
    assert!(!scene.answers(&x, PORT), "what is too much isolates its own pod");
    gone(paths);

    println!("  superseded before they were read: {}", superseded());
    let paths = made(LOUD_POLICIES, (0..8).map(|it| rules(&format!("rules-{it}"), "x")).collect());
    reported("rules-7");
    let written =
        unharmed(NIC, &quiet, "policies of 400000 rules", || writing(&paths, || scene.look(CHANGES)));
    println!("  written {written} times");
    assert!(written > 1, "that was no attack: {written}");
    assert!(!scene.answers(&x, PORT), "what is too much isolates its own pod");
    gone(paths);
    until("the other tenant's pod is reached again", PATIENCE, || {
        if scene.answers(&x, PORT) { Ok(()) } else { Err(String::new()) }
    });

    let paths = made(LOUD_SERVICES, (0..50).map(|it| service(&format!("ports-{it}"))).collect());
    reported("ports-0");
    let written =
        unharmed(NIC, &quiet, "50 Services of 2000 ports", || writing(&paths, || scene.look(CHANGES)));
    println!("  written {written} times");
    assert!(written > 1, "that was no attack: {written}");
    assert_eq!(balancers(), 0, "what is too much has no load balancer");
    gone(paths);
    // The next one, of a size that honest users have, has.
    API.create(
        LOUD_SERVICES,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "small"},
        "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}),
    );
    until("a small Service has a load balancer", PATIENCE, || {
        if balancers() == 1 { Ok(()) } else { Err(String::new()) }
    });

    let most = memory(NIC);
    println!("the agent has had {} MiB at most, {} before the attacks", most >> 20, before >> 20);
    assert!(most < MEMORY_MAX, "{most}");
}
