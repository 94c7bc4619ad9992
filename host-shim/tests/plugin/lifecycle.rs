//! ADD, CHECK, DEL on real network namespaces, with a veth for the VF. Needs root.

use crate::support::bench::{Bench, Namespace, VF3};
use serde_json::{Value, json};
use tonic::Code;

fn addresses(netns: &Namespace, interface: &str) -> Vec<(String, Value)> {
    let shown = netns.json(&["addr", "show", "dev", interface]);
    let list = shown[0]["addr_info"].as_array().unwrap();
    let text =
        |info: &Value| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"].as_u64().unwrap());
    list.iter().map(|info| (text(info), info.clone())).collect()
}

#[test]
fn add_check_del_add_again() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    for _ in 0..2 {
        let result = bench.cni("ADD", "sandbox1", &pod.path(), "eth0", &config).ok();
        assert_eq!(
            result,
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [{
                    "name": "eth0", "mac": "0a:58:0a:f4:00:0a", "mtu": 1400,
                    "sandbox": pod.path().display().to_string(), "pciID": VF3,
                }],
                "ips": [
                    { "interface": 0, "address": "10.244.0.10/24", "gateway": "10.244.0.1" },
                    { "interface": 0, "address": "fd00:10:244::a/64", "gateway": "fd00:10:244::1" },
                ],
                "routes": [
                    { "dst": "0.0.0.0/0", "gw": "10.244.0.1" },
                    { "dst": "::/0", "gw": "fd00:10:244::1" },
                    { "dst": "10.96.0.0/16", "gw": "169.254.1.1" },
                    { "dst": "10.244.0.0/24" },
                ],
                "dns": {},
            })
        );
        let link = pod.link("eth0").unwrap();
        assert_eq!(link["address"], "0a:58:0a:f4:00:0a");
        assert_eq!(link["mtu"], 1400);
        assert_eq!(link["inet6_addr_gen_mode"], "eui64");
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        assert_eq!(bench.host.link("ens1v3"), None);

        let have = addresses(&pod, "eth0");
        let names: Vec<&str> = have.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["10.244.0.10/24", "fd00:10:244::a/64", "fe80::858:aff:fef4:a/64"]);
        // Usable at once: nothing tentative, not even the link-local address.
        assert!(have.iter().all(|(_, info)| info.get("tentative").is_none()), "{have:?}");
        let routes = pod.json(&["route", "show"]);
        let has = |dst: &str, gateway: &str| {
            routes.as_array().unwrap().iter().any(|route| route["dst"] == dst && route["gateway"] == gateway)
        };
        assert!(has("default", "10.244.0.1") && has("10.96.0.0/16", "169.254.1.1"), "{routes}");
        let routes = pod.json(&["-6", "route", "show", "default"]);
        assert_eq!(routes[0]["gateway"], "fd00:10:244::1");
        let conf = |key: &str| {
            let path = format!("/proc/sys/net/ipv6/conf/eth0/{key}");
            let output = std::process::Command::new("ip")
                .args(["netns", "exec", &pod.0, "cat", &path])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!((conf("accept_ra").as_str(), conf("accept_dad").as_str()), ("0", "0"));

        let mut check = config.clone();
        check["prevResult"] = result;
        bench.cni("CHECK", "sandbox1", &pod.path(), "eth0", &check).ok();
        assert_eq!(bench.records(), ["sandbox1:eth0.json"]);
        assert_eq!(bench.agent().held(), [("sandbox1".to_owned(), "eth0".to_owned())]);

        bench.cni("DEL", "sandbox1", &pod.path(), "eth0", &check).ok();
        assert_eq!(pod.names(), ["lo"]);
        bench.assert_clean();
        assert!(!bench.host.link("ens1v3").unwrap()["flags"].as_array().unwrap().contains(&json!("UP")));
        // As often as the runtime likes.
        bench.cni("DEL", "sandbox1", &pod.path(), "eth0", &config).ok();
    }
    let request = bench.agent().calls();
    assert_eq!(request.iter().filter(|call| *call == "Attach 1/3").count(), 2);
}

#[test]
fn the_old_versions_get_their_own_shapes() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({ "cniVersion": "0.4.0" }));
    let result = bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    assert_eq!(result["cniVersion"], "0.4.0");
    assert_eq!(result["ips"][0]["version"], "4");
    assert_eq!(result["ips"][1]["version"], "6");
    assert_eq!(
        result["interfaces"][0].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["mac", "name", "sandbox"]
    );
    let mut check = config.clone();
    check["prevResult"] = result;
    bench.cni("CHECK", "s", &pod.path(), "eth0", &check).ok();
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

#[test]
fn check_finds_what_changed() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    let result = bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    let mut check = config.clone();
    check["prevResult"] = result;
    let run = || bench.cni("CHECK", "s", &pod.path(), "eth0", &check);

    pod.ip(&["addr", "del", "10.244.0.10/24", "dev", "eth0"]);
    let said = run().error(103);
    assert!(said.contains("address 10.244.0.10/24 is missing"), "{said}");
    assert!(said.contains("route 0.0.0.0/0 via 10.244.0.1 is missing"), "{said}");
    pod.ip(&["addr", "add", "10.244.0.10/24", "dev", "eth0"]);
    pod.ip(&["route", "add", "default", "via", "10.244.0.1"]);
    pod.ip(&["route", "add", "10.96.0.0/16", "via", "169.254.1.1", "dev", "eth0", "onlink"]);
    run().ok();

    pod.ip(&["link", "set", "eth0", "mtu", "1300"]);
    let said = run().error(103);
    assert!(said.contains("MTU is 1300, not 1400"), "{said}");
    pod.ip(&["link", "set", "eth0", "mtu", "1400"]);

    // The pod is as it was, the NIC means another MAC now.
    bench.script(|script| script.attachment.mac = "0a:58:0a:f4:00:0b".into());
    let said = run().error(103);
    assert!(said.contains("MAC is 0a:58:0a:f4:00:0a, not 0a:58:0a:f4:00:0b"), "{said}");
    assert!(said.contains("what the NIC says now"), "{said}");
    bench.script(|script| script.held.clear());
    let said = run().error(100);
    assert!(said.contains("no such attachment"), "{said}");

    pod.ip(&["link", "del", "eth0"]);
    let said = run().error(103);
    assert!(said.contains("there is no such interface"), "{said}");
    assert!(run_without_prev(&bench, &pod, &config).contains("prevResult: missing"));
}

fn run_without_prev(bench: &Bench, pod: &Namespace, config: &Value) -> String {
    bench.cni("CHECK", "s", &pod.path(), "eth0", config).error(7)
}

#[test]
fn a_refusal_changes_nothing() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let refused = crate::support::agent::refusal(
        Code::FailedPrecondition,
        "vf-held",
        "VF 3 is held by pod default/db-0",
    );
    bench.script(|script| script.attach.push_back(refused));
    let said = bench.cni("ADD", "s", &pod.path(), "eth0", &bench.config(json!({}))).error(100);
    assert!(
        said.contains("attach VF 3 of PF 1 to pod default/web-0: VF 3 is held by pod default/db-0"),
        "{said}"
    );
    assert!(said.contains("reason vf-held"), "{said}");
    // Refused once, asked once; nothing to detach.
    assert_eq!(bench.agent().calls(), ["Attach 1/3"]);
    bench.assert_clean();
    assert_eq!(pod.names(), ["lo"]);
}

#[test]
fn a_taken_name_in_the_pod_undoes_everything() {
    let bench = Bench::new();
    let pod = Namespace::new();
    pod.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
    let said = bench.cni("ADD", "s", &pod.path(), "eth0", &bench.config(json!({}))).error(102);
    assert!(said.contains("rename") && said.contains("File exists"), "{said}");
    assert_eq!(bench.agent().calls(), ["Attach 1/3", "Detach s:eth0"]);
    bench.assert_clean();
    assert_eq!(pod.names(), ["eth0", "lo", "other"]);
}

#[test]
fn a_route_that_the_pod_has_elsewhere_undoes_everything() {
    let bench = Bench::new();
    let pod = Namespace::new();
    pod.ip(&["link", "add", "old", "type", "veth", "peer", "name", "other"]);
    pod.ip(&["link", "set", "old", "up"]);
    pod.ip(&["link", "set", "other", "up"]);
    pod.ip(&["addr", "add", "192.0.2.2/24", "dev", "old"]);
    pod.ip(&["route", "add", "default", "via", "192.0.2.1"]);
    let said = bench.cni("ADD", "s", &pod.path(), "eth0", &bench.config(json!({}))).error(102);
    assert!(said.contains("add the route 0.0.0.0/0 via 10.244.0.1"), "{said}");
    bench.assert_clean();
}

#[test]
fn an_answer_that_makes_no_sense_is_taken_back() {
    let bench = Bench::new();
    let pod = Namespace::new();
    bench.script(|script| script.attachment.mac = "01:00:5e:00:00:01".into());
    let said = bench.cni("ADD", "s", &pod.path(), "eth0", &bench.config(json!({}))).error(6);
    assert!(said.contains("01:00:5e:00:00:01"), "{said}");
    assert_eq!(bench.agent().calls(), ["Attach 1/3", "Detach s:eth0"]);
    bench.assert_clean();
}

#[test]
fn not_yet_is_asked_again() {
    let bench = Bench::new();
    let pod = Namespace::new();
    bench.script(|script| {
        script.attach.push_back(tonic::Status::unavailable("logical port is not in the southbound"));
        script.attach.push_back(tonic::Status::unavailable("flows not installed"));
    });
    bench.cni("ADD", "s", &pod.path(), "eth0", &bench.config(json!({}))).ok();
    assert_eq!(bench.agent().calls(), ["Attach 1/3", "Attach 1/3", "Attach 1/3"]);
}

#[test]
fn a_pod_whose_addresses_are_dynamic_gets_a_mac_only() {
    let bench = Bench::new();
    let pod = Namespace::new();
    bench.script(|script| {
        script.attachment.addresses.clear();
        script.attachment.routes.clear();
        script.attachment.mtu = 0;
    });
    let result = bench.cni("ADD", "s", &pod.path(), "eth0", &bench.config(json!({ "mtu": 1320 }))).ok();
    assert_eq!((&result["ips"], &result["routes"]), (&json!([]), &json!([])));
    assert_eq!(result["interfaces"][0]["mtu"], 1320);
    let names: Vec<String> = addresses(&pod, "eth0").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["fe80::858:aff:fef4:a/64"]);
}

#[test]
fn a_namespace_that_is_gone_or_the_hosts_own_is_refused_before_anything() {
    let bench = Bench::new();
    let config = bench.config(json!({}));
    let gone = std::path::Path::new("/run/netns/hs-was-never-there");
    assert!(bench.cni("ADD", "s", gone, "eth0", &config).error(3).contains("it is gone"));
    let said = bench.cni("ADD", "s", &bench.host.path(), "eth0", &config).error(4);
    assert!(said.contains("the host's own"), "{said}");
    assert_eq!(bench.agent().calls(), [] as [&str; 0]);
}
