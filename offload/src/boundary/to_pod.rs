//! What a pod may be sent. Who sends it has been checked at the sender's own boundary, or lies outside of our reach.

use super::{Boundary, OWN, TO_POD, arp, dhcp, discovery};
use crate::openflow::{Flow, Ipv4Match, Ipv6Match, Match};

pub fn flows(pod: &Boundary) -> Vec<Flow> {
    let frame = || Match::any().in_port(pod.patch).untagged();
    let tracked = |matches| pod.flow(OWN, matches, pod.track(TO_POD, pod.rep));

    let mut flows = arp::to_pod(pod);
    if !pod.own_ipv4().is_empty() {
        flows.push(tracked(frame().ipv4(Ipv4Match::default())));
    }
    if !pod.own_ipv6().is_empty() {
        flows.push(tracked(frame().ipv6(Ipv6Match::default())));
    }
    flows.extend(discovery::to_pod(pod));
    flows.extend(dhcp::to_pod(pod));
    flows
}
