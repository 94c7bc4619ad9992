use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Profile;
use crate::profile::{Answer, answer, on_link};
use crate::southbound::identity;

/// Pods as they are documented in those projects' sources and documentation; each says where.
const RECORDED: [(&str, &str, &str); 2] = [
    ("ovn-kubernetes", include_str!("recorded/ovn-kubernetes.json"), "24"),
    ("kube-ovn", include_str!("recorded/kube-ovn.json"), "16"),
];

fn profile(kind: &str, v4_length: &str) -> Profile {
    let config: crate::config::Config = format!(
        "[node]\nname = 'server1'\n[server]\nlisten = ['192.0.2.21:8443']\n[chassis]\nsystem-id = 'nic1'\novn-remote = 'tcp:192.0.2.10:6642'\n\
         ovn-encap-ip = '192.0.2.1'\n[profile]\nkind = '{kind}'\n[profile.ipv4]\nprefix-length = {v4_length}\n"
    )
    .parse()
    .unwrap();
    config.profile
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

fn map(value: &Value) -> BTreeMap<String, String> {
    value.as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect()
}

fn binding(port: &Value) -> Binding {
    let mac = texts(&port["mac"]);
    identity(mac.iter().map(String::as_str), false, Vec::new()).unwrap()
}

fn addresses(of: &Answer) -> Vec<String> {
    of.attached.addresses.iter().map(|(net, _)| net.to_string()).collect()
}

fn routes(of: &Answer) -> Vec<String> {
    let routes = of.attached.routes.iter();
    routes
        .map(|(net, gateway)| format!("{net} {}", gateway.map_or_else(String::new, |it| it.to_string())))
        .collect()
}

/// What a pod gets of whose annotation this is, with the port `0a:58:fd:98:00:01 192.168.0.5 fd00::5`.
fn of_default(said: &Value) -> (Answer, Profile) {
    let profile = profile("ovn-kubernetes", "24");
    let port = json!({"mac": ["0a:58:fd:98:00:01 192.168.0.5 fd00::5"]});
    let text = json!({"default": said}).to_string();
    let cms = read(&profile.kind, &[(POD_NETWORKS.to_owned(), text)].into());
    (answer(&profile, None, "bank_web-0", &binding(&port), cms.as_ref()), profile)
}

fn good() -> Value {
    json!({
        "ip_addresses": ["192.168.0.5/24", "fd00::5/64"], "mac_address": "0a:58:fd:98:00:01",
        "gateway_ips": ["192.168.0.1", "fd00::1"],
    })
}

const DEFAULTS: [&str; 2] = ["0.0.0.0/0 192.168.0.1", "::/0 fd00::1"];

#[test]
fn what_is_recorded_of_pods_is_what_they_get() {
    for (kind, text, length) in RECORDED {
        let profile = profile(kind, length);
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        for case in &cases {
            let what = format!("{kind}: {}", case["what"]);
            let annotations = map(&case["annotations"]);
            let kept: Annotations =
                annotations.into_iter().filter(|(key, _)| READ.contains(&key.as_str())).collect();
            let binding = binding(&case["port"]);
            let cms = read(&profile.kind, &kept).unwrap();
            let of = answer(&profile, None, "p", &binding, Some(&cms));
            assert_eq!(of.remarks, Vec::<String>::new(), "{what}");
            assert_eq!(addresses(&of), texts(&case["addresses"]), "{what}");
            assert_eq!(routes(&of), texts(&case["routes"]), "{what}");
            assert!(awaited(&profile.kind, &map(&case["port"]["external_ids"])).is_some(), "{what}");
            // Without it, what the profile says: nothing.
            assert_eq!(routes(&answer(&profile, None, "p", &binding, None)), Vec::<String>::new());
        }
        assert!(cases.len() >= 3);
    }
}

#[test]
fn another_ports_word_is_not_used() {
    for (field, value) in [
        ("mac_address", json!("0a:58:fd:98:00:02")),
        ("mac_address", json!("")),
        ("mac_address", Value::Null),
        ("ip_addresses", json!(["192.168.0.6/24", "fd00::5/64"])),
        ("ip_addresses", json!(["192.168.0.5/24"])),
        ("ip_addresses", json!(["192.168.0.5/24", "fd00::5/64", "10.0.0.1/8"])),
        ("ip_addresses", json!([])),
        ("ip_addresses", json!("192.168.0.5/24")),
    ] {
        let mut said = good();
        said[field] = value.clone();
        let (of, _) = of_default(&said);
        assert_eq!(routes(&of), Vec::<String>::new(), "{field} {value}");
        assert_eq!(
            addresses(&of),
            ["192.168.0.5/24", "fd00::5/64"],
            "as the southbound says: {field} {value}"
        );
        assert!(of.remarks.iter().any(|it| it.contains("not those of the logical port")), "{:?}", of.remarks);
    }
    let (of, _) = of_default(&good());
    assert_eq!(routes(&of), DEFAULTS);
}

#[test]
fn what_cannot_be_read_is_said_and_nothing_else_is_lost() {
    for (routes_said, says) in [
        (json!([{"dest": "10.0.0.0/33", "nextHop": "192.168.0.1"}]), "10.0.0.0/33"),
        (json!([{"dest": "10.0.0.0/8", "nextHop": "fd00::1"}]), "10.0.0.0/8 fd00::1"),
        (json!([{"dest": "10.0.0.0/8", "nextHop": "nobody"}]), "nobody"),
        (json!([{"dest": "0.0.0.0/0", "nextHop": "192.168.0.9"}]), "0.0.0.0/0"),
        (json!([{"dest": "224.0.0.0/4", "nextHop": "192.168.0.1"}]), "224.0.0.0/4"),
        (json!([{"dest": "10.0.0.0/8", "nextHop": "192.168.7.1"}]), "is not on the pod's link"),
        (json!([{"dest": "10.0.0.0/8"}]), "itself is not on the pod's link"),
        (json!([5, "x", {"dest": []}]), "cannot be read"),
    ] {
        let mut said = good();
        said["routes"] = routes_said.clone();
        let (of, _) = of_default(&said);
        assert_eq!(routes(&of), DEFAULTS, "{routes_said}");
        assert!(of.remarks.iter().any(|it| it.contains(says)), "{routes_said}: {:?}", of.remarks);
    }
    for (gateways, left) in [
        (json!(["192.168.0.1", "::ffff:1.2.3.4"]), vec![DEFAULTS[0]]),
        (json!(["192.168.0.x", "fd00::1"]), vec![DEFAULTS[1]]),
        (json!(["192.168.9.1", "fd00::1"]), vec![DEFAULTS[1]]),
        (json!(["0.0.0.0", "ff02::1"]), vec![]),
        (json!(["fe80::1"]), vec!["::/0 fe80::1"]),
    ] {
        let mut said = good();
        said["gateway_ips"] = gateways.clone();
        let (of, _) = of_default(&said);
        assert_eq!(routes(&of), left, "{gateways}");
        assert_eq!(of.remarks.is_empty(), gateways == json!(["fe80::1"]), "{gateways}: {:?}", of.remarks);
    }
}

#[test]
fn a_prefix_wider_than_the_profiles_names_the_key_and_the_boundary_stays() {
    let mut said = good();
    said["ip_addresses"] = json!(["192.168.0.5/16", "fd00::5/120"]);
    said["gateway_ips"] = json!(["192.168.7.1", "fd00::1"]);
    let (of, profile) = of_default(&said);
    assert_eq!(addresses(&of), ["192.168.0.5/24", "fd00::5/120"]);
    assert_eq!(routes(&of), [DEFAULTS[1]]);
    let all = of.remarks.join("\n");
    assert!(all.contains("profile.ipv4.prefix-length is 24: write 16 there"), "{all}");
    assert!(all.contains("gateway 192.168.7.1 is not on the pod's link"), "{all}");
    let port = json!({"mac": ["0a:58:fd:98:00:01 192.168.0.5 fd00::5"]});
    let link = on_link(&profile, &binding(&port));
    assert_eq!(link, ["192.168.0.0/24", "fd00::/64"].map(|it| it.parse().unwrap()));
}

#[test]
fn it_is_bounded() {
    let mut said = good();
    let many: Vec<Value> =
        (0..200).map(|n| json!({"dest": format!("10.{n}.0.0/16"), "nextHop": "192.168.0.1"})).collect();
    said["routes"] = many.into();
    let (of, _) = of_default(&said);
    assert_eq!(of.attached.routes.len(), 2 + MOST);
    assert!(of.remarks.len() <= REMARKS && of.remarks[0].contains("more than 64"), "{:?}", of.remarks);
    said["routes"] = json!([{"dest": "x".repeat(4000)}]);
    let (of, _) = of_default(&said);
    assert!(of.remarks.iter().all(|it| it.len() < 200), "{:?}", of.remarks);
    said["padding"] = json!("x".repeat(LONGEST));
    let (of, _) = of_default(&said);
    assert_eq!(routes(&of), Vec::<String>::new());
    assert!(of.remarks[0].contains("longer than"), "{:?}", of.remarks);
}

#[test]
fn a_profile_without_annotations_reads_none_and_waits_for_none() {
    let plain = profile("plain", "24");
    let kept: Annotations = [(POD_NETWORKS.to_owned(), json!({"default": good()}).to_string())].into();
    assert_eq!(read(&plain.kind, &kept), None);
    let ids = |text: &[(&str, &str)]| text.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let ovnk = profile("ovn-kubernetes", "24").kind;
    for (kind, external_ids, waits) in [
        (&plain.kind, vec![("pod", "true")], false),
        (&ovnk, vec![("pod", "true"), ("namespace", "bank")], true),
        // cluster-controller's, and those that are made by hand.
        (&ovnk, vec![("drawbridge.dev/owner", "cluster-controller")], false),
        (&ovnk, vec![], false),
    ] {
        assert_eq!(awaited(kind, &ids(&external_ids)).is_some(), waits, "{external_ids:?}");
    }
    // A new attachment waits for what its CMS writes; one of before, or of another CMS, does not.
    let kept: Annotations = [(POD_NETWORKS.to_owned(), json!({"default": good()}).to_string())].into();
    let marked = || Some(ids(&[("pod", "true")]));
    for (annotations, is_new, external_ids, waits) in [
        (None, true, marked(), true),
        (Some(Annotations::new()), true, marked(), true),
        (Some(Annotations::new()), false, marked(), false),
        (Some(Annotations::new()), true, None, false),
        (Some(kept), true, marked(), false),
    ] {
        let said = word(&ovnk, annotations.as_ref(), is_new, || external_ids);
        assert_eq!(said.is_err(), waits, "{annotations:?} {is_new}");
    }
    // Kube-OVN's users write some of these themselves, to ask for an address.
    let asked: Annotations = [(IP_ADDRESS.to_owned(), "10.16.0.15".to_owned())].into();
    assert_eq!(read(&profile("kube-ovn", "16").kind, &asked), None);
}

proptest! {
    /// Whatever stands there: the port's own addresses, no route out of the link, few words.
    #[test]
    fn any_annotation_leaves_the_identity_alone(text in "\\PC{0,200}", field in 0..5_usize, value in "[0-9a-f.:/]{0,20}") {
        let profile = profile("ovn-kubernetes", "24");
        let port = json!({"mac": ["0a:58:fd:98:00:01 192.168.0.5 fd00::5"]});
        let binding = binding(&port);
        let mut said = good();
        let name = ["ip_addresses", "mac_address", "gateway_ips", "routes", "ip_address"][field];
        said[name] = if field == 3 { json!([{"dest": value, "nextHop": value}]) } else { json!([value, value]) };
        for text in [text, json!({"default": said}).to_string()] {
            let cms = read(&profile.kind, &[(POD_NETWORKS.to_owned(), text)].into());
            let of = answer(&profile, None, "p", &binding, cms.as_ref());
            prop_assert_eq!(of.attached.mac, binding.mac);
            let ips: Vec<IpAddr> = of.attached.addresses.iter().map(|(net, _)| net.addr()).collect();
            prop_assert_eq!(&ips, &binding.ips);
            let link = on_link(&profile, &binding);
            let local: IpNet = "fe80::/10".parse().unwrap();
            for (net, gateway) in &of.attached.routes {
                let reached = |ip: &IpAddr| local.contains(ip) || link.iter().any(|it| it.contains(ip));
                prop_assert!(gateway.as_ref().map_or_else(|| link.iter().any(|it| it.contains(net)), reached));
            }
            prop_assert!(of.remarks.len() <= 8);
        }
    }
}
