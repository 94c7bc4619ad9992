//! What rules come to for one port of a Service.

use std::net::IpAddr;

use offload::policy::{Rule, Traffic, Transport};

use crate::policy::index::Front;
use crate::policy::model::Protocol;

/// How the policies stand to one port of a Service. Not said of those that no rule has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Covered {
        /// A rule names the address itself, so that nothing more need be said.
        is_named: bool,
    },
    Refused {
        /// A rule names the address itself.
        is_named: bool,
        covered: usize,
        /// The first [`SOME`] of them.
        uncovered: Vec<(IpAddr, u16)>,
        more: usize,
    },
}

const SOME: usize = 64;

fn transport(protocol: Protocol, port: u16) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp { src: 0, dst: port },
        Protocol::Udp => Transport::Udp { src: 0, dst: port },
        Protocol::Sctp => Transport::Sctp { src: 0, dst: port },
    }
}

fn covers(rules: &[Rule], ip: IpAddr, protocol: Protocol, port: u16) -> bool {
    let transport = transport(protocol, port);
    rules.iter().any(|rule| rule.traffic.covers(transport, ip.is_ipv6()) && rule.peers.contains(ip))
}

pub fn judge(rules: &[Rule], front: &Front) -> Option<Standing> {
    if front.is_whole {
        let is_named = rules.iter().any(|rule| rule.peers.contains(front.address));
        let (covered, uncovered, more) = (0, Vec::new(), 0);
        return is_named.then_some(Standing::Refused { is_named, covered, uncovered, more });
    }
    let is_named = covers(rules, front.address, front.protocol, front.port);
    let (covered, mut uncovered): (Vec<_>, Vec<_>) =
        front.backends.iter().partition(|(ip, port)| covers(rules, *ip, front.protocol, *port));
    if uncovered.is_empty() && !covered.is_empty() {
        return Some(Standing::Covered { is_named });
    }
    let more = uncovered.len().saturating_sub(SOME);
    uncovered.truncate(SOME);
    uncovered.shrink_to_fit();
    (is_named || !covered.is_empty()).then_some(Standing::Refused {
        is_named,
        covered: covered.len(),
        uncovered,
        more,
    })
}

/// May the pod with these addresses, of which it is itself one or more backends, use it? Nothing denies a pod itself.
pub fn is_covered_for(rules: &[Rule], front: &Front, own: &[IpAddr]) -> bool {
    let is_allowed =
        |(ip, port): &(IpAddr, u16)| own.contains(ip) || covers(rules, *ip, front.protocol, *port);
    !front.backends.is_empty() && front.backends.iter().all(is_allowed)
}

/// Everything is allowed: no Service needs a rule, and none is refused.
pub fn is_open(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| rule.traffic == Traffic::Any && rule.peers.is_any())
}
