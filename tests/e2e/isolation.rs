//! What the server itself, and a pod that lies about who it is, can reach: nothing. tcpdump at the receiver is the judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{Ipv4Addr, Ipv6Addr};

use tests::command::sh;
use tests::frame::{self, BROADCAST, send};
use tests::{Capture, Nic, Pod, Wish};

/// Every frame of ours carries these bytes somewhere, or is found by its source MAC: 0a:66 is nobody's.
const EVIL: &str = "0a:66:66:66:66:66";

fn mac_of(place: &str, interface: &str) -> String {
    sh(place, &format!("cat /sys/class/net/{interface}/address")).ok().trim().to_owned()
}

/// Frames that try to get somewhere: pods, the VTEPs, the NIC's own addresses, the fabric.
fn attacks(pod: &Pod, uplink_mac: &str, source_mac: &str) -> Vec<(String, String)> {
    let me = Ipv4Addr::new(10, 244, 1, 222);
    let udp = frame::udp(6666, 7, b"drawbridge-evil");
    let pod_ip: Ipv4Addr = pod.ip.parse().unwrap();
    let pod_ip6: Ipv6Addr = pod.ip6.parse().unwrap();
    let me6: Ipv6Addr = "fd00:10:244::1:de".parse().unwrap();
    let geneve = frame::udp(40000, 6081, b"\0\0\x65\x58\0\0\x01\0drawbridge-evil-inner-frame");
    let mut list = vec![
        (
            "ARP who-has the pod".to_owned(),
            frame::ethernet(
                BROADCAST,
                source_mac,
                0x0806,
                &frame::arp(1, source_mac, me, "00:00:00:00:00:00", pod_ip),
            ),
        ),
        (
            "ARP I am the pod".to_owned(),
            frame::ethernet(
                BROADCAST,
                source_mac,
                0x0806,
                &frame::arp(2, source_mac, pod_ip, BROADCAST, pod_ip),
            ),
        ),
        (
            "UDP to the pod".to_owned(),
            frame::ethernet(&pod.mac, source_mac, 0x0800, &frame::ipv4(me, pod_ip, 17, &udp)),
        ),
        (
            "UDP to the pod, tagged".to_owned(),
            frame::tagged(&pod.mac, source_mac, 100, 0x0800, &frame::ipv4(me, pod_ip, 17, &udp)),
        ),
        (
            "UDP broadcast".to_owned(),
            frame::ethernet(BROADCAST, source_mac, 0x0800, &frame::ipv4(me, Ipv4Addr::BROADCAST, 17, &udp)),
        ),
        (
            "IPv6 NA for the pod".to_owned(),
            frame::ethernet(
                "33:33:00:00:00:01",
                source_mac,
                0x86dd,
                &frame::neighbour_advertisement(me6, "ff02::1".parse().unwrap(), pod_ip6, source_mac),
            ),
        ),
        (
            "UDP over IPv6".to_owned(),
            frame::ethernet(&pod.mac, source_mac, 0x86dd, &frame::ipv6(me6, pod_ip6, 17, 64, &udp)),
        ),
        (
            "an unknown EtherType".to_owned(),
            frame::ethernet(BROADCAST, source_mac, 0x88b5, b"drawbridge-evil"),
        ),
        (
            "LLDP".to_owned(),
            frame::ethernet("01:80:c2:00:00:0e", source_mac, 0x88cc, b"\x02\x07\x04drawbridge"),
        ),
    ];
    for vtep in [Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(10, 0, 0, 12), Ipv4Addr::new(10, 0, 0, 1)] {
        list.push((
            format!("Geneve to {vtep}"),
            frame::ethernet(uplink_mac, source_mac, 0x0800, &frame::ipv4(me, vtep, 17, &geneve)),
        ));
        list.push((
            format!("ARP for {vtep}"),
            frame::ethernet(
                BROADCAST,
                source_mac,
                0x0806,
                &frame::arp(1, source_mac, me, "00:00:00:00:00:00", vtep),
            ),
        ));
    }
    for own in [Ipv4Addr::new(10, 0, 3, 11), Ipv4Addr::new(192, 168, 100, 2)] {
        list.push((
            format!("ARP for the NIC's {own}"),
            frame::ethernet(
                BROADCAST,
                source_mac,
                0x0806,
                &frame::arp(1, source_mac, me, "00:00:00:00:00:00", own),
            ),
        ));
    }
    list
}

/// Sends everything from one interface and asserts that nothing got anywhere, not even an answer back.
fn nothing_gets_out(place: &str, interface: &str, source_mac: &str, victims: &[&Pod], nic: Nic) {
    let from_us = format!(
        "ether src {source_mac} or arp host 10.244.1.222 or host 10.244.1.222 or host fd00:10:244::1:de"
    );
    let mut captures: Vec<(String, Capture)> = victims
        .iter()
        .map(|pod| (pod.name.clone(), Capture::start(&pod.place(), "eth0", &from_us)))
        .collect();
    captures.push(("the fabric".to_owned(), Capture::start("central", "fabric", &from_us)));
    captures.push(("an answer".to_owned(), Capture::start(place, interface, "")));
    let uplink = mac_of(&nic.place(), "p0");
    for (name, attack) in attacks(victims[0], &uplink, source_mac) {
        let sent = send(place, interface, &attack, 3);
        assert!(sent.is_ok(), "{name}: {sent:?}");
    }
    for (at, capture) in captures {
        let arrived = capture.stop();
        assert!(arrived.is_empty(), "from {place} {interface} as {source_mac}, at {at}: {arrived:#?}");
    }
}

#[test]
fn the_server_reaches_nothing_but_through_its_pods() {
    let local = Pod::add(&Wish { name: "iso1", host: "host1", vf: 8, options: &[] });
    let remote = Pod::add(&Wish { name: "iso2", host: "host2", vf: 8, options: &[] });
    assert!(local.pings(&remote.ip), "the pods themselves do");
    let nic = local.nic();
    // The PF, and a VF that no pod holds: with their own MAC, and with one made up.
    for interface in ["ens1", "ens1v20"] {
        sh("host1", &format!("ip link set {interface} up")).ok();
        sh("host1", &format!("sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1")).ok();
        for mac in [mac_of("host1", interface), EVIL.to_owned()] {
            nothing_gets_out("host1", interface, &mac, &[&local, &remote], nic);
        }
    }
    // Someone sets a closed representor up, or takes the closing rule away: both come back.
    nic.run(&["ip", "link", "set", "pf0vf20", "up"]).ok();
    nic.run(&["tc", "filter", "del", "dev", "pf0vf20", "ingress"]).ok();
    nic.settle();
    assert!(!nic.representors()["pf0vf20"]);
    assert!(nic.run(&["tc", "filter", "show", "dev", "pf0vf20", "ingress"]).ok().contains("drop"));
    nothing_gets_out("host1", "ens1v20", EVIL, &[&local, &remote], nic);
    assert!(local.pings(&remote.ip));
}

#[test]
fn a_pod_is_nobody_but_itself() {
    let liar = Pod::add(&Wish { name: "liar", host: "host1", vf: 9, options: &[] });
    let near = Pod::add(&Wish { name: "near", host: "host1", vf: 10, options: &[] });
    let far = Pod::add(&Wish { name: "far", host: "host2", vf: 10, options: &[] });
    assert!(liar.pings(&near.ip) && liar.pings(&far.ip) && liar.pings(&far.ip6));
    let place = liar.place();
    let (own4, near4, far4): (Ipv4Addr, Ipv4Addr, Ipv4Addr) =
        (liar.ip.parse().unwrap(), near.ip.parse().unwrap(), far.ip.parse().unwrap());
    let (near6, far6): (Ipv6Addr, Ipv6Addr) = (near.ip6.parse().unwrap(), far.ip6.parse().unwrap());
    let udp = frame::udp(6666, 6667, b"drawbridge-evil");
    let all6: Ipv6Addr = "ff02::1".parse().unwrap();
    let geneve = frame::udp(40000, 6081, b"\0\0\x65\x58\0\0\x01\0drawbridge-evil-inner-frame");
    let uplink = mac_of("nic1", "p0");
    let own = liar.mac.as_str();
    let attacks: Vec<(&str, String)> = vec![
        ("another MAC", frame::ethernet(&far.mac, EVIL, 0x0800, &frame::ipv4(own4, far4, 17, &udp))),
        (
            "the neighbour's MAC",
            frame::ethernet(&far.mac, &near.mac, 0x0800, &frame::ipv4(near4, far4, 17, &udp)),
        ),
        ("another IPv4 source", frame::ethernet(&far.mac, own, 0x0800, &frame::ipv4(near4, far4, 17, &udp))),
        (
            "a source that is nobody's",
            frame::ethernet(
                &near.mac,
                own,
                0x0800,
                &frame::ipv4(Ipv4Addr::new(10, 244, 1, 222), near4, 17, &udp),
            ),
        ),
        (
            "another IPv6 source",
            frame::ethernet(&far.mac, own, 0x86dd, &frame::ipv6(near6, far6, 17, 64, &udp)),
        ),
        (
            "gratuitous ARP for the neighbour",
            frame::ethernet(BROADCAST, own, 0x0806, &frame::arp(2, own, near4, BROADCAST, near4)),
        ),
        (
            "ARP reply for the router",
            frame::ethernet(
                &near.mac,
                own,
                0x0806,
                &frame::arp(2, own, Ipv4Addr::new(10, 244, 0, 1), &near.mac, near4),
            ),
        ),
        (
            "ARP with another's hardware address",
            frame::ethernet(BROADCAST, own, 0x0806, &frame::arp(2, EVIL, own4, BROADCAST, own4)),
        ),
        (
            "unsolicited NA for the neighbour",
            frame::ethernet(
                "33:33:00:00:00:01",
                own,
                0x86dd,
                &frame::neighbour_advertisement(own.parse::<Mac>().unwrap().link_local(), all6, near6, own),
            ),
        ),
        (
            "router advertisement",
            frame::ethernet(
                "33:33:00:00:00:01",
                own,
                0x86dd,
                &frame::icmp6(
                    own.parse::<Mac>().unwrap().link_local(),
                    all6,
                    &[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
                ),
            ),
        ),
        ("VLAN tag", frame::tagged(&near.mac, own, 100, 0x0800, &frame::ipv4(own4, near4, 17, &udp))),
        ("VLAN 0 tag", frame::tagged(&near.mac, own, 0, 0x0800, &frame::ipv4(own4, near4, 17, &udp))),
        (
            "Geneve to a VTEP",
            frame::ethernet(
                &uplink,
                own,
                0x0800,
                &frame::ipv4(Ipv4Addr::new(10, 0, 0, 12), Ipv4Addr::new(10, 0, 0, 11), 17, &geneve),
            ),
        ),
        ("an unknown EtherType", frame::ethernet(BROADCAST, own, 0x88b5, b"drawbridge-evil")),
    ];
    // Whatever arrives of those, not of what the kernel's own stack says by itself.
    let filter = format!(
        "(udp port 6667) or (udp port 6081) or (ether proto 0x88b5) or vlan or (ether src {EVIL}) \
         or (ether src {own} and (arp[6:2] = 2 or (icmp6 and (ip6[40] = 134 or ip6[40] = 136))))"
    );
    for (name, attack) in attacks {
        let captures = [
            ("near", Capture::start(&near.place(), "eth0", &filter)),
            ("far", Capture::start(&far.place(), "eth0", &filter)),
        ];
        let sent = send(&place, "eth0", &attack, 3);
        assert!(sent.is_ok(), "{name}: {sent:?}");
        for (at, capture) in captures {
            let arrived = capture.stop();
            assert!(arrived.is_empty(), "{name}, at {at}: {arrived:#?}");
        }
    }
    // The captures see what they should: the same datagram under the pod's own name arrives.
    let capture = Capture::start(&far.place(), "eth0", "udp port 6667");
    let honest = frame::ethernet("0a:58:0a:f4:00:01", own, 0x0800, &frame::ipv4(own4, far4, 17, &udp));
    let honest_near = frame::ethernet(&far.mac, own, 0x0800, &frame::ipv4(own4, far4, 17, &udp));
    send(&place, "eth0", &honest, 1).ok();
    send(&place, "eth0", &honest_near, 3).ok();
    assert!(!capture.stop().is_empty(), "an honest datagram arrives");
    assert!(liar.pings(&near.ip) && liar.pings(&far.ip6));
}

#[path = "isolation/past_policy.rs"]
mod past_policy;

use offload::ids::MacAddr as Mac;
