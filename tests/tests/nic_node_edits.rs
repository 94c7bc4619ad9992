//! Hundreds of edits of a NicNode at a real API server, sensible and not. What the CRD lets through, the agent takes or
//! refuses as a whole: the last good one is in force, is what a restart begins with, and the status says what became of the
//! newest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use nic_agent::cluster::client::Access;
use nic_agent::cluster::configuration::{Layers, Report, Verdict};
use nic_agent::cluster::own_node::{self, Own};
use nic_agent::cluster::status;
use nic_agent::config::Config;
use nic_agent::metrics::Metrics;
use nic_agent::ovs::daemons::Daemons;
use nic_agent::preflight::file::Unusable;
use nic_agent::published::Published;
use serde_json::{Value, json};
use tests::control_plane::ControlPlane;
use tests::kube_oracle::random::Dice;
use tests::{late, patience};
use tokio::sync::watch;

const EDITS: usize = 300;
const PATIENCE: Duration = Duration::from_mins(2);

fn file(state: &Path) -> Config {
    format!(
        "[node]\nname = 'server1'\n\
         [server]\nlisten = ['192.0.2.21:8443']\n\
         [chassis]\nsystem-id = 'nic1'\novn-remote = 'tcp:192.0.2.10:6642'\novn-encap-ip = '192.0.2.1'\n\
         [state]\ndir = '{}'\n",
        state.display()
    )
    .parse()
    .unwrap()
}

fn good() -> Value {
    json!({
        "nodeName": "server1", "profile": {"kind": "KubeOVN"}, "mtu": 1400, "offload": {"mode": "Hardware", "tcPolicy": "None"},
        "ovn": {"remotes": ["tcp:192.0.2.10:6642"], "encapsulation": {"types": ["Geneve"], "addresses": ["192.0.2.1"]}},
    })
}

/// A place in the spec, and what might be written there: good values, such as only the agent refuses, and such as the API
/// server refuses.
fn edit(dice: &mut Dice) -> (&'static str, Value) {
    let range = |first: i64, last: i64| json!({"first": first, "last": last});
    let places: [(&str, Vec<Value>); 14] = [
        (
            "/mtu",
            vec![json!(1280), json!(9000), json!(9978), json!(1279), json!(-1), json!("1400"), json!(1e9)],
        ),
        (
            "/podLimits",
            vec![
                json!({"connections": 64}),
                json!({"newConnectionsPerSecond": 10}),
                json!({"newConnectionsPerSecond": 9}),
                json!({"newConnectionsPerSecond": 1_000_001}),
                json!({"connections": 4_000_000}),
                json!({"connections": 63}),
                json!({"connections": 4_000_001}),
                json!({"connections": -1}),
                json!({}),
                json!(5),
            ],
        ),
        ("/vfBudget", vec![json!(0), json!(8), json!(1024), json!(1025), json!(true)]),
        (
            "/hostIdentity",
            vec![json!("server1.example.org"), json!("a b"), json!(""), json!("x".repeat(254))],
        ),
        (
            "/managementPort",
            vec![json!({"pf": 0, "vf": 0}), json!({"pf": 16, "vf": 0}), json!({"vf": 1}), json!([])],
        ),
        (
            "/podZones",
            vec![
                range(61000, 61100),
                range(1, 200),
                range(1, 256),
                range(9, 8),
                range(0, 3),
                range(1, 65536),
            ],
        ),
        ("/ovn/ctZoneRange", vec![range(1, 60000), range(1, 65535), range(2, 1), json!("all")]),
        (
            "/profile",
            vec![
                json!({"kind": "OVNKubernetes", "addressing": "DHCP"}),
                json!({"kind": "Plain", "template": "{uid}"}),
                json!({"kind": "Plain", "template": "{name}"}),
                json!({"kind": "Plain", "template": "{"}),
                json!({"kind": "Plain"}),
                json!({"kind": "KubeOVN", "template": "x"}),
                json!({"kind": "Newer"}),
            ],
        ),
        (
            "/offload",
            vec![json!({"mode": "Software"}), json!({"tcPolicy": "SkipSW"}), json!({"tcPolicy": "skip_sw"})],
        ),
        (
            "/ovn/remotes",
            vec![
                json!(["tcp:192.0.2.20:6642"]),
                json!(["tcp:[2001:db8::1]:6642", "tcp:192.0.2.20:6642"]),
                json!(["ssl:192.0.2.20:6642"]),
                json!(["tcp:192.0.2.20:0"]),
                json!(["tcp:a:1", "tcp:a:1"]),
                json!(["tcp:a:70000"]),
                json!([]),
                json!(["unix:/x"]),
                json!("tcp:a:1"),
            ],
        ),
        (
            "/ovn/encapsulation",
            vec![
                json!({"types": ["VXLAN", "Geneve"], "addresses": ["192.0.2.2", "2001:db8::2"]}),
                json!({"types": ["Geneve", "Geneve"], "addresses": ["192.0.2.2"]}),
                json!({"types": ["Geneve"], "interface": "none"}),
                json!({"types": ["Geneve"], "interface": "lo"}),
                json!({"types": ["Geneve"], "addresses": ["127.0.0.1"]}),
                json!({"types": ["Geneve"], "addresses": ["::"]}),
                json!({"types": ["Geneve"], "addresses": ["224.0.0.1", "224.0.0.1"]}),
                json!({"types": ["STT"], "addresses": ["192.0.2.2"]}),
                json!({"types": []}),
                json!({"addresses": ["x"]}),
            ],
        ),
        (
            "/ovn/bridgeMappings",
            vec![
                json!([{"network": "physnet1", "bridge": "br-phys"}]),
                json!([{"network": "a", "bridge": "br-edge"}]),
                json!([{"network": "a,b", "bridge": "br"}]),
                json!([{"network": "a", "bridge": "a/b"}]),
                json!([{"network": "", "bridge": ""}]),
                json!([{"network": "a"}]),
            ],
        ),
        (
            "/ovn/transportZones",
            vec![json!(["a"]), json!(["a", "b"]), json!(["a", "a"]), json!(["a,b"]), json!([""])],
        ),
        ("/node", vec![json!("server1"), json!("server2"), json!("")]),
    ];
    let (place, values) = dice.pick(&places);
    (place, if dice.one_in(6) { Value::Null } else { dice.pick(&values) })
}

/// A merge patch to just this spec, whatever is there.
fn back_to(mut spec: Value) -> Value {
    for gone in ["vfBudget", "podLimits", "hostIdentity", "managementPort", "podZones"] {
        spec[gone] = Value::Null;
    }
    for gone in ["ctZoneRange", "bridgeMappings", "transportZones"] {
        spec["ovn"][gone] = Value::Null;
    }
    spec["profile"]["template"] = Value::Null;
    spec["ovn"]["encapsulation"]["interface"] = Value::Null;
    json!({ "spec": spec })
}

/// One to three edits of the good one.
fn patch(dice: &mut Dice) -> Value {
    let mut whole = back_to(good());
    let spec = &mut whole["spec"];
    for _ in 0..=dice.roll(2) {
        let (place, value) = edit(dice);
        let (parent, key) = place.rsplit_once('/').unwrap();
        match (&mut spec.pointer_mut(parent).unwrap()[key], value) {
            // The keys that it does not name are left as they are said to be above.
            (Value::Object(old), Value::Object(new)) => {
                for (key, was) in old.iter_mut() {
                    *was = new.get(key).cloned().unwrap_or_default();
                }
                old.extend(new);
            }
            (old, new) => *old = new,
        }
    }
    whole
}

/// What the agent does with its two sources, and what is in force.
async fn apply(mut layers: Layers, mut own: watch::Receiver<Own>, in_force: watch::Sender<(Config, Report)>) {
    while own.changed().await.is_ok() {
        let now = own.borrow_and_update().clone();
        if !layers.set_own(&now) {
            continue;
        }
        match layers.wanted() {
            Ok(config) => {
                let report = layers.report(Ok(&[]));
                in_force.send_replace((config, report));
            }
            Err(problems) => {
                let report = layers.report(Err(&problems));
                in_force.send_modify(|it| it.1 = report);
            }
        }
    }
}

/// As far as it can be read off without asking the agent.
fn says_what_it_was_told(config: &Config, spec: &Value) -> bool {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let chassis = &config.chassis;
    let encap: Vec<String> = chassis.ovn_encap_ip.iter().map(ToString::to_string).collect();
    spec["nodeName"] == config.node.name
        && spec["mtu"].as_u64() == config.edge.mtu.map(u64::from)
        && spec["podLimits"]["connections"].as_u64().unwrap_or(32_768)
            == u64::from(config.edge.pod_connections)
        && spec["vfBudget"].as_u64() == config.edge.vf_budget.map(u64::from)
        && texts(&spec["ovn"]["transportZones"]) == chassis.ovn_transport_zones
        && texts(&spec["ovn"]["encapsulation"]["addresses"]) == encap
        && spec["ovn"]["bridgeMappings"].as_array().map_or(0, Vec::len) == chassis.ovn_bridge_mappings.len()
        && (spec["offload"]["mode"].as_str().unwrap_or("Hardware") == "Hardware") == chassis.hw_offload
        && spec["managementPort"].is_object() == config.edge.management_port.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_edit_is_taken_or_refused_as_a_whole() {
    let plane = ControlPlane::api_only();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes");
    plane.kubectl(&["apply", "-k", packaging.to_str().unwrap()]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).ok();
    let node = json!({"apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode", "metadata": {"name": "server1"}, "spec": good()});
    plane.apply(&node.to_string());

    let state = tempfile::tempdir().unwrap();
    let kubeconfig = plane.kubeconfig_for("drawbridge:nic:server1", &["drawbridge:nics"]);
    let client = Access::load(&kubeconfig).await.unwrap().client().unwrap();
    let (found, own) = watch::channel(Own::default());
    let (layers, first) = Layers::begin(file(state.path()), true);
    let (publish, mut in_force) = watch::channel((first, Report::default()));
    tokio::spawn(apply(layers, own.clone(), publish));
    let following = client.clone();
    let follower = tokio::spawn(async move { own_node::follow(following, "server1", &found).await });

    let admin = Access::load(&plane.kubeconfig()).await.unwrap().client().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("drawbridge.dev", "v1alpha1", "NicNode"));
    let api: Api<DynamicObject> = Api::all_with(admin, &resource);
    let mut dice = Dice(7);
    let (mut refused_by_api, mut refused, mut taken) = (0, 0, 0);
    let mut last_good = None;
    for _ in 0..EDITS {
        let edit = patch(&mut dice);
        let written = match api.patch("server1", &PatchParams::default(), &Patch::Merge(&edit)).await {
            Ok(written) => written,
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                refused_by_api += 1;
                continue;
            }
            Err(error) => panic!("{edit}: {error}"),
        };
        let generation = written.metadata.generation;
        let looked_at = in_force.wait_for(|(_, report)| report.looked_at == generation);
        let waited = tokio::time::timeout(patience(PATIENCE), looked_at).await;
        let Ok(now) = waited else {
            panic!("{}", late(format_args!("a look at {edit}"), patience(PATIENCE), "none at it"));
        };
        let (config, report) = now.unwrap().clone();
        let spec = &written.data["spec"];
        match &report.verdict {
            Verdict::InForce => {
                taken += 1;
                assert_eq!(report.generation, generation);
                // An interface's addresses are not in the spec.
                let of_interface = spec["ovn"]["encapsulation"]["interface"].is_string();
                assert!(of_interface || says_what_it_was_told(&config, spec), "{spec} became {config:?}");
                last_good = Some(config);
            }
            Verdict::Refused { problems } => {
                refused += 1;
                assert!(problems.iter().all(|it| it.starts_with("spec.")), "{problems:?}");
                if let Some(good) = &last_good {
                    assert_eq!(&config, good, "after {spec}");
                }
            }
            other => panic!("{other:?}"),
        }
        if let Some(good) = &last_good {
            assert_eq!(&Layers::begin(file(state.path()), true).1, good, "after a restart");
        }
    }
    println!(
        "{EDITS} edits: {refused_by_api} refused by the API server, {refused} by the agent, {taken} taken"
    );
    assert!(refused_by_api > EDITS / 10 && refused > EDITS / 30 && taken > EDITS / 10);
    assert!(!follower.is_finished());

    // The last word is a bad one, and then a good one; the status has them both.
    let (publish, published) = watch::channel(Arc::new(Published { passes: 1, ..Published::default() }));
    let (report, reports) = watch::channel(in_force.borrow().1.clone());
    let (configs, config) = watch::channel(Arc::new(in_force.borrow().0.clone()));
    let (_daemons, daemons) = watch::channel(Daemons::default());
    let (_preflight, preflight) = watch::channel(Err(Unusable::NotRun));
    let metrics = Metrics::new();
    let inputs = status::Inputs { own, published, config, report: reports, daemons, preflight, metrics };
    tokio::spawn(status::run(client, inputs));
    for (zones, is, reason) in [(["a", "a"], "False", "Refused"), (["a", "b"], "True", "InForce")] {
        let mut all = back_to(good());
        all["spec"]["ovn"]["transportZones"] = json!(zones);
        let written = api.patch("server1", &PatchParams::default(), &Patch::Merge(&all)).await.unwrap();
        let generation = written.metadata.generation;
        let looked_at = in_force.wait_for(|(_, report)| report.looked_at == generation);
        let (now, said) = tokio::time::timeout(patience(PATIENCE), looked_at)
            .await
            .expect("late: a look at it")
            .unwrap()
            .clone();
        configs.send_replace(Arc::new(now));
        report.send_replace(said);
        let deadline = tokio::time::Instant::now() + patience(PATIENCE);
        loop {
            let object = api.get("server1").await.unwrap();
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let configured = conditions.iter().find(|it| it["type"] == "Configured");
            if configured.is_some_and(|it| {
                it["status"] == is
                    && it["reason"] == reason
                    && it["observedGeneration"].as_i64() == generation
            }) {
                break;
            }
            let last = format!("{configured:?}");
            assert!(tokio::time::Instant::now() < deadline, "{}", late(reason, patience(PATIENCE), last));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    drop(publish);
}
