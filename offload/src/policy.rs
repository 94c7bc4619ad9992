//! Policy: what a pod may start and what may reach it, without a word of Kubernetes or of any switch.
//!
//! ```text
//!  NetworkPolicy, security groups, …  ──►  PodPolicy  ──┬──►  OpenFlow tables    (overlay: br-edge)
//!        (translated by the agent)            │         └──►  TC flower chains   (underlay)
//!                                             └──►  verdict()  says what is right
//! ```
//!
//! A direction of a pod is a [`Rules`]: tiers in order, each with rules in order. The first rule that matches in a
//! tier decides; [`Action::Pass`] and a tier in which nothing matches (unless the tier says otherwise) hand on to the
//! next tier. After the last tier: allowed. So Kubernetes' NetworkPolicy is one tier of allow rules that denies the
//! rest; an admin's tiers stand before and after it; a security group is a tier of its own.
//!
//! Equal values are equal bytes: prefixes are aggregated and sorted, ports are ranges that neither touch nor overlap.
//! Who builds a [`Rules`] from the same parts in whatever order of *peers and ports* gets the same value. The order of
//! *rules* has a meaning and is kept.

mod mark;
mod ports;
mod prefixes;
mod traffic;
mod verdict;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use mark::{NoRuleMark, RuleMark};
pub use ports::{PortRange, PortSet};
pub use prefixes::PrefixSet;
pub use traffic::{IcmpKind, Traffic, Transports};
pub use verdict::{Decision, Direction, Packet, State, Transport, decide, verdict};

/// Which policy's rule this was: opaque here, carried into every flow and filter that a rule becomes (OpenFlow cookie,
/// TC action cookie), so that whoever reads them there can name the rule. Given by the translator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(pub u64);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Allow,
    Deny,
    /// Not decided here: the next tier's.
    Pass,
}

/// One rule. An empty set of peers or of traffic matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub action: Action,
    /// The other side: of egress the destination, of ingress the source.
    pub peers: PrefixSet,
    /// Ports are always the destination's.
    pub traffic: Traffic,
    pub origin: Origin,
}

/// Rules of one rank. The first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    pub rules: Vec<Rule>,
    /// What happens to what no rule of the tier matches.
    pub otherwise: Action,
    /// Names who said `otherwise`.
    pub origin: Origin,
}

/// One direction of a pod. No tier: not isolated, everything is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub tiers: Vec<Tier>,
}

impl Rules {
    /// No rule at all: every new connection is allowed.
    pub fn is_open(&self) -> bool {
        self.tiers.is_empty()
    }

    /// How many matches say it, one of a peer and of a block of ports: so many flows it may take, and no more but for a few.
    pub fn size(&self) -> usize {
        let rules = self.tiers.iter().flat_map(|tier| &tier.rules);
        rules.fold(0, |sum, rule| sum.saturating_add(rule.peers.len().saturating_mul(rule.traffic.size())))
    }
}

/// What a pod may start, and what may reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodPolicy {
    pub egress: Rules,
    pub ingress: Rules,
}

impl PodPolicy {
    pub fn rules(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_the_file_that_keeps_it() {
        let rule = Rule {
            action: Action::Allow,
            peers: PrefixSet::any(),
            traffic: Traffic::Of(Transports {
                tcp: PortRange::new(80, 90).into_iter().collect(),
                icmp: [IcmpKind::TypeCode(3, 4), IcmpKind::Any].into(),
                ..Transports::default()
            }),
            origin: Origin(u64::MAX),
        };
        let tier = Tier { rules: vec![rule], otherwise: Action::Deny, origin: Origin(7) };
        let policy = PodPolicy { egress: Rules { tiers: vec![tier] }, ingress: Rules::default() };
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<PodPolicy>(&text).unwrap(), policy, "{text}");
        // What was not canonical becomes so, and what makes no sense is refused.
        assert_eq!(serde_json::from_str::<PortSet>("[[5, 9], [1, 4]]").unwrap().ranges().len(), 1);
        assert!(serde_json::from_str::<PortSet>("[[9, 5]]").is_err());
    }
}
