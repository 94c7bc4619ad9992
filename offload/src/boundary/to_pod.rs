//! What a pod may be sent. Who sends it has been checked at the sender's own boundary, or lies outside of our reach.

use std::net::Ipv4Addr;

use super::{Boundary, OWN, SPECIAL, TO_POD, arp, discovery};
use crate::openflow::{Action, Flow, FragMatch, Ipv4Match, Ipv6Match, L4Match, Match};

pub fn flows(pod: &Boundary) -> Vec<Flow> {
    let frame = || Match::any().in_port(pod.patch).untagged();
    let past = |matches| pod.flow(SPECIAL, matches, vec![Action::Output(pod.rep.into())]);
    let tracked = |matches| pod.flow(OWN, matches, pod.track(TO_POD, pod.rep));

    let mut flows = arp::to_pod(pod);
    if !pod.own_ipv4().is_empty() {
        flows.push(tracked(frame().ipv4(Ipv4Match::default())));
    }
    if !pod.own_ipv6().is_empty() {
        flows.push(tracked(frame().ipv6(Ipv6Match::default())));
    }
    flows.extend(discovery::to_pod(pod));
    if pod.dhcp {
        flows.extend(dhcp4(pod).into_iter().map(|ip| past(frame().ipv4(ip))));
        flows.extend(dhcp6(pod).into_iter().map(|ip| past(frame().ipv6(ip))));
    }
    flows
}

/// Offers come to all, or to the address that is offered.
fn dhcp4(pod: &Boundary) -> Vec<Ipv4Match> {
    let own = pod.own_ipv4();
    let all = own.first().map(|_| Ipv4Addr::BROADCAST);
    let answer = |dst: Ipv4Addr| Ipv4Match {
        dst: dst.into(),
        frag: FragMatch::No,
        l4: L4Match::udp(67, 68),
        ..Ipv4Match::default()
    };
    own.into_iter().chain(all).map(answer).collect()
}

fn dhcp6(pod: &Boundary) -> Vec<Ipv6Match> {
    let answer = |dst: std::net::Ipv6Addr| Ipv6Match {
        dst: dst.into(),
        frag: FragMatch::No,
        l4: L4Match::udp(547, 546),
        ..Ipv6Match::default()
    };
    pod.own_link_locals().into_iter().map(answer).collect()
}
