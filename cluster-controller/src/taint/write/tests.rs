use super::*;

fn node(taints: Option<Value>) -> Node {
    let mut node = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}, "spec": {"podCIDR": "10.0.0.0/24"}});
    if let Some(taints) = taints {
        node["spec"]["taints"] = taints;
    }
    serde_json::from_value(node).unwrap()
}

fn taint(key: &str, effect: &str) -> Value {
    json!({"key": key, "effect": effect})
}

fn wanted(tainted: bool) -> Wanted {
    Wanted { uid: "u".into(), tainted, why: String::new() }
}

/// The taints that the patch makes, as `KEY:EFFECT`. That an API server reads it so is shown in
/// `tests/tests/cluster_controller.rs`.
fn patched(node: &Node, tainted: bool) -> Option<Vec<String>> {
    let patch = patch(node, &wanted(tainted))?;
    assert_eq!(patch[0]["op"], "test", "never without a precondition");
    let mut object = serde_json::to_value(node).unwrap();
    let change = &patch[1];
    let path = change["path"].as_str().unwrap();
    match (change["op"].as_str().unwrap(), path) {
        ("add", "/spec/taints") => object["spec"]["taints"] = change["value"].clone(),
        ("add", "/spec/taints/-") => {
            object["spec"]["taints"].as_array_mut().unwrap().push(change["value"].clone());
        }
        ("remove", path) => {
            let at: usize = path.strip_prefix("/spec/taints/").unwrap().parse().unwrap();
            object["spec"]["taints"].as_array_mut().unwrap().remove(at);
        }
        other => panic!("{other:?}"),
    }
    let all = object["spec"]["taints"].as_array().unwrap().iter();
    Some(
        all.map(|it| format!("{}:{}", it["key"].as_str().unwrap(), it["effect"].as_str().unwrap())).collect(),
    )
}

#[test]
fn our_taint_alone_is_added_and_taken_away() {
    const OURS: &str = "drawbridge.dev/nic-not-ready:NoSchedule";
    assert_eq!(patched(&node(None), true).unwrap(), [OURS]);
    assert_eq!(patched(&node(None), false), None);
    assert_eq!(patched(&node(Some(json!([]))), true).unwrap(), [OURS]);
    let others = json!([taint("a", "NoExecute"), taint(KEY, "NoExecute")]);
    let both = ["a:NoExecute", "drawbridge.dev/nic-not-ready:NoExecute"];
    assert_eq!(patched(&node(Some(others.clone())), true).unwrap(), [both[0], both[1], OURS]);
    assert_eq!(patched(&node(Some(others)), false), None);
    let all = json!([taint("a", "NoExecute"), taint(KEY, EFFECT), taint(KEY, "NoExecute")]);
    assert_eq!(patched(&node(Some(all.clone())), false).unwrap(), both);
    assert_eq!(patched(&node(Some(all)), true), None);
}

#[test]
fn another_node_of_this_name_is_left_alone() {
    let mut other = node(None);
    other.metadata.uid = Some("v".to_owned());
    assert_eq!(patch(&other, &wanted(true)), None);
    assert_eq!(patch(&Node::default(), &wanted(true)), None);
}
