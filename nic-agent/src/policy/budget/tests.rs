use serde_json::{Value, json};

use super::*;

fn policy(spec: &Value) -> Policy {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn budget() -> Budget {
    let policy = Cost { rules: 3, prefixes: 40, ports: 8, bytes: 4096 };
    Budget { policy, ..Budget::default() }
}

/// Ingress as given, egress that costs little.
fn held(ingress: &Value) -> Held {
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": ingress,
        "egress": [{"ports": [{"port": 80}]}], "policyTypes": ["Ingress", "Egress"]});
    budget().hold(policy(&spec))
}

#[test]
fn what_is_too_much_is_taken_from_that_direction_with_its_number() {
    let rule = |port: usize| json!({"ports": [{"port": port}]});
    let rules = |count: usize| Value::Array((1..=count).map(rule).collect());
    let ports =
        |count: usize| json!([{"ports": (1..=count).map(|it| json!({"port": it})).collect::<Vec<_>>()}]);
    let range = json!([{"ports": [{"port": 1, "endPort": 65_534}]}]);
    // A hole leaves 24 prefixes, one for each bit below the /8. Two share 7 of the bits: 7 + 16 + 16; the third 6 of them.
    let excepts = |count: usize| {
        let holes: Vec<String> = (0..count).map(|it| format!("10.{it}.0.1/32")).collect();
        json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": holes}}]}])
    };
    let names = |count: usize| {
        let values: Vec<String> = (0..count).map(|it| format!("value-{it:040}")).collect();
        json!([{"from": [{"podSelector": {"matchExpressions": [{"key": "k", "operator": "In", "values": values}]}}]}])
    };
    for (ingress, wanted) in [
        (rules(3), None),
        (rules(4), Some((4, 3, "policy-rules"))),
        (ports(8), None),
        (ports(9), Some((9, 8, "policy-ports"))),
        (range, Some((30, 8, "policy-ports"))),
        (excepts(2), None),
        (excepts(3), Some((6 + 16 + 16 + 1 + 16, 40, "policy-prefixes"))),
        (names(10), None),
        (names(100), Some((100 * 78, 4096, "policy-bytes"))),
    ] {
        let Held { policy, excess, cost } = held(&ingress);
        assert_eq!((policy.egress.len(), policy.isolates.ingress), (1, true), "{ingress}");
        let Some((found, most, key)) = wanted else {
            assert!(excess.is_empty() && !policy.ingress.is_empty(), "{ingress}: {excess:?}");
            continue;
        };
        let [(Some(Direction::Ingress), excess)] = excess[..] else { panic!("{ingress}: {excess:?}") };
        // What is left is the other direction's.
        assert_eq!((policy.ingress.len(), cost.rules, cost.ports, cost.prefixes), (0, 1, 1, 0));
        assert_eq!((excess.most, excess.key), (most, key));
        assert!(excess.found >= found && excess.found < 3 * found, "{excess}");
        assert!(excess.to_string().contains(&format!("at most {most} (policy.budget.{key})")), "{excess}");
    }
}

#[test]
fn a_selector_that_is_too_much_selects_everybody() {
    let values: Vec<String> = (0..1000).map(|it| format!("v{it}")).collect();
    let spec = json!({"podSelector": {"matchExpressions": [{"key": "k", "operator": "In", "values": values}]}, "ingress": [{}]});
    let Held { policy, excess, cost } = budget().hold(policy(&spec));
    assert_eq!((policy.selector, policy.ingress.len()), (Selector::everything(), 0));
    assert!(policy.isolates.ingress && cost.bytes < 1024);
    assert!(matches!(excess[..], [(None, Excess { key: "policy-bytes", .. })]));
}

#[test]
fn a_million_of_nothing_is_not_kept() {
    let text = format!(
        r#"{{"metadata": {{"namespace": "a", "name": "p"}}, "spec": {{"podSelector": {{}}, "ingress": [{}]}}}}"#,
        vec!["{}"; 500_000].join(",")
    );
    let policy: Policy = serde_json::from_str(&text).unwrap();
    assert_eq!((policy.ingress.len(), policy.unkept.ingress), (0, Some(500_000)));
    let Held { policy, excess, .. } = Budget::default().hold(policy);
    assert!(policy.isolates.ingress && policy.ingress.is_empty());
    assert_eq!(excess[0].1.to_string(), "500000 rules, peers, ports and values in all, at most 20000");
    // Of what is wrong, too, only the beginning is said.
    let wrong = json!({"podSelector": {}, "ingress": [{"ports": vec![json!({"port": 0}); 5000]}]});
    let faults = self::policy(&wrong).faults;
    assert_eq!((faults.len(), faults[16].to_string()), (17, "spec: has 4984 more of these".to_owned()));
}
