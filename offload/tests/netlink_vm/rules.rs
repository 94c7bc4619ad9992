//! Rules written through the session and shown by `tc`; rules that `tc` wrote, read by us.

use offload::flower::{
    Actions, ChainIndex, Cookie, CtAction, CtKey, End, Icmp, IpKey, Key, L4, NextChain, Payload, Ports, Pref,
    Rule, Skip, Step, VlanKey, VlanTag,
};
use offload::ids::{CtZone, IfIndex, MacAddr};
use offload::netlink::Errno;
use offload::netlink::request::{Request, flags};
use offload::netlink::tc::action::police::Rate;
use offload::netlink::tc::{self, Change, Handle, Place, Reason, Reasons, Refusal};
use offload::netlink::wire::Writer;
use offload::openflow::{CtFlags, FragMatch, Masked, OtherEtherType};
use serde_json::Value;

use super::bench::{Bench, Nic, json, output, run, tc_filters};
use super::{index, route};

pub fn place(ifindex: IfIndex, chain: u32, pref: u16, handle: u32) -> Place {
    Place {
        ifindex,
        chain: ChainIndex(chain),
        pref: Pref::new(pref).unwrap(),
        handle: Handle::new(handle).unwrap(),
    }
}

fn rule(key: Key, steps: Vec<Step>, end: End) -> Rule {
    Rule { key, actions: Actions::new(steps, end), skip: Skip::None }
}

fn v4(ip: IpKey<std::net::Ipv4Addr>) -> Key {
    Key { payload: Payload::Ipv4(ip), ..Key::default() }
}

fn v6(ip: IpKey<std::net::Ipv6Addr>) -> Key {
    Key { payload: Payload::Ipv6(ip), ..Key::default() }
}

fn to_port(port: u16) -> Ports {
    Ports { src: Masked::any(), dst: Masked::exact(port) }
}

/// TCP to that port is dropped.
pub fn tcp(port: u16) -> Rule {
    rule(v4(IpKey { l4: L4::Tcp(to_port(port)), ..IpKey::default() }), vec![], End::Drop)
}

/// What `tc filter add dev X ingress` is told after the place, and the same in our words. `dum2` is the device `out`.
fn every_key_and_action(out: IfIndex) -> Vec<(&'static str, Rule)> {
    let own: MacAddr = "02:00:00:00:00:01".parse().unwrap();
    let vendor = Masked::new("02:00:5e:00:00:00".parse().unwrap(), "ff:ff:ff:00:00:00".parse().unwrap());
    let net4 = |text: &str| text.parse::<ipnet::Ipv4Net>().unwrap().into();
    let net6 = |text: &str| text.parse::<ipnet::Ipv6Net>().unwrap().into();
    let zone = CtZone::new(9).unwrap();
    let ct = |commit| Step::Ct(CtAction { zone, commit });
    let goto = |chain| End::Goto(NextChain::new(chain).unwrap());
    let state = |set: CtFlags, mask: CtFlags| CtKey { state: Masked::new(set, mask), zone: None };
    let (trk, est, new, rpl) = (CtFlags::TRK, CtFlags::EST, CtFlags::NEW, CtFlags::RPL);
    let (rel, inv) = (CtFlags::REL, CtFlags::INV);
    let masked_ports = Ports { src: Masked::new(1024, 0xfc00), dst: Masked::new(0x1f90, 0xfff0) };
    let icmp = |kind, code| L4::Icmp(Icmp { kind, code });
    let frag = |frag| v4(IpKey { frag, ..IpKey::default() });
    let in_ct = |ct| Key { ct, ..v4(IpKey::default()) };
    let cookie = Cookie::new(b"drbridgec").unwrap();
    vec![
        ("protocol all flower action drop", rule(Key::default(), vec![], End::Drop)),
        (
            "protocol all flower src_mac 02:00:5e:00:00:00/ff:ff:ff:00:00:00 dst_mac 02:00:00:00:00:01 action trap",
            rule(Key { eth_src: vendor, eth_dst: own.into(), ..Key::default() }, vec![], End::Trap),
        ),
        (
            "protocol 802.1Q flower vlan_id 100 action vlan pop pipe action mirred egress redirect dev dum2",
            rule(Key { vlan: VlanKey::Id(100), ..Key::default() }, vec![Step::VlanPop], End::Redirect(out)),
        ),
        (
            "protocol 802.1Q flower vlan_id 100 vlan_ethtype ipv6 ip_proto tcp dst_port 80 action drop",
            rule(
                Key { vlan: VlanKey::Id(100), ..v6(IpKey { l4: L4::Tcp(to_port(80)), ..IpKey::default() }) },
                vec![],
                End::Drop,
            ),
        ),
        (
            "protocol arp flower action mirred egress mirror dev dum2 pipe action vlan push id 5 pipe action mirred egress redirect dev dum2",
            rule(
                Key { payload: Payload::Arp, ..Key::default() },
                vec![Step::Mirror(out), Step::VlanPush(VlanTag { id: 5 })],
                End::Redirect(out),
            ),
        ),
        (
            "protocol 0x88cc flower action trap",
            rule(
                Key { payload: Payload::Other(OtherEtherType::new(0x88cc).unwrap()), ..Key::default() },
                vec![],
                End::Trap,
            ),
        ),
        (
            "protocol ip flower src_ip 10.0.0.0/8 dst_ip 10.1.2.3 ip_proto tcp src_port 1024/0xfc00 dst_port 8080/0xfff0 action drop",
            rule(
                v4(IpKey {
                    src: net4("10.0.0.0/8"),
                    dst: net4("10.1.2.3/32"),
                    l4: L4::Tcp(masked_ports),
                    ..IpKey::default()
                }),
                vec![],
                End::Drop,
            ),
        ),
        (
            "protocol ipv6 flower src_ip fd00::/16 dst_ip fd00::1 ip_proto udp dst_port 53 action drop",
            rule(
                v6(IpKey {
                    src: net6("fd00::/16"),
                    dst: net6("fd00::1/128"),
                    l4: L4::Udp(to_port(53)),
                    ..IpKey::default()
                }),
                vec![],
                End::Drop,
            ),
        ),
        (
            "protocol ip flower ip_proto sctp dst_port 7 action drop",
            rule(v4(IpKey { l4: L4::Sctp(to_port(7)), ..IpKey::default() }), vec![], End::Drop),
        ),
        (
            "protocol ip flower ip_proto icmp type 8 code 0 action drop",
            rule(
                v4(IpKey { l4: icmp(Masked::exact(8), Masked::exact(0)), ..IpKey::default() }),
                vec![],
                End::Drop,
            ),
        ),
        (
            "protocol ipv6 flower ip_proto icmpv6 type 128/254 action drop",
            rule(
                v6(IpKey { l4: icmp(Masked::new(128, 254), Masked::any()), ..IpKey::default() }),
                vec![],
                End::Drop,
            ),
        ),
        ("protocol ip flower ip_flags nofrag action drop", rule(frag(FragMatch::No), vec![], End::Drop)),
        ("protocol ip flower ip_flags frag action drop", rule(frag(FragMatch::Yes), vec![], End::Drop)),
        (
            "protocol ip flower ip_flags frag/firstfrag action drop",
            rule(frag(FragMatch::First), vec![], End::Drop),
        ),
        (
            "protocol ip flower ip_flags frag/nofirstfrag action drop",
            rule(frag(FragMatch::Later), vec![], End::Drop),
        ),
        (
            "protocol ip flower ct_state -trk action ct zone 9 pipe action goto chain 3",
            rule(in_ct(state(CtFlags::NONE, trk)), vec![ct(false)], goto(3)),
        ),
        (
            "protocol ip flower ct_state +trk+new-inv action ct commit zone 9 pipe action goto chain 3",
            rule(in_ct(state(trk | new, trk | new | inv)), vec![ct(true)], goto(3)),
        ),
        (
            "protocol ip flower ct_state +trk+est-rel+rpl ct_zone 9 action ct clear pipe action drop",
            rule(
                in_ct(CtKey { zone: Some(9), ..state(trk | est | rpl, trk | est | rel | rpl) }),
                vec![Step::CtClear],
                End::Drop,
            ),
        ),
        (
            "protocol ip flower skip_hw ip_proto tcp dst_port 81 action drop cookie 647262726964676563",
            Rule { actions: Actions::drop().cookie(cookie), skip: Skip::Hardware, ..tcp(81) },
        ),
    ]
}

/// What `tc` shows of a filter, without what two equal filters do not share.
fn comparable(mut filter: Value) -> Value {
    filter["options"].as_object_mut().unwrap().remove("handle");
    for action in filter["options"]["actions"].as_array_mut().unwrap() {
        for own in ["index", "ref", "bind", "installed", "last_used", "first_used"] {
            action.as_object_mut().unwrap().remove(own);
        }
    }
    filter
}

fn dummies(names: &[&str]) {
    for name in names {
        run(&format!("ip link add {name} type dummy"));
        run(&format!("tc qdisc add dev {name} clsact"));
    }
}

/// The oracle is `tc`, twice: it writes the same filter on another device, and it shows both.
#[test]
fn vm_every_key_and_action_is_what_tc_writes() {
    let _bench = Bench::new();
    dummies(&["dum0", "dum1", "dum2"]);
    let mut socket = route();
    let (theirs, ours, out) =
        (index(&mut socket, "dum0"), index(&mut socket, "dum1"), index(&mut socket, "dum2"));
    let cases = every_key_and_action(out);
    let mut changes = Vec::new();
    for (pref, (command, rule)) in (1u16..).zip(&cases) {
        run(&format!("tc filter add dev dum0 ingress handle {pref} pref {pref} {command}"));
        changes.push(Change::Add { place: place(ours, 0, pref, pref.into()), rule });
    }
    for outcome in tc::apply(&mut socket, &changes, Reasons::Ask).unwrap() {
        outcome.unwrap();
    }
    let (shown, expected) = (tc_filters("dum1"), tc_filters("dum0"));
    assert_eq!(shown.len(), cases.len());
    assert_eq!(expected.len(), cases.len());
    for ((shown, expected), (command, _)) in shown.into_iter().zip(expected).zip(&cases) {
        assert_eq!(comparable(shown), comparable(expected), "{command}");
    }
    for device in [theirs, ours] {
        let read = tc::filters(&mut socket, device).unwrap();
        assert_eq!(read.len(), cases.len());
        for (filter, (command, rule)) in read.iter().zip(&cases) {
            assert_eq!(filter.flower.as_ref().unwrap().rule.as_ref(), Ok(rule), "{command}");
            assert_eq!(filter.handle, u32::from(filter.pref), "{command}");
        }
    }
}

#[test]
fn vm_police_is_what_tc_writes() {
    let _bench = Bench::new();
    dummies(&["dum0", "dum1"]);
    let mut socket = route();
    let nonzero = |n| std::num::NonZeroU64::new(n).unwrap();
    for (command, rate) in [
        ("rate 8mbit burst 20000", Rate::Bytes { per_second: nonzero(1_000_000), burst: 20_000 }),
        ("rate 40gbit burst 10m", Rate::Bytes { per_second: nonzero(5_000_000_000), burst: 10 << 20 }),
        ("pkts_rate 1000 pkts_burst 100", Rate::Packets { per_second: nonzero(1000), burst: 100 }),
    ] {
        run(&format!(
            "tc filter add dev dum0 ingress pref 1 protocol all flower action police {command} mtu 4294967295 conform-exceed drop/pipe"
        ));
        let device = index(&mut socket, "dum1");
        // struct tcmsg: family, ifindex, handle, the ingress hook, pref 1 and ETH_P_ALL.
        let header = [0, device.0, 1, 0xffff_fff2, 1 << 16 | 0x0300].map(u32::to_ne_bytes);
        let mut w = Writer::new(header.as_flattened());
        w.put_text(1, "flower").nest(2, |w| {
            w.nest(3, |w| tc::Police::new(rate).write(w, 1));
        });
        let request = Request::new(libc::RTM_NEWTFILTER, flags::CREATE | flags::EXCL, w.finish().unwrap());
        socket.request(format_args!("police"), &request).unwrap();
        let (mut shown, mut expected) = (tc_filters("dum1"), tc_filters("dum0"));
        assert_eq!(comparable(shown.remove(0)), comparable(expected.remove(0)), "{command}");
        let filter = tc::filters(&mut socket, device).unwrap().remove(0);
        let action = &filter.flower.as_ref().unwrap().actions[0];
        assert_eq!((action.kind.as_str(), action.verdict), ("police", Some(tc::Verdict::Drop)));
        assert!(filter.flower.unwrap().rule.is_err(), "policy has no rates");
        run("tc filter del dev dum0 ingress");
        run("tc filter del dev dum1 ingress");
    }
}

fn refusal(outcome: &Result<tc::Done, Box<Refusal>>) -> &Refusal {
    outcome.as_ref().unwrap_err()
}

#[test]
fn vm_a_bad_rule_in_the_middle_is_blamed_and_the_others_are_in() {
    let _bench = Bench::new();
    dummies(&["dum0"]);
    let mut socket = route();
    let device = index(&mut socket, "dum0");
    let mut rules: Vec<Rule> = (0..300).map(|n| tcp(1000 + n)).collect();
    // A key that is there under another handle; one of another protocol; one that flower cannot say.
    rules[150] = tcp(1010);
    rules[200].key = v6(IpKey::default());
    rules[250].key = v4(IpKey { frag: FragMatch::NotLater, ..IpKey::default() });
    for reasons in [Reasons::Skip, Reasons::Ask] {
        let changes: Vec<_> = (1u32..)
            .zip(&rules)
            .map(|(n, rule)| Change::Add { place: place(device, 4, 7, n), rule })
            .collect();
        let outcomes = tc::apply(&mut socket, &changes, reasons).unwrap();
        assert_eq!(outcomes.len(), 300);
        let bad: Vec<_> = outcomes.iter().enumerate().filter(|(_, o)| o.is_err()).map(|(n, _)| n).collect();
        assert_eq!(bad, [150, 200, 250]);
        let twin = refusal(&outcomes[150]);
        assert_eq!(
            (&twin.reason, twin.errno, twin.rule.as_ref()),
            (&Reason::Exists, Some(Errno::EEXIST), Some(&rules[150]))
        );
        let text = twin.to_string();
        assert!(
            text.starts_with(&format!("add filter chain 4 pref 7 handle 0x97 of network device {device}: ")),
            "{text}"
        );
        assert_eq!(refusal(&outcomes[200]).reason, Reason::OtherProtocol);
        assert_eq!(refusal(&outcomes[250]).reason, Reason::Unwritable(tc::Unwritable::NotLater));
        assert_eq!(tc_filters("dum0").len(), 297);

        let chain = NextChain::new(4).unwrap();
        let gone = Change::Flush { ifindex: device, chain };
        assert_eq!(
            tc::apply(&mut socket, &[gone, gone], reasons).unwrap(),
            [Ok(tc::Done::default()), Ok(tc::Done::default())]
        );
        assert!(tc_filters("dum0").is_empty());
    }
}

#[test]
fn vm_replace_in_place_and_delete() {
    let _bench = Bench::new();
    dummies(&["dum0"]);
    let mut socket = route();
    let device = index(&mut socket, "dum0");
    let at = place(device, 0, 7, 0x77);
    let mut one = |change: Change<'_>| tc::apply(&mut socket, &[change], Reasons::Ask).unwrap().remove(0);
    let (first, second) = (tcp(80), tcp(81));
    let trap = Rule { actions: Actions::new(vec![], End::Trap), ..tcp(81) };
    one(Change::Replace { place: at, rule: &first }).unwrap();
    assert_eq!(refusal(&one(Change::Add { place: at, rule: &second })).reason, Reason::Exists);
    for rule in [&second, &trap] {
        one(Change::Replace { place: at, rule }).unwrap();
        let shown = tc_filters("dum0");
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0]["options"]["handle"], 0x77);
        assert_eq!(shown[0]["options"]["keys"]["dst_port"], 81);
    }
    assert_eq!(tc_filters("dum0")[0]["options"]["actions"][0]["control_action"]["type"], "trap");
    let wider = rule(v4(IpKey::default()), vec![], End::Drop);
    let refused = one(Change::Replace { place: at, rule: &wider });
    assert_eq!(refusal(&refused).reason, Reason::MaskChanged);
    assert!(refusal(&refused).to_string().contains("chain 0 pref 7 handle 0x77"), "{refused:?}");
    assert_eq!(tc_filters("dum0").len(), 1);
    one(Change::Delete { place: at }).unwrap();
    assert!(tc_filters("dum0").is_empty());
    let gone = one(Change::Delete { place: at });
    assert_eq!(refusal(&gone).reason, Reason::Missing);
    assert!(refusal(&gone).is_gone());
}

#[test]
fn vm_what_the_hardware_refuses_is_told_of_the_right_rule() {
    let mut bench = Bench::new();
    bench.nic(1);
    let mut socket = route();
    let device = index(&mut socket, "pf0vf0");
    assert!(tc::ensure_clsact(&mut socket, device).unwrap());
    assert!(!tc::ensure_clsact(&mut socket, device).unwrap());
    assert_eq!(json("tc -j qdisc show dev pf0vf0 clsact")[0]["kind"], "clsact");
    let mut rules: Vec<Rule> = (0..40).map(|n| tcp(1000 + n)).collect();
    // Not offloaded by mlx5, nor by what behaves like it.
    for (n, port) in [(11, 5), (12, 6)] {
        rules[n].key = v4(IpKey { l4: L4::Sctp(to_port(port)), ..IpKey::default() });
    }
    rules[13].skip = Skip::Hardware;
    for (reasons, told) in [(Reasons::Ask, vec![11, 12]), (Reasons::Skip, vec![])] {
        let changes: Vec<_> = (1u32..)
            .zip(&rules)
            .map(|(n, rule)| Change::Add { place: place(device, 0, 1, n), rule })
            .collect();
        let outcomes = tc::apply(&mut socket, &changes, reasons).unwrap();
        let warned: Vec<_> = (0..40).filter(|n| outcomes[*n].as_ref().unwrap().warning.is_some()).collect();
        // Without an acknowledgement of its own no filter is told why: the kernel says it only there.
        assert_eq!(warned, told, "{outcomes:?}");
        let mut shown = tc_filters("pf0vf0");
        shown.sort_by_key(|filter| filter["options"]["handle"].as_u64());
        let statuses = tc::statuses(&mut socket, device, None).unwrap();
        assert_eq!((shown.len(), statuses.len()), (40, 40));
        for (n, filter) in (0u32..).zip(&shown) {
            let in_hw = !(11..=13).contains(&n);
            assert_eq!(filter["options"].get("in_hw").is_some(), in_hw, "{n}: {filter}");
            let status = statuses.iter().find(|status| status.handle == n + 1).unwrap();
            assert_eq!((status.in_hw, status.not_in_hw), (in_hw, !in_hw), "{n}");
        }
        // In hardware or not at all.
        let only = Rule { skip: Skip::Software, ..rules[11].clone() };
        let other = place(device, 0, 1, 99);
        let refused =
            tc::apply(&mut socket, &[Change::Replace { place: other, rule: &only }], reasons).unwrap();
        assert!(refused[0].is_err());
        run("tc filter del dev pf0vf0 ingress");
    }
    assert!(tc::remove_clsact(&mut socket, device).unwrap());
    let none = tc::apply(
        &mut socket,
        &[Change::Add { place: place(device, 0, 1, 1), rule: &rules[0] }],
        Reasons::Ask,
    );
    assert_eq!(refusal(&none.unwrap()[0]).reason, Reason::NoHook);
}

/// A pod with the VF `eth0`, 10.8.0.2, behind `pf0vf0`, 10.8.0.1.
fn pod(nic: &Nic) {
    std::fs::write(format!("/sys/bus/pci/devices/{:04x}:03:00.0/sriov_numvfs", 0x1000 + nic.id), "1")
        .unwrap();
    run("ip netns add nlvm-pod");
    run(&format!("nsenter --net=/proc/1/ns/net ip link set ens{}v0 netns nlvm-pod name eth0", nic.id));
    run("ip -n nlvm-pod addr add 10.8.0.2/24 dev eth0");
    run("ip -n nlvm-pod link set eth0 up");
    run("ip addr add 10.8.0.1/24 dev pf0vf0");
    run("ip link set pf0vf0 up");
}

#[test]
fn vm_hardware_and_software_are_counted_apart() {
    let mut bench = Bench::new();
    let nic = bench.nic(1);
    pod(&nic);
    let mut socket = route();
    let device = index(&mut socket, "pf0vf0");
    tc::ensure_clsact(&mut socket, device).unwrap();
    let reached = output("ip netns exec nlvm-pod ping -c 1 -W 3 10.8.0.1");
    let echo = L4::Icmp(Icmp { kind: Masked::exact(8), code: Masked::any() });
    let mut seen = Vec::new();
    for skip in [Skip::None, Skip::Hardware] {
        let rule = Rule { skip, ..rule(v4(IpKey { l4: echo, ..IpKey::default() }), vec![], End::Drop) };
        let at = place(device, 0, 1, 1);
        tc::apply(&mut socket, &[Change::Replace { place: at, rule: &rule }], Reasons::Ask)
            .unwrap()
            .remove(0)
            .unwrap();
        let _ = output("ip netns exec nlvm-pod ping -c 3 -i 0.2 -W 1 10.8.0.1");
        let shown = json("tc -s -j filter show dev pf0vf0 ingress");
        let stats =
            shown.as_array().unwrap().iter().find_map(|f| f["options"].get("actions")).unwrap()[0]["stats"]
                .clone();
        let filter = tc::filters(&mut socket, device).unwrap().remove(0);
        let status = tc::statuses(&mut socket, device, Some(ChainIndex(0))).unwrap().remove(0);
        seen.push((filter.flower.unwrap().statistics(), status.statistics, stats));
    }
    run("ip netns del nlvm-pod");
    assert!(reached.is_ok(), "the test is worth nothing if no packet arrives: {reached:?}");
    for (full, terse, shown) in &seen {
        assert_eq!(full, terse);
        assert_eq!(full.total.packets, 3, "{shown}");
        assert_eq!(Some(full.total.packets), shown["packets"].as_u64(), "{shown}");
        assert_eq!(Some(full.total.bytes), shown["bytes"].as_u64(), "{shown}");
        assert_eq!(full.hardware.packets, shown["hw_packets"].as_u64().unwrap_or(0), "{shown}");
    }
    assert_eq!((seen[0].0.hardware.packets, seen[0].0.software().packets), (3, 0));
    assert_eq!((seen[1].0.hardware.packets, seen[1].0.software().packets), (0, 3));
}

#[test]
fn vm_a_chain_is_dumped_alone() {
    let _bench = Bench::new();
    dummies(&["dum0"]);
    let mut socket = route();
    let device = index(&mut socket, "dum0");
    let rules: Vec<_> = (0..50).map(|n| tcp(1000 + n)).collect();
    let changes: Vec<_> = (0u32..)
        .zip(&rules)
        .map(|(n, rule)| Change::Add { place: place(device, n % 5, 3, n + 1), rule })
        .collect();
    assert!(tc::apply(&mut socket, &changes, Reasons::Skip).unwrap().iter().all(Result::is_ok));
    assert_eq!(tc::filters(&mut socket, device).unwrap().len(), 50);
    for chain in 0..5 {
        let found = tc::filters_of_chain(&mut socket, device, ChainIndex(chain)).unwrap();
        let shown = json(&format!("tc -j filter show dev dum0 ingress chain {chain}"));
        let shown = shown.as_array().unwrap().iter().filter(|f| f.get("options").is_some()).count();
        assert_eq!((found.len(), shown), (10, 10));
        assert!(found.iter().all(|filter| filter.chain == ChainIndex(chain)));
        assert_eq!(tc::statuses(&mut socket, device, Some(ChainIndex(chain))).unwrap().len(), 10);
    }
    assert!(tc::filters_of_chain(&mut socket, device, ChainIndex(77)).unwrap().is_empty());
}

#[test]
fn vm_a_device_that_vanishes_takes_only_its_own_rules() {
    let _bench = Bench::new();
    dummies(&["dum0", "dum1"]);
    let mut socket = route();
    let (stays, goes) = (index(&mut socket, "dum0"), index(&mut socket, "dum1"));
    run("ip link del dum1");
    let rules: Vec<_> = (0..20).map(|n| tcp(1000 + n)).collect();
    let changes: Vec<_> = (0u32..)
        .zip(&rules)
        .map(|(n, rule)| {
            let device = if n % 2 == 0 { stays } else { goes };
            Change::Add { place: place(device, 0, 3, n + 1), rule }
        })
        .collect();
    let outcomes = tc::apply(&mut socket, &changes, Reasons::Skip).unwrap();
    for (n, outcome) in outcomes.iter().enumerate() {
        if n % 2 == 0 {
            assert!(outcome.is_ok(), "{outcome:?}");
        } else {
            assert_eq!(refusal(outcome).reason, Reason::NoDevice);
        }
    }
    assert_eq!(tc_filters("dum0").len(), 10);
    let gone = tc::filters(&mut socket, goes);
    assert!(gone.as_ref().map_or_else(offload::netlink::Error::is_gone, Vec::is_empty), "{gone:?}");
}
