//! What passes without policy, because no host lives on a link without it: ARP, neighbour and listener discovery, DHCP. Each
//! in a form that no host needs, from a pod to its neighbours near and far: under a policy that denies everything, and
//! without one.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};
use tests::frame::{self, BROADCAST, send};
use tests::policy_lab::NAMESPACES;
use tests::{Capture, Pod, PolicyLab, place, until};

use super::Mac;

/// Of a multicast group (RFC 2464).
fn group_mac(group: Ipv6Addr) -> String {
    let [.., a, b, c, d] = group.octets();
    format!("33:33:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The group in which the address' owner hears that it is asked for.
fn solicited(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., g, h] = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | g & 0xff, h)
}

struct Station {
    mac: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    local: Ipv6Addr,
}

impl Station {
    fn of(pod: &Pod) -> Self {
        let local = pod.mac.parse::<Mac>().unwrap().link_local();
        Self { mac: pod.mac.clone(), v4: pod.ip.parse().unwrap(), v6: pod.ip6.parse().unwrap(), local }
    }

    fn six(&self, to: &str, packet: &[u8]) -> String {
        frame::ethernet(to, &self.mac, 0x86dd, packet)
    }

    fn to_group(&self, group: Ipv6Addr, packet: &[u8]) -> String {
        self.six(&group_mac(group), packet)
    }

    fn arp(&self, to: &str, operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> String {
        frame::ethernet(to, &self.mac, 0x0806, &frame::arp(operation, &self.mac, sender, BROADCAST, target))
    }
}

/// To a neighbour, in one bad form or another.
fn bad(own: &Station, to: &Station) -> Vec<(&'static str, String)> {
    let group = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let (nodes, routers, listeners) = (group("ff02::1"), group("ff02::2"), group("ff02::16"));
    let nobody: Ipv6Addr = "fd00:10:244::dead:beef".parse().unwrap();
    let abroad: Ipv6Addr = "2001:db8::dead:beef".parse().unwrap();
    let asked = frame::solicitation(to.v6, &own.mac);
    let said = frame::advertisement(own.v6, &own.mac);
    let nd = |dst, hops, message: &[u8]| frame::icmp6_hops(own.v6, dst, hops, message);
    let message = |kind: u8| [&[kind, 0, 0, 0][..], &b"drawbridge-evil: more than a host says"[..]].concat();
    let mld = |kind, src, dst, hops| frame::icmp6_hops(src, dst, hops, &message(kind));
    let udp = |ports: (u16, u16), dst| {
        frame::ipv4(own.v4, dst, 17, &frame::udp(ports.0, ports.1, b"drawbridge-evil"))
    };
    let from_nobody = |message: &[u8], dst| frame::icmp6(Ipv6Addr::UNSPECIFIED, dst, message);
    // Without the option, as for one who has no address.
    let detects = |target| frame::solicitation(target, &own.mac)[..24].to_vec();
    vec![
        ("NS from afar", own.six(&to.mac, &nd(to.v6, 64, &asked))),
        ("NS from afar, to the group", own.to_group(solicited(to.v6), &nd(solicited(to.v6), 254, &asked))),
        ("NS to all nodes", own.to_group(nodes, &nd(nodes, 255, &asked))),
        ("NS to all routers", own.to_group(routers, &nd(routers, 255, &asked))),
        (
            "NS for another, to the neighbour",
            own.six(&to.mac, &nd(to.v6, 255, &frame::solicitation(nobody, &own.mac))),
        ),
        (
            "NS for one abroad",
            own.to_group(
                solicited(abroad),
                &nd(solicited(abroad), 255, &frame::solicitation(abroad, &own.mac)),
            ),
        ),
        (
            "DAD for another's address",
            own.to_group(solicited(to.v6), &from_nobody(&detects(to.v6), solicited(to.v6))),
        ),
        ("DAD to all nodes", own.to_group(nodes, &from_nobody(&detects(own.v6), nodes))),
        ("NA from afar", own.six(&to.mac, &nd(to.v6, 64, &said))),
        ("NA from afar, to all nodes", own.to_group(nodes, &nd(nodes, 254, &said))),
        ("NA to some group", own.to_group(group("ff02::fb"), &nd(group("ff02::fb"), 255, &said))),
        ("RS", own.to_group(routers, &mld(133, own.local, routers, 255))),
        ("RS from afar", own.to_group(routers, &mld(133, own.local, routers, 64))),
        ("RS to all nodes", own.to_group(nodes, &mld(133, own.local, nodes, 255))),
        ("RS to the neighbour", own.six(&to.mac, &mld(133, own.v6, to.v6, 255))),
        ("RA", own.to_group(nodes, &mld(134, own.local, nodes, 255))),
        ("redirect", own.six(&to.mac, &mld(137, own.local, to.v6, 255))),
        ("MLD query", own.to_group(nodes, &mld(130, own.local, nodes, 1))),
        ("MLD report to the neighbour", own.six(&to.mac, &mld(131, own.local, to.v6, 1))),
        ("MLD report to all nodes", own.to_group(nodes, &mld(131, own.local, nodes, 1))),
        ("MLD report", own.to_group(solicited(to.v6), &mld(131, own.local, solicited(to.v6), 1))),
        ("MLD done to the neighbour", own.six(&to.mac, &mld(132, own.local, to.v6, 1))),
        ("MLDv2 report from afar", own.to_group(listeners, &mld(143, own.local, listeners, 64))),
        ("MLDv2 report", own.to_group(listeners, &mld(143, own.local, listeners, 1))),
        ("MLDv2 report to the neighbour", own.six(&to.mac, &mld(143, own.local, to.v6, 1))),
        ("DHCP answer", frame::ethernet(&to.mac, &own.mac, 0x0800, &udp((67, 68), to.v4))),
        (
            "DHCP answer to all",
            frame::ethernet(BROADCAST, &own.mac, 0x0800, &udp((67, 68), Ipv4Addr::BROADCAST)),
        ),
        ("DHCP question", frame::ethernet(&to.mac, &own.mac, 0x0800, &udp((68, 67), to.v4))),
        (
            "DHCPv6 answer",
            own.six(&to.mac, &frame::udp6(own.local, to.local, (547, 546), b"drawbridge-evil")),
        ),
        (
            "DHCPv6 answer, routed",
            own.six(&to.mac, &frame::udp6(own.v6, to.v6, (547, 546), b"drawbridge-evil")),
        ),
        ("ARP for nobody", own.arp(BROADCAST, 1, own.v4, Ipv4Addr::new(10, 244, 222, 173))),
        ("ARP for nobody, to the neighbour", own.arp(&to.mac, 1, own.v4, Ipv4Addr::new(10, 244, 222, 173))),
        ("ARP for one abroad", own.arp(&to.mac, 1, own.v4, Ipv4Addr::new(192, 0, 2, 173))),
        ("ARP probe for another's address", own.arp(&to.mac, 1, Ipv4Addr::UNSPECIFIED, to.v4)),
        (
            "ARP probe for nobody's",
            own.arp(BROADCAST, 1, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 244, 222, 173)),
        ),
        ("ARP reply to nobody", own.arp(&to.mac, 2, own.v4, Ipv4Addr::new(10, 244, 222, 173))),
        ("an old ARP operation", own.arp(&to.mac, 3, own.v4, to.v4)),
    ]
}

/// What a host says to its neighbours, and what each of them is to see of it.
fn good(own: &Station, to: &Station) -> Vec<(&'static str, String, &'static str)> {
    let nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let six = |dst, message: &[u8]| frame::icmp6(own.v6, dst, message);
    vec![
        (
            "is it still there?",
            own.six(&to.mac, &six(to.v6, &frame::solicitation(to.v6, &own.mac))),
            "icmp6 and ip6[40] = 135",
        ),
        (
            "it is",
            own.six(&to.mac, &six(to.v6, &frame::advertisement(own.v6, &own.mac))),
            "icmp6 and ip6[40] = 136",
        ),
        (
            "here I am",
            own.to_group(nodes, &six(nodes, &frame::advertisement(own.v6, &own.mac))),
            "icmp6 and ip6[40] = 136",
        ),
        ("who has, to the neighbour", own.arp(&to.mac, 1, own.v4, to.v4), "arp[6:2] = 1"),
        ("is at", own.arp(&to.mac, 2, own.v4, to.v4), "arp[6:2] = 2"),
        ("here I am, by ARP", own.arp(BROADCAST, 1, own.v4, own.v4), "arp[6:2] = 1"),
    ]
}

fn deny_all(namespace: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "deny-all", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}})
}

#[track_caller]
fn none_arrives(under: &str, liar: &Pod, victims: &[&Pod]) {
    let own = Station::of(liar);
    let filter = format!("ether src {} and (arp or icmp6 or udp)", own.mac);
    let captures: Vec<Capture> =
        victims.iter().map(|pod| Capture::start(&pod.place(), "eth0", &filter)).collect();
    for victim in victims {
        for (name, frame) in bad(&own, &Station::of(victim)) {
            let sent = send(&liar.place(), "eth0", &frame, 2);
            assert!(sent.is_ok(), "{name}: {sent:?}");
        }
    }
    for (capture, victim) in captures.into_iter().zip(victims) {
        let arrived = capture.stop();
        assert!(arrived.is_empty(), "{under}, at {}: {arrived:#?}", victim.name);
    }
}

/// Under whatever policy: the captures see what they should.
#[track_caller]
fn all_arrive(from: &Pod, to: &Pod) {
    let own = Station::of(from);
    for (name, frame, filter) in good(&own, &Station::of(to)) {
        let capture = Capture::start(&to.place(), "eth0", &format!("ether src {} and {filter}", own.mac));
        send(&from.place(), "eth0", &frame, 3).ok();
        assert!(!capture.stop().is_empty(), "{name}, to {}", to.name);
    }
}

/// Makes the pod a DHCP client, of the router alone, and waits until its boundary says so.
#[track_caller]
fn is_a_client(pod: &Pod) {
    let servers = "10.244.0.1,fe80::858:aff:fef4:1";
    place(
        "central",
        &[
            "ovn-nbctl",
            "--timeout=60",
            "set",
            "Logical_Switch_Port",
            &pod.lsp,
            "external_ids:\"drawbridge.dev/dhcp\"=\"true\"",
            &format!("external_ids:\"drawbridge.dev/dhcp-servers\"=\"{servers}\""),
        ],
    )
    .ok();
    let hears =
        |flow: &String| flow.contains("nw_src=10.244.0.1") && flow.contains(&format!("nw_dst={}", pod.ip));
    until("the pod hears its DHCP server", std::time::Duration::from_mins(1), || {
        if pod.nic().flows().iter().any(hears) { Ok(()) } else { Err("no such flow".to_owned()) }
    });
}

/// With the address taken away and given again, neighbours forgotten: the kernel's own discovery.
#[track_caller]
fn discovers(pod: &Pod, others: &[&Pod]) {
    pod.run(&["ip", "neigh", "flush", "dev", "eth0"]).ok();
    let local = format!("{}/64", pod.mac.parse::<Mac>().unwrap().link_local());
    pod.run(&["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1"]).ok();
    pod.run(&["ip", "-6", "address", "del", &local, "dev", "eth0"]).ok();
    pod.run(&["ip", "-6", "address", "add", &local, "dev", "eth0"]).ok();
    until("no duplicate is found", std::time::Duration::from_secs(30), || {
        let shown = pod.run(&["ip", "-6", "address", "show", "dev", "eth0"]).ok();
        if shown.contains("dadfailed") || shown.contains("tentative") { Err(shown) } else { Ok(()) }
    });
    for other in others {
        assert!(pod.pings(&other.ip) && pod.pings(&other.ip6), "{} to {}", pod.name, other.name);
    }
    assert!(pod.pings("10.244.0.1") && pod.pings("fd00:10:244::1"), "{} to its gateway", pod.name);
}

#[test]
fn what_needs_no_policy_is_what_a_host_says() {
    let mut lab = PolicyLab::start();
    let open = lab.objects();
    let denied = [open.clone(), NAMESPACES.iter().map(|name| deny_all(name)).collect()].concat();
    let pods = ["a1", "a2", "a3"].map(|name| lab.index(name));
    for victim in &pods[1..] {
        is_a_client(lab.pod(*victim));
    }
    // Before any of them has spoken with another: what a kernel says of its neighbours by itself is not to be told apart.
    for (under, items) in [("without a policy", &open), ("under a policy that denies everything", &denied)] {
        lab.enforce(items);
        let [liar, near, far] = pods.map(|index| lab.pod(index));
        none_arrives(under, liar, &[near, far]);
    }
    let [liar, near, far] = pods.map(|index| lab.pod(index));
    all_arrive(liar, near);
    all_arrive(liar, far);
    assert!(!liar.pings(&near.ip) && !liar.pings(&far.ip6), "the policy holds");
    lab.enforce(&open);
    let [liar, near, far] = pods.map(|index| lab.pod(index));
    discovers(liar, &[near, far]);
    discovers(far, &[liar, near]);
}
