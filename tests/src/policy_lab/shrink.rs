//! A smaller cluster that is still wrong.

use serde_json::Value;

/// One step simpler, each in another way, the largest steps first: without a policy, a rule, a peer, a port, an `except`, a
/// part of a selector; then without a namespace's or a pod's labels and ports. Pods and namespaces stay: the lab has them.
pub fn simpler(items: &[Value]) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    let mut with = |index: usize, item: Option<Value>| {
        let mut fewer = items.to_vec();
        match item {
            Some(item) => fewer[index] = item,
            None => drop(fewer.remove(index)),
        }
        all.push(fewer);
    };
    let of = |kind: &'static [&'static str]| {
        items
            .iter()
            .enumerate()
            .filter(move |(_, it)| it["kind"].as_str().is_some_and(|it| kind.contains(&it)))
    };
    for (index, _) in of(&["NetworkPolicy", "Service", "EndpointSlice"]) {
        with(index, None);
    }
    for (index, policy) in of(&["NetworkPolicy"]) {
        for lists in [
            &["/spec/ingress", "/spec/egress"][..],
            &["/spec/ingress/*/from", "/spec/egress/*/to", "/spec/ingress/*/ports", "/spec/egress/*/ports"],
            &["/spec/ingress/*/from/*/ipBlock/except", "/spec/egress/*/to/*/ipBlock/except"],
            &[
                "/spec/podSelector/matchExpressions",
                "/spec/ingress/*/from/*/podSelector/matchExpressions",
                "/spec/ingress/*/from/*/namespaceSelector/matchExpressions",
                "/spec/egress/*/to/*/podSelector/matchExpressions",
                "/spec/egress/*/to/*/namespaceSelector/matchExpressions",
            ],
        ] {
            for pointer in lists.iter().flat_map(|pattern| expand(policy, pattern)) {
                let length = policy.pointer(&pointer).and_then(Value::as_array).map_or(0, Vec::len);
                for element in 0..length {
                    let mut simple = policy.clone();
                    if let Some(list) = simple.pointer_mut(&pointer).and_then(Value::as_array_mut) {
                        list.remove(element);
                    }
                    with(index, Some(simple));
                }
            }
        }
    }
    for (index, item) in of(&["Namespace", "Pod"]) {
        for pointer in ["/spec/containers/0/ports", "/metadata/labels"] {
            let mut simple = item.clone();
            let Some(value) = simple.pointer_mut(pointer) else { continue };
            match value {
                Value::Array(list) if !list.is_empty() => list.clear(),
                Value::Object(map) if !map.is_empty() => map.clear(),
                _ => continue,
            }
            with(index, Some(simple));
        }
    }
    all
}

/// The pointers that a pattern means here; `*` is any index.
fn expand(value: &Value, pattern: &str) -> Vec<String> {
    let Some((before, after)) = pattern.split_once("/*") else { return vec![pattern.to_owned()] };
    let length = value.pointer(before).and_then(Value::as_array).map_or(0, Vec::len);
    (0..length).flat_map(|index| expand(value, &format!("{before}/{index}{after}"))).collect()
}

/// The simplest that `is_wrong` still calls so, in at most that many tries.
pub fn shrink(items: &[Value], tries: usize, mut is_wrong: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
    let (mut items, mut left) = (items.to_vec(), tries);
    'simpler: loop {
        for fewer in simpler(&items) {
            if left == 0 {
                return items;
            }
            left -= 1;
            if is_wrong(&fewer) {
                items = fewer;
                continue 'simpler;
            }
        }
        return items;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_goes_that_does_not_matter() {
        let block = |except: &[&str]| json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": except}});
        let policy = |name: &str| {
            json!({"kind": "NetworkPolicy", "metadata": {"name": name}, "spec": {
                "podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]},
                "ingress": [{"ports": [{"port": 80}]}, {"from": [{"podSelector": {}}, block(&["10.1.0.0/16", "10.2.0.0/16"])]}],
                "egress": [{"to": [block(&[])]}]}})
        };
        let pod = json!({"kind": "Pod", "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"ports": [1]}]}});
        let items = [pod, policy("x"), policy("y")];
        let is_wrong = |items: &[Value]| items.iter().any(|it| it.to_string().contains("10.2.0.0/16"));
        let shrunk = shrink(&items, 100, is_wrong);
        assert_eq!(
            shrunk,
            [
                json!({"kind": "Pod", "metadata": {"labels": {}}, "spec": {"containers": [{"ports": []}]}}),
                json!({"kind": "NetworkPolicy", "metadata": {"name": "y"}, "spec": {
                    "podSelector": {"matchExpressions": []},
                    "ingress": [{"from": [block(&["10.2.0.0/16"])]}], "egress": []}}),
            ]
        );
        assert_eq!(shrink(&items, 1, is_wrong).len(), 2, "one try, one step");
    }
}
