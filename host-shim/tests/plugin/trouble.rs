//! What goes wrong between ADD and DEL: killed plugins, dead namespaces, an agent that is away, late DELs; and devices
//! that kubelet names, chained plugins, GC. Needs root.

use std::{fs, path::Path};

use crate::support::{
    bench::{Bench, Namespace, VF3, VF4},
    kubelet::{FakeKubelet, pod as kubelet_pod},
};
use serde_json::{Value, json};

fn held(bench: &Bench) -> Vec<String> {
    bench.agent().held().into_iter().map(|(id, interface)| format!("{id}:{interface}")).collect()
}

#[test]
fn del_succeeds_when_the_namespace_took_the_interface_with_it() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    let path = pod.path();
    // A veth dies with its namespace, unlike a VF, so that here the interface is nowhere.
    drop(pod);
    let output = bench.cni("DEL", "s", &path, "eth0", &config);
    assert!(output.stderr.contains("nothing to bring home"), "{}", output.stderr);
    output.ok();
    assert_eq!((bench.records(), held(&bench)), (vec![], vec![]));
}

#[test]
fn del_needs_no_namespace_and_finds_a_vf_that_came_home_by_itself() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    // As the kernel leaves it when the pod's namespace dies: on the host, under any name.
    pod.ip(&["link", "set", "eth0", "down"]);
    pod.ip(&["link", "set", "eth0", "netns", &bench.host.0, "name", "ens1v3"]);
    let path = pod.path();
    drop(pod);
    assert_eq!(bench.host.link("ens1v3").unwrap()["address"], "0a:58:0a:f4:00:0a");
    bench.cni("DEL", "s", Path::new(""), "eth0", &config).ok();
    bench.assert_clean();
    bench.cni("DEL", "s", &path, "eth0", &config).ok();
}

#[test]
fn del_without_the_agent_brings_the_vf_home_and_asks_to_come_again() {
    let mut bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({ "timeoutSeconds": 2 }));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    let start = bench.stop_agent();
    for _ in 0..2 {
        let said = bench.cni("DEL", "s", &pod.path(), "eth0", &config).error(11);
        assert!(said.contains("could not be reached within 2 s to detach eth0 of sandbox s"), "{said}");
        assert_eq!(bench.host.link("ens1v3").unwrap()["address"], "02:00:00:00:00:03");
        assert_eq!(bench.records(), ["s:eth0.json"]);
    }
    // Of a sandbox that nobody recorded nothing is owed.
    let output = bench.cni("DEL", "other", &pod.path(), "eth0", &config);
    assert!(output.stderr.contains("the NIC was not told"), "{}", output.stderr);
    output.ok();
    start(&mut bench);
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

#[test]
fn add_without_the_agent_leaves_nothing_but_the_record() {
    let mut bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({ "timeoutSeconds": 2 }));
    let start = bench.stop_agent();
    let said = bench.cni("ADD", "s", &pod.path(), "eth0", &config).error(11);
    assert!(said.contains("could not be reached") && said.contains("DEL must undo it"), "{said}");
    assert_eq!(pod.names(), ["lo"]);
    start(&mut bench);
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

#[test]
fn the_reason_of_a_nic_that_stays_unready_is_told() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({ "timeoutSeconds": 2 }));
    bench.script(|script| {
        for _ in 0..100 {
            script
                .attach
                .push_back(tonic::Status::unavailable("logical port default_web-0 is not in the southbound"));
        }
    });
    let said = bench.cni("ADD", "s", &pod.path(), "eth0", &config).error(11);
    assert!(said.contains("within 2 s: logical port default_web-0 is not in the southbound"), "{said}");
    bench.assert_clean();
}

/// Kills an ADD at its worst moments: the interface is on its way, or in the pod and half set up.
#[test]
fn what_a_killed_add_left_is_cleared_up() {
    let transit = transit();
    // (name, MAC) that the interface had when the plugin died.
    for (name, mac) in [(transit.as_str(), "02:00:00:00:00:03"), ("eth0", "0a:58:0a:f4:00:0a")] {
        for then in ["ADD", "DEL"] {
            let bench = Bench::new();
            let pod = Namespace::new();
            let config = bench.config(json!({}));
            bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
            pod.ip(&["link", "set", "eth0", "down"]);
            pod.ip(&["addr", "flush", "dev", "eth0"]);
            pod.ip(&["link", "set", "eth0", "address", mac]);
            if name != "eth0" {
                pod.ip(&["link", "set", "eth0", "name", name]);
            }
            bench.cni(then, "s", &pod.path(), "eth0", &config).ok();
            if then == "ADD" {
                assert_eq!(pod.link("eth0").unwrap()["address"], "0a:58:0a:f4:00:0a");
                bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
            }
            bench.assert_clean();
        }
    }
}

fn transit() -> String {
    VF3.parse::<host_shim::device::PciAddress>().unwrap().transit_name()
}

#[test]
fn a_late_del_of_the_old_sandbox_takes_nothing_from_the_new() {
    let bench = Bench::new();
    let (old, new) = (Namespace::new(), Namespace::new());
    let config = bench.config(json!({}));
    bench.cni("ADD", "old", &old.path(), "eth0", &config).ok();
    // The old sandbox was never deleted; the NIC says that the VF is the new one's.
    bench.script(|script| script.attachment.mac = "0a:58:0a:f4:00:0b".into());
    let output = bench.cni("ADD", "new", &new.path(), "eth0", &config);
    assert!(output.stderr.contains("was left as eth0"), "{}", output.stderr);
    output.ok();
    assert_eq!(old.names(), ["lo"]);
    bench.cni("DEL", "old", &old.path(), "eth0", &config).ok();
    assert_eq!(new.link("eth0").unwrap()["address"], "0a:58:0a:f4:00:0b");
    assert_eq!(held(&bench), ["new:eth0"]);
    bench.cni("DEL", "new", &new.path(), "eth0", &config).ok();
    bench.assert_clean();
}

#[test]
fn a_refused_claim_does_not_take_the_vf_from_its_pod() {
    let bench = Bench::new();
    let (owner, thief) = (Namespace::new(), Namespace::new());
    let config = bench.config(json!({}));
    bench.cni("ADD", "owner", &owner.path(), "eth0", &config).ok();
    let refused = crate::support::agent::refusal(tonic::Code::AlreadyExists, "vf-held", "held by a live pod");
    bench.script(|script| script.attach.push_back(refused));
    bench.cni("ADD", "thief", &thief.path(), "eth0", &config).error(100);
    assert_eq!(owner.link("eth0").unwrap()["address"], "0a:58:0a:f4:00:0a");
    assert_eq!(bench.records(), ["owner:eth0.json"]);
    bench.cni("DEL", "owner", &owner.path(), "eth0", &config).ok();
    bench.assert_clean();
}

/// The runtime's DEL bears the same configuration as the ADD that was refused.
#[test]
fn what_the_runtime_asks_for_and_is_not_done_is_refused() {
    let bench = Bench::new();
    let pod = Namespace::new();
    for (asked, says) in [
        (json!({"ips": ["10.244.0.99/24"]}), "runtimeConfig.ips = [\"10.244.0.99/24\"]"),
        (json!({"mac": "0a:00:00:00:00:99"}), "runtimeConfig.mac"),
        (json!({"bandwidth": {"egressRate": 1000, "egressBurst": 1}}), "runtimeConfig.bandwidth"),
        (json!({"portMappings": [{"hostPort": 80, "containerPort": 80}]}), "runtimeConfig.portMappings"),
    ] {
        let config = bench.config(json!({ "runtimeConfig": asked }));
        let said = bench.cni("ADD", "s", &pod.path(), "eth0", &config).error(2);
        assert!(said.contains(says), "{said}");
        assert_eq!(bench.records(), Vec::<String>::new());
        bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    }
    let empty = json!({"ips": [], "mac": "", "bandwidth": {"egressRate": 0}, "portMappings": null});
    let config = bench.config(json!({ "runtimeConfig": empty }));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

#[test]
fn kubelet_names_the_device_of_each_interface() {
    for get in [true, false] {
        let bench = Bench::new();
        let pod = Namespace::new();
        let pods = vec![
            kubelet_pod("other", "web-0", &[("drawbridge.dev/vf", &["0000:03:01.7"])]),
            kubelet_pod(
                "default",
                "web-0",
                &[("other.dev/x", &["0000:09:00.0"]), ("drawbridge.dev/vf", &[VF3, VF4])],
            ),
        ];
        let kubelet = FakeKubelet::start(bench.directory.path().join("kubelet.sock"), pods, get);
        let socket = kubelet.socket.display().to_string();
        let config = bench.config(json!({
            "deviceID": null, "resourceName": "drawbridge.dev/vf", "podResourcesSocket": socket,
        }));
        let second = v1_with(&bench, VF4);
        let ids: Vec<Value> = ["eth0", "net1"]
            .iter()
            .map(|name| {
                bench.cni("ADD", "s", &pod.path(), name, &config).ok()["interfaces"][0]["pciID"].clone()
            })
            .collect();
        assert_eq!(ids, [VF3, VF4]);
        assert_eq!(pod.link("net1").unwrap()["address"], second);
        let said = bench.cni("ADD", "s", &pod.path(), "net2", &config).error(101);
        assert!(
            said.contains("all 2 devices of drawbridge.dev/vf that pod default/web-0 has are used"),
            "{said}"
        );
        // A sandbox made anew begins with the first device again.
        for name in ["net1", "eth0"] {
            bench.cni("DEL", "s", &pod.path(), name, &config).ok();
        }
        let other = bench.config(json!({
            "deviceID": null, "resourceName": "drawbridge.dev/none", "podResourcesSocket": socket,
        }));
        let said = bench.cni("ADD", "s", &pod.path(), "eth0", &other).error(101);
        assert!(said.contains("kubelet gave pod default/web-0 no device of drawbridge.dev/none"), "{said}");
        drop(kubelet);
        let said = bench.cni("ADD", "s", &pod.path(), "eth0", &config).error(11);
        assert!(said.contains("kubelet.sock does not answer"), "{said}");
        bench.assert_clean();
    }
}

/// Another address for the pod's second interface.
fn v1_with(bench: &Bench, pci: &str) -> &'static str {
    let mut other = crate::support::bench::attachment();
    other.mac = "0a:58:0a:f5:00:0a".into();
    other.addresses.truncate(1);
    other.addresses[0].address = "10.245.0.10/24".into();
    other.routes.clear();
    bench.script(|script| script.by_vf.insert(pci.to_owned(), other));
    "0a:58:0a:f5:00:0a"
}

#[test]
fn after_another_plugin_it_relays_and_checks_only() {
    let bench = Bench::new();
    let pod = Namespace::new();
    bench.host.ip(&["link", "set", "ens1v3", "netns", &pod.0, "name", "eth0"]);
    pod.ip(&["link", "set", "eth0", "address", "0a:58:0a:f4:00:0a", "up"]);
    let prev = json!({
        "cniVersion": "1.1.0", "interfaces": [{ "name": "eth0", "sandbox": pod.path().display().to_string(),
        "mac": "0a:58:0a:f4:00:0a", "pciID": VF3, "x-other": 1 }], "ips": [], "routes": [{ "dst": "10.9.0.0/16" }],
    });
    let config = bench.config(json!({ "deviceID": null, "prevResult": prev }));
    assert_eq!(bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok(), prev);
    assert_eq!(bench.agent().calls(), ["Attach 1/3"]);
    bench.cni("CHECK", "s", &pod.path(), "eth0", &config).ok();
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    // It is the other plugin's to take away.
    assert_eq!(pod.names(), ["eth0", "lo"]);
    assert_eq!((bench.records(), held(&bench)), (vec![], vec![]));

    bench.script(|script| script.attachment.mac = "0a:58:0a:f4:00:0c".into());
    let said = bench.cni("ADD", "s", &pod.path(), "eth0", &config).error(103);
    assert!(said.contains("the NIC expects 0a:58:0a:f4:00:0c"), "{said}");
    assert_eq!((bench.records(), held(&bench)), (vec![], vec![]));
}

#[test]
fn gc_detaches_what_is_not_valid_and_leaves_other_networks() {
    let bench = Bench::new();
    let (one, two, three) = (Namespace::new(), Namespace::new(), Namespace::new());
    let config = bench.config(json!({}));
    let other = bench.config(json!({ "name": "storage", "deviceID": VF4 }));
    bench.cni("ADD", "gone", &one.path(), "eth0", &config).ok();
    bench.cni("ADD", "stays", &two.path(), "eth0", &other).ok();
    // From before the last boot: the NIC knows them, nothing here does. One is another network's.
    for (id, network) in [("ancient", &config["name"]), ("distant", &other["name"])] {
        bench.script(|script| {
            script.held.insert(
                (id.into(), "eth0".into()),
                proto::v1::AttachRequest {
                    sandbox: Some(proto::v1::Sandbox { id: id.into(), interface: "eth0".into() }),
                    network: network.as_str().unwrap().into(),
                    ..Default::default()
                },
            )
        });
    }
    let said = bench.cni("GC", "", &three.path(), "", &config).error(7);
    assert!(said.contains("cni.dev/valid-attachments"), "{said}");
    assert_eq!(held(&bench), ["ancient:eth0", "distant:eth0", "gone:eth0", "stays:eth0"]);

    let valid = |items: Value| {
        let mut config = config.clone();
        config["cni.dev/valid-attachments"] = items;
        config
    };
    let all =
        json!([{ "containerID": "gone", "ifname": "eth0" }, { "containerID": "ancient", "ifname": "eth0" }]);
    bench.cni("GC", "", &three.path(), "", &valid(all)).ok();
    assert_eq!(held(&bench), ["ancient:eth0", "distant:eth0", "gone:eth0", "stays:eth0"]);

    bench.cni("GC", "", &three.path(), "", &valid(json!([]))).ok();
    assert_eq!(held(&bench), ["distant:eth0", "stays:eth0"]);
    assert_eq!(bench.records(), ["stays:eth0.json"]);
    assert_eq!(one.names(), ["lo"]);
    assert!(two.link("eth0").is_some());
    // Each network has its own collection.
    let mut collection = other.clone();
    collection["cni.dev/valid-attachments"] = json!([{ "containerID": "stays", "ifname": "eth0" }]);
    bench.cni("GC", "", &three.path(), "", &collection).ok();
    assert_eq!(held(&bench), ["stays:eth0"]);
    bench.cni("DEL", "stays", &two.path(), "eth0", &other).ok();
    bench.assert_clean();
}

/// A runtime that keeps no order: its list is from before the ADD, whichever of the two comes first here.
#[test]
fn gc_takes_nothing_from_an_add_beside_it() {
    let pod = Namespace::new();
    let collection = |config: &Value| {
        let mut config = config.clone();
        config["cni.dev/valid-attachments"] = json!([]);
        config
    };
    // The whole of an ADD while GC asks the NIC.
    let bench = Bench::new();
    let config = bench.config(json!({}));
    let add = bench.later("ADD", "new", &pod.path(), "eth0", &config);
    bench.script(|script| script.during.insert("List", Box::new(move || drop(add().ok()))));
    bench.cni("GC", "", Path::new(""), "", &collection(&config)).ok();
    assert_eq!((held(&bench), bench.records()), (vec!["new:eth0".into()], vec!["new:eth0.json".into()]));
    assert!(pod.link("eth0").is_some() && !bench.agent().calls().iter().any(|it| it.starts_with("Detach")));
    bench.cni("DEL", "new", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();

    // The whole of a GC while an ADD asks the NIC.
    let gc = bench.later("GC", "", Path::new(""), "", &collection(&config));
    bench.script(|script| script.during.insert("Attach", Box::new(move || drop(gc().ok()))));
    bench.cni("ADD", "slow", &pod.path(), "eth0", &config).ok();
    assert_eq!((held(&bench), bench.records()), (vec!["slow:eth0".into()], vec!["slow:eth0.json".into()]));
    assert!(!bench.agent().calls().contains(&"Detach slow:eth0".to_owned()));
    // By the next one it has ended, and the runtime would name it.
    bench.cni("GC", "", Path::new(""), "", &collection(&config)).ok();
    bench.assert_clean();
}

#[test]
fn del_takes_the_vf_and_nothing_that_the_pod_has_put_in_its_place() {
    for decoy in ["eth0", transit().as_str()] {
        let bench = Bench::new();
        let pod = Namespace::new();
        let config = bench.config(json!({}));
        bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
        pod.ip(&["link", "set", "eth0", "down"]);
        pod.ip(&["link", "set", "eth0", "name", "mine", "address", "02:00:00:00:00:99"]);
        let mac = "0a:58:0a:f4:00:0a";
        pod.ip(&["link", "add", decoy, "address", mac, "type", "veth", "peer", "name", "behind"]);
        bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
        bench.assert_clean();
        let behind = pod.names().iter().any(|it| it.starts_with("behind"));
        assert!(pod.link(decoy).is_some() && pod.link("mine").is_none() && behind, "{:?}", pod.names());
    }
}

#[test]
fn a_record_that_cannot_be_read_does_not_keep_a_pod() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    let state = bench.directory.path().join("state");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("s:eth0.json"), "{").unwrap();
    let output = bench.cni("DEL", "s", &pod.path(), "eth0", &config);
    assert!(output.stderr.contains("taken as absent"), "{}", output.stderr);
    output.ok();
    assert_eq!(bench.agent().calls(), ["Detach s:eth0"]);
}
