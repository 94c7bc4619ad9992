//! The CRDs that are checked in are those that the types give. `UPDATE_CRDS=1 cargo test -p drawbridge-api` writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use drawbridge_api::{NicNode, NodeRange, PodAttachment};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../packaging/kubernetes/crds/{name}.yaml"))
}

fn all() -> [(&'static str, CustomResourceDefinition); 3] {
    [("nicnodes", NicNode::crd()), ("noderanges", NodeRange::crd()), ("podattachments", PodAttachment::crd())]
}

#[test]
fn what_is_checked_in_is_what_the_types_say() {
    for (name, crd) in all() {
        let body = serde_saphyr::to_string(&serde_json::to_value(&crd).unwrap()).unwrap();
        let wanted =
            format!("# Generated from nic-agent/api: UPDATE_CRDS=1 cargo test -p drawbridge-api\n{body}");
        let path = path(name);
        if std::env::var_os("UPDATE_CRDS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(there == wanted, "{}: UPDATE_CRDS=1 cargo test -p drawbridge-api", path.display());
    }
}

/// Every object of a schema, with its path.
fn walk<'a>(schema: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    found.push((path.to_owned(), schema));
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        walk(of, &format!("{path}.{name}"), found);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), found);
    }
}

/// An unbounded list or string makes the API server refuse CEL rules as too expensive, and lets one object fill etcd.
#[test]
fn what_users_write_is_bounded_and_described() {
    for (name, crd) in all() {
        let crd = serde_json::to_value(&crd).unwrap();
        let mut found = Vec::new();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        walk(schema, &format!("{name}.spec"), &mut found);
        assert!(found.len() > 4, "{name}: {schema}");
        for (path, of) in found {
            match of["type"].as_str() {
                Some("array") => assert!(of["maxItems"].is_u64(), "{path} is unbounded: {of}"),
                Some("integer") => assert!(of["maximum"].is_number(), "{path} has no maximum: {of}"),
                Some("string") if of["enum"].is_null() => {
                    assert!(of["maxLength"].is_u64(), "{path} is unbounded: {of}");
                }
                _ => {}
            }
        }
    }
}

/// Kubernetes' API conventions: integers are `int32` or `int64`, and what we count is never negative. The API server takes
/// a value outside of its format for none.
#[test]
fn integers_are_signed_and_say_their_bounds() {
    for (name, crd) in all() {
        let crd = serde_json::to_value(&crd).unwrap();
        let mut found = Vec::new();
        walk(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name, &mut found);
        let integers: Vec<_> = found.into_iter().filter(|(_, of)| of["type"] == "integer").collect();
        assert!(!integers.is_empty(), "{name} is not walked");
        for (path, of) in integers {
            let highest = match of["format"].as_str() {
                Some("int32") => f64::from(i32::MAX),
                Some("int64") => 2_f64.powi(63),
                other => panic!("{path} has the format {other:?}: int32 or int64"),
            };
            assert!(of["minimum"].as_f64().is_some_and(|it| it >= 0.0), "{path} may be negative: {of}");
            assert!(of["maximum"].as_f64().is_none_or(|it| it <= highest), "{path}: {of}");
        }
        // A boolean has no room for a third word.
        let mut found = Vec::new();
        walk(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name, &mut found);
        for (path, of) in found {
            assert!(of["type"] != "boolean" && of["type"] != "number", "{path}: write an enum or an integer");
        }
    }
}

fn good() -> Value {
    json!({
        "nodeName": "server1",
        "profile": { "kind": "Plain", "template": "{namespace}_{name}" },
        "ovn": {
            "remotes": ["ssl:[2001:db8::1]:6642", "tcp:192.0.2.1:6642"],
            "encapsulation": { "types": ["Geneve"], "addresses": ["192.0.2.7", "2001:db8::7"] },
            "ctZoneRange": { "first": 1, "last": 59999 },
        },
        "podZones": { "first": 61000, "last": 61254 },
        "managementPort": { "pf": 0, "vf": 0 },
        "shim": { "keyPins": ["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"] },
    })
}

/// What the API server's rules say of a spec that replaces `old`.
fn verdict(crd: &CustomResourceDefinition, spec: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].clone();
    let object = |spec: &Value| json!({ "metadata": { "name": "server1" }, "spec": spec });
    let old = old.map(object);
    let judged = kube_cel::Validator::new().validate(&schema, &object(spec), old.as_ref());
    let errors = judged.err().map(kube_cel::ValidationErrors::into_vec).unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}

#[test]
fn rules_let_the_good_by_and_say_what_is_wrong_with_the_rest() {
    let crd = NicNode::crd();
    assert_eq!(verdict(&crd, &good(), None), Vec::<String>::new());
    assert_eq!(verdict(&crd, &good(), Some(&good())), Vec::<String>::new());
    for (at, value, said) in [
        ("/profile/kind", json!("KubeOVN"), "template belongs to kind Plain"),
        ("/profile", json!({ "kind": "Plain" }), "template belongs to kind Plain"),
        ("/ovn/remotes/0", json!("unix:/run/sb.sock"), "each of spec.ovn.remotes"),
        ("/ovn/encapsulation/addresses/1", json!("192.0.2.256"), "each of spec.ovn.encapsulation.addresses"),
        ("/ovn/encapsulation/addresses", json!([]), "either addresses or interface"),
        ("/ovn/ctZoneRange/first", json!(60000), "first is greater than last"),
        ("/podZones/first", json!(60999), "255 zones at most"),
        ("/shim", json!({ "keyPins": ["AB"] }), "each of spec.shim.keyPins"),
    ] {
        let mut spec = good();
        *spec.pointer_mut(at).unwrap() = value;
        let verdict = verdict(&crd, &spec, None);
        assert!(verdict.len() == 1 && verdict[0].contains(said), "{at}: {verdict:?}");
    }
    let mut other = good();
    other["nodeName"] = json!("server2");
    let changed = verdict(&crd, &other, Some(&good()));
    assert!(changed.iter().any(|it| it.contains("spec.nodeName cannot be changed")), "{changed:?}");
    // As a second one for a node would be made.
    let second = verdict(&crd, &other, None);
    assert!(second.len() == 1 && second[0].contains("has the name of its node"), "{second:?}");
}

#[test]
fn an_attachment_is_not_moved() {
    let crd = PodAttachment::crd();
    let spec = json!({
        "pod": { "name": "a", "uid": "1" }, "interface": "eth0", "nodeName": "server1", "vf": { "pf": 0, "vf": 3 },
    });
    assert_eq!(verdict(&crd, &spec, Some(&spec)), Vec::<String>::new());
    let mut other = spec.clone();
    other["vf"]["vf"] = json!(4);
    assert_eq!(verdict(&crd, &other, Some(&spec)).len(), 1);
}

#[test]
fn a_range_is_a_prefix() {
    let crd = NodeRange::crd();
    let good = json!({ "ranges": ["10.244.1.0/24", "fd00:10:244:1::/64"], "addresses": ["192.0.2.1", "2001:db8::1"] });
    assert_eq!(verdict(&crd, &good, None), Vec::<String>::new());
    assert_eq!(verdict(&crd, &json!({}), None), Vec::<String>::new());
    for (spec, said) in [
        (json!({ "ranges": ["10.244.1.0"] }), "each of spec.ranges"),
        (json!({ "ranges": ["10.244.1.7/24"] }), "each of spec.ranges"),
        (json!({ "addresses": ["10.244.1.0/24"] }), "each of spec.addresses"),
    ] {
        let verdict = verdict(&crd, &spec, None);
        assert!(verdict.len() == 1 && verdict[0].contains(said), "{spec}: {verdict:?}");
    }
}
