//! NetworkPolicy, checked as the API server checks it (`ValidateNetworkPolicySpec` in `pkg/apis/networking/validation`).
//! Nothing here fails: what is wrong becomes a fault, and its rule allows nothing.

use ipnet::IpNet;
use offload::policy::PortRange;
use serde::Deserialize;

use super::super::policy::{self, Directions, Fault, Peer, Peers, PolicyPort, PolicyRule, Ports, Unkept};
use super::super::{Protocol, Requirement, Selector, Test};
use super::bounded::{Bounded, Weigh};
use super::{Metadata, or_default};

#[derive(Debug, Deserialize)]
pub(in crate::policy::model) struct Policy {
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, deserialize_with = "or_default")]
    pod_selector: LabelSelector,
    #[serde(default, deserialize_with = "or_default")]
    policy_types: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    ingress: Bounded<Rule>,
    #[serde(default, deserialize_with = "or_default")]
    egress: Bounded<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LabelSelector {
    #[serde(default, deserialize_with = "or_default")]
    match_labels: std::collections::BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    match_expressions: Bounded<Expression>,
}

#[derive(Debug, Deserialize)]
struct Expression {
    key: String,
    operator: String,
    #[serde(default, deserialize_with = "or_default")]
    values: Bounded<String>,
}

/// `from` of ingress, `to` of egress.
#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(default, deserialize_with = "or_default")]
    from: Bounded<RawPeer>,
    #[serde(default, deserialize_with = "or_default")]
    to: Bounded<RawPeer>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Bounded<RawPort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPeer {
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    ip_block: Option<IpBlock>,
}

#[derive(Debug, Deserialize)]
struct IpBlock {
    cidr: String,
    #[serde(default, deserialize_with = "or_default")]
    except: Bounded<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    protocol: Option<String>,
    port: Option<NumberOrName>,
    end_port: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NumberOrName {
    Number(i64),
    Name(String),
}

impl Weigh for String {}
impl Weigh for RawPort {}

impl Weigh for Expression {
    fn weight(&self) -> usize {
        1 + self.values.weight()
    }
}

impl Weigh for LabelSelector {
    fn weight(&self) -> usize {
        self.match_labels.len() + self.match_expressions.weight()
    }
}

impl Weigh for RawPeer {
    fn weight(&self) -> usize {
        let selectors = self.pod_selector.iter().chain(&self.namespace_selector);
        let of_selectors: usize = selectors.map(Weigh::weight).sum();
        1 + of_selectors + self.ip_block.as_ref().map_or(0, |it| it.except.weight())
    }
}

impl Weigh for Rule {
    fn weight(&self) -> usize {
        1 + self.from.weight() + self.to.weight() + self.ports.weight()
    }
}

/// Of a rule with more than this nobody reads all that is wrong.
const MOST_FAULTS: usize = 16;

/// Where we are in the object, and what was wrong so far.
struct Reader {
    /// The first of them.
    faults: Vec<Fault>,
    count: usize,
}

impl Reader {
    fn fault(&mut self, field: &str, what: impl Into<String>) {
        self.count += 1;
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault { field: field.to_owned(), what: what.into() });
        }
    }

    fn into_faults(mut self) -> Vec<Fault> {
        if let Some(more @ 1..) = self.count.checked_sub(self.faults.len()) {
            self.faults.push(Fault { field: "spec".to_owned(), what: format!("has {more} more of these") });
        }
        self.faults
    }

    /// `None`: there is a fault.
    fn selector(&mut self, at: &str, raw: &LabelSelector) -> Option<Selector> {
        let before = self.count;
        let mut requirements: Vec<Requirement> = raw
            .match_labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.as_str().into(),
                test: Test::In([value.as_str().into()].into()),
            })
            .collect();
        for (index, it) in raw.match_expressions.iter().enumerate() {
            let field = format!("{at}.matchExpressions[{index}]");
            let values = || it.values.iter().map(|it| it.as_str().into()).collect();
            let test = match (it.operator.as_str(), it.values.is_empty()) {
                ("In", false) => Test::In(values()),
                ("NotIn", false) => Test::NotIn(values()),
                ("Exists", true) => Test::Exists,
                ("DoesNotExist", true) => Test::DoesNotExist,
                ("In" | "NotIn", true) => {
                    self.fault(&format!("{field}.values"), "is empty; name at least one value");
                    continue;
                }
                ("Exists" | "DoesNotExist", false) => {
                    self.fault(
                        &format!("{field}.values"),
                        format!("stands beside {}; remove it", it.operator),
                    );
                    continue;
                }
                (other, _) => {
                    self.fault(
                        &format!("{field}.operator"),
                        format!("is {other:?}; write In, NotIn, Exists or DoesNotExist"),
                    );
                    continue;
                }
            };
            requirements.push(Requirement { key: it.key.as_str().into(), test });
        }
        (self.count == before).then(|| requirements.into_iter().collect())
    }

    fn cidr(&mut self, field: &str, text: &str) -> Option<IpNet> {
        let net: Option<IpNet> = text.parse().ok().map(|it: IpNet| it.trunc());
        match net {
            // The API server takes it for IPv4, others for IPv6.
            Some(IpNet::V6(net)) if net.network().to_ipv4_mapped().is_some() && net.prefix_len() >= 96 => {
                self.fault(field, format!("is {text:?}, IPv4 written as IPv6; write it as IPv4"));
                None
            }
            Some(net) => Some(net),
            None => {
                self.fault(field, format!("is {text:?}; write a prefix such as 10.0.0.0/8 or fd00::/64"));
                None
            }
        }
    }

    fn block(&mut self, at: &str, raw: &IpBlock) -> Option<Peer> {
        let cidr = self.cidr(&format!("{at}.cidr"), &raw.cidr);
        let mut except = Vec::with_capacity(raw.except.len());
        for (index, text) in raw.except.iter().enumerate() {
            let field = format!("{at}.except[{index}]");
            let hole = self.cidr(&field, text)?;
            if cidr.is_some_and(|cidr| !cidr.contains(&hole)) {
                self.fault(
                    &field,
                    format!("is {text}, which is not within {}; it must be a part of cidr", raw.cidr),
                );
                return None;
            }
            except.push(hole);
        }
        except.sort_unstable();
        Some(Peer::Block { cidr: cidr?, except })
    }

    fn peer(&mut self, at: &str, raw: &RawPeer) -> Option<Peer> {
        match (&raw.ip_block, &raw.pod_selector, &raw.namespace_selector) {
            (Some(block), None, None) => self.block(&format!("{at}.ipBlock"), block),
            (Some(_), ..) => {
                self.fault(at, "has ipBlock beside a selector; make two peers of it");
                None
            }
            (None, None, None) => {
                self.fault(at, "is empty; name podSelector, namespaceSelector or ipBlock");
                None
            }
            (None, pods, namespaces) => {
                let pods = match pods {
                    Some(raw) => self.selector(&format!("{at}.podSelector"), raw),
                    None => Some(Selector::everything()),
                };
                let namespaces = match namespaces {
                    Some(raw) => self.selector(&format!("{at}.namespaceSelector"), raw).map(Some),
                    None => Some(None),
                };
                Some(Peer::Pods { namespaces: namespaces?, pods: pods? })
            }
        }
    }

    fn port(&mut self, at: &str, raw: &RawPort) -> Option<PolicyPort> {
        let protocol = match raw.protocol.as_deref() {
            None => Protocol::Tcp,
            Some(text) => {
                let Some(protocol) = Protocol::from_name(text) else {
                    self.fault(&format!("{at}.protocol"), format!("is {text:?}; write TCP, UDP or SCTP"));
                    return None;
                };
                protocol
            }
        };
        let number = |number: i64| u16::try_from(number).ok().filter(|it| *it > 0);
        match (&raw.port, raw.end_port) {
            (None, None) => Some(PolicyPort::Range(protocol, PortRange::ALL)),
            (Some(NumberOrName::Name(name)), None) if !name.is_empty() => {
                Some(PolicyPort::Named(protocol, name.as_str().into()))
            }
            (Some(NumberOrName::Number(first)), last) => {
                let range = number(*first).and_then(|first| {
                    number(last.unwrap_or(first.into())).map(|last| PortRange::new(first, last))
                });
                match range {
                    Some(Some(range)) => Some(PolicyPort::Range(protocol, range)),
                    Some(None) => {
                        self.fault(&format!("{at}.endPort"), "is below port; write the greater one here");
                        None
                    }
                    None => {
                        let found = last.filter(|_| number(*first).is_some()).unwrap_or(*first);
                        self.fault(&format!("{at}.port"), format!("{found} is no port; write 1 to 65535"));
                        None
                    }
                }
            }
            (Some(NumberOrName::Name(_)), None) => {
                self.fault(
                    &format!("{at}.port"),
                    "is an empty name; write a name or a number, or leave it out",
                );
                None
            }
            (None | Some(NumberOrName::Name(_)), Some(_)) => {
                self.fault(&format!("{at}.endPort"), "needs a number in port; write the first port there");
                None
            }
        }
    }

    /// A rule with a fault is a rule for nobody.
    fn rule(&mut self, at: &str, side: &str, peers: &[RawPeer], ports: &[RawPort]) -> PolicyRule {
        let before = self.count;
        let read_peers: Vec<Option<Peer>> = peers
            .iter()
            .enumerate()
            .map(|(index, raw)| self.peer(&format!("{at}.{side}[{index}]"), raw))
            .collect();
        let read_ports: Vec<Option<PolicyPort>> = ports
            .iter()
            .enumerate()
            .map(|(index, raw)| self.port(&format!("{at}.ports[{index}]"), raw))
            .collect();
        if self.count > before {
            return PolicyRule { peers: Peers::Of(Vec::new()), ports: Ports::Of(Vec::new()) };
        }
        PolicyRule {
            peers: if peers.is_empty() {
                Peers::All
            } else {
                Peers::Of(read_peers.into_iter().flatten().collect())
            },
            ports: if ports.is_empty() {
                Ports::All
            } else {
                Ports::Of(read_ports.into_iter().flatten().collect())
            },
        }
    }

    fn directions(&mut self, spec: &Spec) -> Directions {
        // pkg/apis/networking/v1/defaults.go
        if spec.policy_types.is_empty() {
            return Directions { ingress: true, egress: !spec.egress.is_empty() };
        }
        let mut directions = Directions::default();
        for (index, text) in spec.policy_types.iter().enumerate() {
            match text.as_str() {
                "Ingress" => directions.ingress = true,
                "Egress" => directions.egress = true,
                other => {
                    self.fault(
                        &format!("spec.policyTypes[{index}]"),
                        format!("is {other:?}; write Ingress or Egress"),
                    );
                    directions = Directions { ingress: true, egress: true };
                }
            }
        }
        directions
    }
}

fn too_much(items: usize) -> Option<usize> {
    (items > policy::Policy::MOST_ITEMS).then_some(items)
}

impl From<Policy> for policy::Policy {
    fn from(raw: Policy) -> Self {
        let mut reader = Reader { faults: Vec::new(), count: 0 };
        let unkept = Unkept {
            selector: too_much(raw.spec.pod_selector.weight()),
            ingress: too_much(raw.spec.ingress.weight()),
            egress: too_much(raw.spec.egress.weight()),
        };
        let kept = |rules: Bounded<Rule>, unkept: Option<usize>| {
            if unkept.is_some() { Bounded::default() } else { rules }
        };
        let isolates = reader.directions(&raw.spec);
        let pod_selector = Some(raw.spec.pod_selector).filter(|_| unkept.selector.is_none());
        let selector =
            reader.selector("spec.podSelector", &pod_selector.unwrap_or_default()).unwrap_or_default();
        let ingress = kept(raw.spec.ingress, unkept.ingress);
        let egress = kept(raw.spec.egress, unkept.egress);
        let ingress = (ingress.iter().enumerate())
            .map(|(index, it)| reader.rule(&format!("spec.ingress[{index}]"), "from", &it.from, &it.ports))
            .collect();
        let egress = (egress.iter().enumerate())
            .map(|(index, it)| reader.rule(&format!("spec.egress[{index}]"), "to", &it.to, &it.ports))
            .collect();
        Self {
            name: raw.metadata.name(),
            uid: raw.metadata.uid.into(),
            selector,
            isolates,
            ingress,
            egress,
            faults: reader.into_faults(),
            unkept,
        }
    }
}
