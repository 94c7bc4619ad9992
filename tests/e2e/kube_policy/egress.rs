//! Whom a pod may reach. Each pod that is named here has a policy of another kind; `ports` has the others.

use std::net::IpAddr;

use serde_json::json;
use tests::policy_lab::Kind;

use crate::cases::{Case, case, from, pod, policy};
use crate::ingress::{alone, not_in};
use crate::matrix::{Cell, Change};

pub fn cases(of: &dyn Fn(&str) -> [IpAddr; 2]) -> Vec<Case> {
    let ([b4, b6], [c4, _]) = (of("y/b"), of("z/c"));
    // All pods of the lab, but one or two of each family.
    let blocks = || {
        json!([
            {"ipBlock": {"cidr": "10.244.0.0/16", "except": [alone(b4), alone(c4)]}},
            {"ipBlock": {"cidr": "fd00:10:244::/48", "except": [alone(b6)]}}])
    };
    let in_blocks = |it: &Cell| !it.to.is("y/b") && (it.v6 || !it.to.is("z/c"));
    vec![
        // "should enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and
        // NamespaceSelector", "should support multiple egress rules"
        case(
            "egress to pods and namespaces",
            vec![from(
                "x/a",
                &json!([
                    {"to": [{"namespaceSelector": not_in("ns", "x"), "podSelector": pod("a")}]},
                    {"to": [{"podSelector": pod("c")}]}]),
            )],
            |it| !it.from.is("x/a") || (it.to.ns != "x" && it.to.pod == "a") || it.to.is("x/c"),
        ),
        // "should allow egress access to server in CIDR block", "should enforce except clause while egress access …"
        case(
            "egress to blocks with exceptions",
            vec![from("x/b", &json!([{"to": blocks(), "ports": [{"protocol": "TCP"}]}]))],
            move |it| !it.from.is("x/b") || (in_blocks(it) && matches!(it.kind, Kind::Tcp(_))),
        ),
        // "should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed"
        case(
            "an exception that another policy takes back",
            vec![
                from("x/c", &json!([{"to": blocks()}])),
                Change::Apply(
                    "x",
                    policy(
                        "more",
                        &json!({"podSelector": pod("c"), "policyTypes": ["Egress"],
                            "egress": [{"to": [{"ipBlock": {"cidr": alone(b4)}}]}]}),
                    ),
                ),
            ],
            move |it| !it.from.is("x/c") || in_blocks(it) || (it.to.is("y/b") && !it.v6),
        ),
        case("egress to nobody", vec![from("z/a", &json!([]))], |it| !it.from.is("z/a")),
        case("egress to everybody", vec![from("z/b", &json!([{}]))], |_| true),
        case(
            "egress to all namespaces",
            vec![from("z/c", &json!([{"to": [{"namespaceSelector": {}}]}]))],
            |_| true,
        ),
    ]
}
