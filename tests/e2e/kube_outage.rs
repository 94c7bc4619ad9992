//! The API server is gone, under traffic, and the NICs' daemons are killed meanwhile: what was allowed goes on, what was
//! denied never passes. Edits of which the agents could not hear take effect when it is back.
//!
//! First the agents' way to the API server is cut, without a word, as by a broken cable: then the edits are made. Then the API
//! server itself is killed, for `DRAWBRIDGE_OUTAGE_SECONDS` (60). What a NIC does while it does not answer at all, while it
//! refuses, and when it comes back with another state than the one that was known, are all there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::{Api, KubePod, Namespaces, PATIENCE, Wanted, control_plane, in_force, version};
use tests::command::daemon;
use tests::nic::{NICS, Nic};
use tests::policy_lab::{Kind, Pace, Probe, Range, Stand};
use tests::traffic::{Denied, Stream, TcpEcho};
use tests::{until, vm};

const HOME: &str = "outage";
const AWAY: &str = "outage-away";
/// Of the connections that last, and of what knocks; of the tables it is one of [`KINDS`].
const ECHO: u16 = 7777;
const KINDS: [Kind; 4] = [Kind::Tcp(80), Kind::Tcp(81), Kind::Udp(80), Kind::Udp(81)];

/// Namespace, name, server, role. Both servers have one that may and one that may not.
const PODS: [(&str, &str, &str, &str); 5] = [
    (HOME, "server", "host1", "server"),
    (HOME, "near", "host1", "client"),
    (HOME, "far", "host2", "client"),
    (HOME, "stranger", "host1", "other"),
    (AWAY, "away", "host2", "other"),
];
const SERVER: usize = 0;
/// A message of each connection that lasts.
const PACE: Duration = Duration::from_millis(200);
const KNOCK: Duration = Duration::from_millis(500);

const TABLES: Pace = Pace { exchanges: 1, wave: 36, late: Duration::from_secs(8) };

fn seconds() -> u64 {
    std::env::var("DRAWBRIDGE_OUTAGE_SECONDS")
        .map_or(60, |it| it.parse().unwrap_or_else(|e| panic!("{it}: {e}")))
}

/// Only these roles of its own namespace, and namespaces that are trusted.
fn policy(role: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "server"}, "spec": {
        "podSelector": {"matchLabels": {"role": "server"}}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"role": role}}}],
             "ports": [{"port": 80}, {"protocol": "UDP", "port": 81}, {"port": ECHO}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"trusted": "yes"}}}]}]}})
}

fn policy_path() -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies")
}

/// Who may reach the server, by the role that the policy names, and whether the other namespace is trusted.
fn allowed(probe: Probe, server: &KubePod, role: &str, is_trusted: bool) -> bool {
    let (namespace, _, _, own) = PODS[probe.from];
    let is_port = [Kind::Tcp(80), Kind::Udp(81)].contains(&probe.kind);
    !server.addresses.contains(&probe.to)
        || (namespace == HOME && own == role && is_port)
        || (namespace == AWAY && is_trusted)
}

struct Scene {
    pods: Vec<KubePod>,
    range: Range,
    tables: usize,
}

impl Scene {
    /// Everything in both directions of the table is as it should be, to the last packet.
    #[track_caller]
    fn holds(&mut self, when: &str, role: &str, is_trusted: bool) {
        let probes = self.range.all_pairs(&KINDS);
        let wanted: Vec<bool> =
            probes.iter().map(|it| allowed(*it, &self.pods[SERVER], role, is_trusted)).collect();
        let differences = self.range.compare(&probes, &wanted);
        let said: Vec<String> = differences.iter().take(10).map(|it| self.range.describe(it)).collect();
        assert!(said.is_empty(), "{when}: {} differences: {said:#?}", differences.len());
        self.tables += 1;
    }
}

/// The agents' way to the API server, on the machine between; open again when dropped.
struct Cut;

impl Cut {
    fn start() -> Self {
        vm(&["nft", "add table inet outage"]).ok();
        vm(&["nft", "add chain inet outage cut { type filter hook forward priority 0; }"]).ok();
        for nic in NICS {
            for way in ["saddr", "daddr"] {
                vm(&["nft", &format!("add rule inet outage cut ip {way} 10.0.3.1{} drop", nic.0)]).ok();
            }
        }
        Self
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        vm(&["nft", "delete table inet outage"]);
    }
}

/// Back again when dropped.
struct Stopped;

impl Stopped {
    fn start() -> Self {
        control_plane("stop", "kube-apiserver");
        Self
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        control_plane("start", "kube-apiserver");
    }
}

/// `br-edge` is whole: as many flows as before the kill, the same.
#[track_caller]
fn whole_again(nic: Nic, flows: &BTreeSet<String>) {
    until(&format!("{nic:?} has its flows back"), PATIENCE, || {
        let said =
            nic.run(&["ovs-ofctl", "-O", "OpenFlow15", "--no-stats", "--no-names", "dump-flows", "br-edge"]);
        let now: BTreeSet<String> =
            said.stdout.lines().map(|it| it.trim().to_owned()).filter(|it| it.contains("actions=")).collect();
        let (more, less) = (now.difference(flows).count(), flows.difference(&now).count());
        if (more, less) == (0, 0) {
            Ok(())
        } else {
            Err(format!("{more} more, {less} missing {}", said.stderr))
        }
    });
}

/// Each way of dying, one after the other, again and again until the time is over.
const DEATHS: [(&str, &str); 6] = [
    ("nic1", "agent"),
    ("nic2", "vswitchd"),
    ("nic1", "ovn-controller"),
    ("vm", "cluster-controller"),
    ("nic2", "agent"),
    ("nic1", "vswitchd"),
];

fn wait_for_the_api(api: &Api) {
    until("the API server answers", PATIENCE, || {
        api.get("/api/v1/namespaces/default").map_err(|e| format!("{e:?}"))
    });
}

/// Both agents say that all they read is current, and that what policy denies is ended.
#[track_caller]
fn agents_are_well() {
    for nic in NICS {
        until(&format!("{nic:?} is ready"), PATIENCE, || nic.ready());
    }
}

#[test]
fn nothing_changes_without_the_api_and_edits_take_effect_after_it() {
    let api = Api::admin();
    let namespaces = Namespaces::create(&api, &[(HOME, json!({})), (AWAY, json!({"trusted": "yes"}))]);
    let wanted = PODS.map(|(namespace, name, node, role)| Wanted {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node,
        labels: json!({"role": role}),
        ports: json!([]),
        grace: 0,
    });
    let pods = namespaces.run(&wanted);
    let stands = pods.iter().map(|pod| Stand {
        name: format!("{}/{}", pod.namespace, pod.name),
        place: pod.place(),
        addresses: pod.addresses,
    });
    let mut scene = Scene { range: Range::start(stands, TABLES), pods: pods.clone(), tables: 0 };
    api.create(&policy_path(), &policy("client"));
    let server = &pods[SERVER];
    in_tables(&api, server);
    scene.holds("before", "client", true);

    let _echo = TcpEcho::start(server, ECHO);
    let lasting: Vec<Stream> = ["near", "far", "away"]
        .iter()
        .flat_map(|name| {
            let pod = pods.iter().find(|it| it.name == *name).expect("a pod");
            server.addresses.map(|ip| Stream::start(pod, &ip.to_string(), ECHO, PACE))
        })
        .collect();
    let flows = NICS.map(Nic::flows);
    let stranger = pods.iter().find(|it| it.name == "stranger").expect("a pod");
    let denied = Denied::start(&[stranger], &[server], ECHO, KNOCK);

    let cut = Cut::start();
    // Whom the policy names, and who is trusted: nobody of those that may now, and the stranger.
    api.replace(&format!("{}/server", policy_path()), &policy("other"));
    api.patch(&format!("/api/v1/namespaces/{AWAY}"), &json!({"metadata": {"labels": {"trusted": null}}}));
    scene.holds("cut off, after the edits", "client", true);
    let stopped = Stopped::start();
    drop(cut);
    assert!(api.get("/api/v1/namespaces/default").is_err(), "the API server is gone");
    let end = Instant::now() + Duration::from_secs(seconds());
    let mut deaths = 0;
    // Each at least once, however long it takes.
    while deaths < DEATHS.len() || Instant::now() < end {
        let (at, program) = DEATHS[deaths % DEATHS.len()];
        daemon(at, program, "kill");
        daemon(at, program, "start");
        for (nic, flows) in NICS.iter().zip(&flows) {
            whole_again(*nic, flows);
        }
        scene.holds(&format!("without the API, after the death of {at} {program}"), "client", true);
        deaths += 1;
    }
    assert!(api.get("/api/v1/namespaces/default").is_err(), "the API server is still gone");
    let (knocked, passed) = denied.stop();
    assert_eq!(passed, Vec::<String>::new(), "of {knocked} connections");
    let reports: Vec<_> = lasting.into_iter().map(Stream::stop).collect();
    for report in &reports {
        assert_eq!(report.lost(), 0, "established connections go on: {reports:?}");
    }

    let back = Instant::now();
    drop(stopped);
    wait_for_the_api(&api);
    in_tables(&api, server);
    let took = back.elapsed();
    agents_are_well();
    scene.holds("with the API again", "other", false);
    println!(
        "{deaths} deaths without the API, {knocked} denied connections, none passed; {} established ones, {} messages, longest \
         gap {:?}; {} tables; edits in force {:.1} s after the API server was started",
        reports.len(),
        reports.iter().map(|it| it.sent).sum::<u32>(),
        reports.iter().map(|it| it.longest_gap).max().unwrap_or_default(),
        scene.tables,
        took.as_secs_f64()
    );
    drop(scene);
}

/// The server's NIC enforces what the API server has now.
#[track_caller]
fn in_tables(api: &Api, server: &KubePod) {
    let kinds = [
        ("networkpolicies", format!("{}/server", policy_path())),
        ("namespaces", format!("/api/v1/namespaces/{AWAY}")),
    ];
    let versions = kinds.map(|(kind, path)| (kind, version(&api.get(&path).expect("an object"))));
    in_force(server.nic(), &versions.into());
}
