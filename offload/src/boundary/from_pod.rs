//! What a pod may send.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Boundary, FROM_POD, NOT_OWN, OWN, SPECIAL, arp, discovery};
use crate::openflow::{Action, Flow, FragMatch, Ipv4Match, Ipv6Match, L4Match, Match};

/// `All_DHCP_Relay_Agents_and_Servers`.
const DHCP6_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

pub fn flows(pod: &Boundary) -> Vec<Flow> {
    let frame = || Match::any().in_port(pod.rep).untagged().eth_src(pod.mac);
    let past = |matches| pod.flow(SPECIAL, matches, vec![Action::Output(pod.patch.into())]);
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
    if pod.dhcp {
        flows.extend(
            dhcp4(pod).map(|ip| pod.flow(NOT_OWN, frame().ipv4(ip), vec![Action::Output(pod.patch.into())])),
        );
        flows.extend(dhcp6(pod).into_iter().map(|ip| past(frame().ipv6(ip))));
    }
    flows
}

fn dhcp4(pod: &Boundary) -> impl Iterator<Item = Ipv4Match> {
    let discover = Ipv4Match {
        src: Ipv4Addr::UNSPECIFIED.into(),
        dst: Ipv4Addr::BROADCAST.into(),
        frag: FragMatch::No,
        l4: L4Match::udp(68, 67),
    };
    pod.own_ipv4().into_iter().take(1).map(move |_| discover.clone())
}

fn dhcp6(pod: &Boundary) -> Vec<Ipv6Match> {
    let solicit = |src: Ipv6Addr| Ipv6Match {
        src: src.into(),
        dst: DHCP6_SERVERS.into(),
        frag: FragMatch::No,
        l4: L4Match::udp(546, 547),
        ..Ipv6Match::default()
    };
    pod.own_link_locals().into_iter().map(solicit).collect()
}
