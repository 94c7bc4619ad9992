//! A rule in words: what people read, and what a rule is told from others by. The order in which peers and ports were
//! written down is no part of it, nor is what stands twice.

use std::collections::BTreeSet;
use std::fmt;

use offload::policy::PortRange;

use super::policy::{Peer, Peers, PolicyPort, PolicyRule, Ports};
use super::selector::{Requirement, Selector, Test};

/// `pods app=client in namespaces team=a, 10.0.0.0/8 except 10.1.0.0/16: TCP 80, UDP 53`
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peers {
            Peers::All => f.write_str("everybody")?,
            Peers::Of(peers) => list(f, peers, "nobody")?,
        }
        f.write_str(": ")?;
        match &self.ports {
            Ports::All => f.write_str("every protocol"),
            Ports::Of(ports) => list(f, ports, "no port"),
        }
    }
}

fn list<T: ToString>(f: &mut fmt::Formatter<'_>, items: &[T], none: &str) -> fmt::Result {
    let words: BTreeSet<String> = items.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        return f.write_str(none);
    }
    for (n, word) in words.iter().enumerate() {
        write!(f, "{}{word}", if n == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_all = |selector: &Selector| selector.requirements().next().is_none();
        match self {
            Self::Block { cidr, except } => {
                write!(f, "{cidr}")?;
                for (n, hole) in except.iter().enumerate() {
                    write!(f, "{}{hole}", if n == 0 { " except " } else { " and " })?;
                }
                Ok(())
            }
            Self::Pods { namespaces, pods } => {
                if is_all(pods) {
                    f.write_str("every pod")?;
                } else {
                    write!(f, "pods {pods}")?;
                }
                match namespaces {
                    None => Ok(()),
                    Some(namespaces) if is_all(namespaces) => f.write_str(" in every namespace"),
                    Some(namespaces) => write!(f, " in namespaces {namespaces}"),
                }
            }
        }
    }
}

/// As `kubectl` takes it.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, requirement) in self.requirements().enumerate() {
            write!(f, "{}{requirement}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let joined = |values: &BTreeSet<_>| {
            let values: Vec<&str> = values.iter().map(|it: &std::sync::Arc<str>| &**it).collect();
            values.join(",")
        };
        match &self.test {
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", joined(values)),
            Test::In(values) => write!(f, "{key} in ({})", joined(values)),
            Test::NotIn(values) => write!(f, "{key} notin ({})", joined(values)),
            Test::Exists => write!(f, "{key}"),
            Test::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

impl fmt::Display for PolicyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(protocol, range) if *range == PortRange::ALL => write!(f, "{protocol}"),
            Self::Range(protocol, range) if range.first() == range.last() => {
                write!(f, "{protocol} {}", range.first())
            }
            Self::Range(protocol, range) => write!(f, "{protocol} {}-{}", range.first(), range.last()),
            Self::Named(protocol, name) => write!(f, "{protocol} {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::policy::Policy;

    fn ingress(rule: &serde_json::Value) -> String {
        let policy = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]},
        });
        serde_json::from_value::<Policy>(policy).unwrap().ingress[0].to_string()
    }

    #[test]
    fn a_rule_in_words() {
        assert_eq!(ingress(&json!({})), "everybody: every protocol");
        let rule = json!({
            "from": [
                {"podSelector": {"matchLabels": {"app": "client"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16", "10.1.0.0/16"]}},
                {"namespaceSelector": {"matchExpressions": [
                    {"key": "team", "operator": "In", "values": ["b", "a"]},
                    {"key": "old", "operator": "DoesNotExist"}]}},
                {"namespaceSelector": {}, "podSelector": {"matchExpressions": [
                    {"key": "app", "operator": "NotIn", "values": ["x"]}, {"key": "run", "operator": "Exists"}]}},
                {"podSelector": {}},
            ],
            "ports": [{"port": 80}, {"protocol": "UDP", "port": 5, "endPort": 9}, {"port": "http"}, {"protocol": "SCTP"}],
        });
        assert_eq!(
            ingress(&rule),
            "10.0.0.0/8 except 10.1.0.0/16 and 10.2.0.0/16, every pod, every pod in namespaces !old,team in (a,b), \
             pods app notin (x),run in every namespace, pods app=client: SCTP, TCP \"http\", TCP 80, UDP 5-9"
        );
    }

    #[test]
    fn the_order_of_peers_and_ports_says_nothing() {
        let block = |cidr| json!({"ipBlock": {"cidr": cidr}});
        let one = json!({"from": [block("10.0.0.0/8"), block("192.0.2.0/24")], "ports": [{"port": 80}, {"port": 443}]});
        let other = json!({
            "from": [block("192.0.2.0/24"), block("10.0.0.0/8"), block("10.0.0.0/8")],
            "ports": [{"port": 443}, {"port": 80}],
        });
        assert_eq!(ingress(&one), ingress(&other));
    }
}
