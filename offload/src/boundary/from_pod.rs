//! What a pod may send.

use super::{Boundary, FROM_POD, OWN, arp, dhcp, discovery};
use crate::openflow::{Flow, Ipv4Match, Ipv6Match, Match};

pub fn flows(pod: &Boundary) -> Vec<Flow> {
    let frame = || Match::any().in_port(pod.rep).untagged().eth_src(pod.mac);
    let tracked = |matches| pod.flow(OWN, matches, pod.track(FROM_POD, pod.patch));

    let mut flows = arp::from_pod(pod);
    flows.extend(discovery::from_pod(pod));
    flows.extend(pod.own_ipv4().into_iter().map(|src| {
        let ip = Ipv4Match { src: src.into(), ..Ipv4Match::default() };
        tracked(frame().ipv4(ip))
    }));
    flows.extend(pod.own_ipv6().into_iter().map(|src| {
        let ip = Ipv6Match { src: src.into(), ..Ipv6Match::default() };
        tracked(frame().ipv6(ip))
    }));
    flows.extend(dhcp::from_pod(pod));
    flows
}
