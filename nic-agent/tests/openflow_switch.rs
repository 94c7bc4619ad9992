//! The OpenFlow session against a real `ovs-vswitchd`, with `ovs-ofctl` as the independent observer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test's helpers

mod openflow_support;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use nic_agent::openflow::{Error, Session};
use offload::boundary::{self, Boundary};
use offload::ids::{CtZone, MacAddr, OfPort};
use offload::openflow::{
    Action, ArpMatch, Commit, Cookie, Ct, CtExec, CtFlags, CtFlush, CtTuple, CtZoneSource, Flow, FlowMod,
    FragMatch, Icmp6Match, IcmpMatch, InstalledFlow, InstalledMeter, Ipv4Match, Ipv6Match, L4Match, Masked,
    Match, Meter, MeterMod, MeterStats, Nat, NatRange, Payload, Port, Ports, Reg, RegSlice, SetField,
    TCP_ACK, TCP_SYN, TableId, VlanMatch, diff,
};
use offload::ruleset::RuleSetId;
use openflow_support::PrivateSwitch;

const DEADLINE: Duration = Duration::from_mins(1);

async fn session(switch: &PrivateSwitch) -> Session {
    Session::connect(&switch.management(), DEADLINE).await.unwrap()
}

fn port(number: u32) -> OfPort {
    OfPort::new(number).unwrap()
}

fn pods(count: u8) -> Vec<Boundary> {
    let pod = |n: u8| Boundary {
        rep: port(u32::from(n)),
        patch: port(u32::from(n) + 100),
        zone: CtZone::new(u16::from(n)).unwrap(),
        mac: MacAddr([2, 0, 0, 0, 0, n]),
        ipv4: vec![Ipv4Addr::new(10, 0, 0, n)],
        ipv6: vec![format!("fd00::{n}").parse().unwrap()],
        on_link: ["10.0.0.0/24", "fd00::/64"].map(|net| net.parse().unwrap()).to_vec(),
        dhcp_servers: ["10.0.0.9", "fe80::9"]
            .map(|ip| ip.parse().unwrap())
            .iter()
            .copied()
            .take(2 * usize::from(n % 2))
            .collect(),
        egress: RuleSetId::NONE,
        ingress: RuleSetId::NONE,
        rate: None,
        full: false,
        cookie: Cookie(n.into()),
    };
    (1..=count).map(pod).collect()
}

fn boundaries(count: u8) -> Vec<Flow> {
    let pods = pods(count);
    boundary::common_flows(Cookie(0xff)).into_iter().chain(pods.iter().flat_map(Boundary::flows)).collect()
}

fn sorted(flows: impl IntoIterator<Item = Flow>) -> Vec<Flow> {
    let mut flows: Vec<Flow> = flows.into_iter().collect();
    flows.sort();
    flows
}

fn only_flows(installed: Vec<InstalledFlow>) -> Vec<Flow> {
    sorted(installed.into_iter().map(|it| it.flow))
}

/// Says which flows differ, instead of showing them all.
fn assert_same(left: &[Flow], right: &[Flow]) {
    let only = |a: &[Flow], b: &[Flow]| -> Vec<String> {
        a.iter().filter(|flow| !b.contains(flow)).map(|flow| format!("{flow}   {flow:?}")).collect()
    };
    let (more, fewer) = (only(left, right), only(right, left));
    assert!(
        more.is_empty() && fewer.is_empty() && left.len() == right.len(),
        "{more:#?} instead of {fewer:#?}"
    );
}

async fn bring_to(session: &Session, wanted: &[Flow]) {
    let installed = session.dump_flows().await.unwrap();
    session.apply(&diff(wanted, &installed)).await.unwrap();
    let installed = session.dump_flows().await.unwrap();
    assert_eq!(diff(wanted, &installed), []);
    assert_same(&only_flows(installed), &sorted(wanted.to_vec()));
}

/// Every field and every action that we can write, at least once.
fn one_of_each() -> Vec<Flow> {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let v4 = |net: &str| Masked::from(net.parse::<ipnet::Ipv4Net>().unwrap());
    let v6 = |net: &str| Masked::from(net.parse::<ipnet::Ipv6Net>().unwrap());
    let ports = |src: Masked<u16>, dst: Masked<u16>| Ports { src, dst };
    let ip4 = |l4| Match::any().ipv4(Ipv4Match { l4, ..Ipv4Match::default() });
    let ip6 = |l4| Match::any().ipv6(Ipv6Match { l4, ..Ipv6Match::default() });
    let frag4 = |frag| Match::any().ipv4(Ipv4Match { frag, ..Ipv4Match::default() });
    let any = Match::any;
    let mut matches = vec![
        any(),
        any().in_port(port(1)).untagged().eth_src(mac).eth_dst(Masked::new(mac, MacAddr([1, 0, 0, 0, 0, 0]))),
        Match { vlan: VlanMatch::Tagged, ..any() },
        Match { vlan: VlanMatch::Vid(7), ..any() },
        Match { metadata: Masked::new(0x30, 0xf0), ct_zone: Some(9), ct_mark: Masked::new(1, 0xff), ..any() },
        any().conj_id(17),
        any()
            .ct_state(CtFlags::TRK | CtFlags::EST, CtFlags::NEW | CtFlags::INV | CtFlags::REL | CtFlags::RPL),
        any().arp(ArpMatch {
            op: Some(1),
            spa: v4("10.0.0.0/24"),
            tpa: v4("10.0.0.1/32"),
            sha: mac.into(),
            tha: MacAddr::ZERO.into(),
        }),
        any().ipv4(Ipv4Match {
            src: v4("10.0.0.5/32"),
            dst: v4("10.0.0.0/8"),
            frag: FragMatch::No,
            l4: L4Match::Any,
        }),
        any().ipv6(Ipv6Match {
            src: v6("fd00::5/128"),
            dst: v6("fd00::/7"),
            frag: FragMatch::No,
            hops: Some(255),
            l4: L4Match::Any,
        }),
        frag4(FragMatch::Yes),
        frag4(FragMatch::First),
        frag4(FragMatch::Later),
        frag4(FragMatch::NotLater),
        ip4(L4Match::Tcp(ports(80.into(), Masked::new(0x50, 0xfff0)))),
        ip4(L4Match::TcpFlags(Masked::new(0, TCP_SYN))),
        ip6(L4Match::TcpFlags(Masked::new(TCP_SYN, TCP_SYN | TCP_ACK))),
        ip4(L4Match::udp(67, 68)),
        ip4(L4Match::Sctp(ports(5.into(), 6.into()))),
        ip4(L4Match::Icmp(IcmpMatch { kind: Some(3), code: Some(4) })),
        ip4(L4Match::Other(offload::openflow::OtherProto::new(47).unwrap())),
        ip6(L4Match::Tcp(Ports::default())),
        ip6(L4Match::udp(546, 547)),
        ip6(L4Match::Sctp(Ports::default())),
        ip6(L4Match::Icmp(Icmp6Match::Any)),
        ip6(L4Match::Icmp(Icmp6Match::kind(134))),
        ip6(L4Match::Icmp(Icmp6Match::Type(offload::openflow::OtherIcmp6Type::new(1).unwrap(), Some(4)))),
        ip6(L4Match::Icmp(Icmp6Match::Solicit { target: v6("fd00::1/128"), sll: mac.into() })),
        ip6(L4Match::Icmp(Icmp6Match::Advert { target: v6("fd00::/64"), tll: MacAddr::ZERO.into() })),
        Match { payload: Payload::Other(offload::openflow::OtherEtherType::new(0x88cc).unwrap()), ..any() },
    ];
    matches.extend(
        Reg::ALL.map(|reg| any().reg(reg, Masked::new(u32::from(reg.number()), 0xff)).reg(Reg::R0, 5)),
    );
    let mut flows: Vec<Flow> = matches
        .into_iter()
        .map(|matches| Flow { table: TableId(20), priority: 7, cookie: Cookie(1), matches, actions: vec![] })
        .collect();

    let slice = RegSlice { reg: Reg::R9, offset: 8, bits: 16 };
    let nat4 =
        NatRange::Ipv4 { addresses: ([10, 0, 0, 1].into(), [10, 0, 0, 9].into()), ports: Some((100, 200)) };
    let nat6 =
        NatRange::Ipv6 { addresses: ("fd00::9".parse().unwrap(), "fd00::9".parse().unwrap()), ports: None };
    let ct = |commit, zone, table, exec| Action::Ct(Ct { commit, zone, table, exec });
    let mark = CtExec::SetMark(Masked::new(1, 0xff));
    let lists = vec![
        vec![
            Action::Output(Port::Number(port(2))),
            Action::Output(Port::InPort),
            Action::Output(Port::Local),
        ],
        vec![Action::OutputReg(RegSlice::whole(Reg::R1)), Action::OutputReg(slice)],
        vec![
            Action::Set(SetField::Reg(Reg::R15, 9.into())),
            Action::Set(SetField::Reg(Reg::R4, Masked::new(2, 0xf))),
            Action::Set(SetField::EthDst(mac)),
            Action::Set(SetField::EthSrc(mac)),
        ],
        vec![ct(Commit::No, CtZoneSource::Fixed(5), Some(TableId(30)), vec![])],
        vec![ct(
            Commit::Yes,
            CtZoneSource::Reg(RegSlice::low16(Reg::R2)),
            None,
            vec![CtExec::Nat(Nat::Source(nat4)), mark],
        )],
        vec![ct(Commit::Force, CtZoneSource::Reg(slice), Some(TableId(31)), vec![CtExec::SetMark(7.into())])],
        vec![ct(
            Commit::Yes,
            CtZoneSource::Fixed(5),
            None,
            vec![
                CtExec::CopyToMark(RegSlice { reg: Reg::R5, offset: 0, bits: 24 }),
                CtExec::SetMark(Masked::new(1 << 24, 1 << 24)),
                CtExec::CopyToMark(slice),
            ],
        )],
        vec![ct(Commit::No, CtZoneSource::Fixed(5), Some(TableId(30)), vec![CtExec::Nat(Nat::Restore)])],
        vec![Action::CtClear, Action::Resubmit(TableId(31)), Action::Goto(TableId(40))],
        vec![
            Action::Conjunction { id: 3, clause: 2, clauses: 2 },
            Action::Conjunction { id: 4, clause: 1, clauses: 3 },
        ],
        vec![Action::Note(vec![1, 2, 3, 4, 5, 6])],
        vec![Action::Output(Port::Normal)],
    ];
    for (priority, actions) in (1u16..).zip(lists) {
        let matches = Match::any().ipv4(Ipv4Match::default());
        flows.push(Flow { table: TableId(21), priority, cookie: Cookie(u64::MAX - 1), matches, actions });
    }
    flows.push(Flow {
        table: TableId(21),
        priority: 99,
        cookie: Cookie(0),
        matches: Match::any().ipv6(Ipv6Match::default()),
        actions: vec![ct(
            Commit::Yes,
            CtZoneSource::Fixed(1),
            None,
            vec![CtExec::Nat(Nat::Destination(nat6))],
        )],
    });
    flows
}

#[tokio::test]
async fn boundaries_are_installed_changed_and_deleted() {
    let switch = PrivateSwitch::start(4);
    let session = session(&switch).await;
    assert!(session.features().tables >= 50, "{:?}", session.features());
    bring_to(&session, &boundaries(3)).await;
    let seen = switch.ofctl(&["dump-flows"]);
    assert_eq!(seen.lines().filter(|line| line.contains("cookie=")).count(), boundaries(3).len(), "{seen}");
    bring_to(&session, &boundaries(1)).await;
    bring_to(&session, &boundaries(2)).await;
    bring_to(&session, &[]).await;
    assert!(!switch.ofctl(&["dump-flows"]).contains("cookie="));
    session.close().await;
}

#[tokio::test]
async fn everything_we_can_write_comes_back_as_it_went() {
    let switch = PrivateSwitch::start(2);
    let session = session(&switch).await;
    bring_to(&session, &one_of_each()).await;

    // The other way round: what ovs-ofctl makes of our text is what we sent.
    let file = switch.path("flows.txt");
    let text: Vec<String> = one_of_each().iter().map(Flow::to_string).collect();
    std::fs::write(&file, text.join("\n")).unwrap();
    switch.ofctl(&["del-flows"]);
    switch.ofctl(&["add-flows", file.to_str().unwrap()]);
    assert_same(&only_flows(session.dump_flows().await.unwrap()), &sorted(one_of_each()));
}

#[tokio::test]
async fn foreign_flows_are_named_and_deleted() {
    let switch = PrivateSwitch::start(2);
    let session = session(&switch).await;
    let wanted = boundaries(2);
    bring_to(&session, &wanted).await;
    let foreign = [
        "table=6,priority=1,tcp,tcp_flags=+syn,nw_tos=4,nw_ttl=3,nw_src=10.0.0.1/255.0.0.255,actions=mod_nw_tos:8,NORMAL",
        "table=7,priority=2,in_port=LOCAL,vlan_tci=0x1003/0x1003,actions=CONTROLLER:99",
        "table=8,priority=3,ip,nw_proto=58,actions=resubmit(1,3),write_metadata:7",
        "table=9,priority=4,ip,ct_state=+trk+snat,ct_label=5,actions=ct(commit,exec(set_field:1->ct_label)),learn(table=1)",
        "table=0,priority=65535,actions=NORMAL",
        "table=11,priority=5,icmp6,icmpv6_type=135,icmpv6_code=1,actions=meter:1,NORMAL",
        "table=12,priority=5,mpls,mpls_label=9,actions=pop_mpls:0x800,multipath(eth_src,50,hrw,3,0,NXM_NX_REG0[0..3])",
        "table=13,priority=5,udp,tun_id=5,actions=bundle(eth_src,0,hrw,ofport,members:1,2),enqueue:1:2",
    ];
    switch.ofctl(&["add-meter", "meter=1,kbps,band=type=drop,rate=9"]);
    for flow in foreign {
        switch.ofctl(&["add-flow", flow]);
    }
    // One of ours, made to time out by another.
    let victim = wanted.iter().find(|flow| flow.table == TableId(5)).unwrap();
    let line = victim.to_string();
    let (head, actions) = line.split_once(" actions=").unwrap();
    switch.ofctl(&["add-flow", &format!("{head},idle_timeout=60,actions={actions}")]);
    let changes = diff(&wanted, &session.dump_flows().await.unwrap());
    assert_eq!(changes.len(), foreign.len() + 1, "{changes:#?}");
    bring_to(&session, &wanted).await;
}

#[tokio::test]
async fn ten_thousand_flows_in_one_bundle() {
    let switch = PrivateSwitch::start(2);
    let session = session(&switch).await;
    let flow = |n: u32| Flow {
        table: TableId(5),
        priority: 10,
        cookie: Cookie(n.into()),
        matches: Match::any().ipv4(Ipv4Match { src: Ipv4Addr::from(n).into(), ..Ipv4Match::default() }),
        actions: vec![Action::Output(port(2).into())],
    };
    let wanted: Vec<Flow> = (0x0a00_0000..0x0a00_0000 + 10_000).map(flow).collect();
    bring_to(&session, &wanted).await;
    let seen = switch.ofctl(&["dump-aggregate"]);
    assert!(seen.contains("flow_count=10000"), "{seen}");
    bring_to(&session, &[]).await;
}

#[tokio::test]
async fn a_bad_flow_in_the_middle_leaves_all_as_it_was() {
    let switch = PrivateSwitch::start(2);
    let session = session(&switch).await;
    let before = boundaries(1);
    bring_to(&session, &before).await;
    let bad = |table, actions| Flow {
        table: TableId(table),
        priority: 1,
        cookie: Cookie(0),
        matches: Match::any(),
        actions,
    };
    let cases = [
        // Refused when it is read; OVS would commit the others all the same.
        bad(254, vec![]),
        bad(3, vec![Action::Resubmit(TableId(4)), Action::Conjunction { id: 1, clause: 1, clauses: 2 }]),
        // Refused when it is committed: there is no such group.
        bad(3, vec![group(77)]),
    ];
    for bad in cases {
        let mut changes: Vec<FlowMod> = boundaries(4).into_iter().map(FlowMod::Add).collect();
        changes.insert(0, FlowMod::Delete { table: None, cookie: None, matches: Match::any() });
        changes.insert(changes.len() / 2, FlowMod::Add(bad.clone()));
        match session.apply(&changes).await {
            Err(Error::FlowRefused { change, .. }) => assert_eq!(*change, FlowMod::Add(bad.clone())),
            other => panic!("{bad}: {other:?}"),
        }
        assert_same(&only_flows(session.dump_flows().await.unwrap()), &sorted(before.clone()));
    }
    let long = bad(3, vec![Action::Note(vec![0; 70_000])]);
    let refused = session.apply(&[FlowMod::Add(boundaries(2).pop().unwrap()), FlowMod::Add(long)]).await;
    assert!(matches!(refused, Err(Error::Unwritable { .. })), "{refused:?}");
    assert_same(&only_flows(session.dump_flows().await.unwrap()), &sorted(before));
    bring_to(&session, &boundaries(4)).await;
}

/// `group:N`, which we never write ourselves.
fn group(number: u32) -> Action {
    let [a, b, c, d] = number.to_be_bytes();
    Action::Other(offload::openflow::actions::Foreign::Action(vec![0, 22, 0, 8, a, b, c, d]))
}

#[tokio::test]
async fn each_kind_of_order_does_what_it_says() {
    let switch = PrivateSwitch::start(2);
    let session = session(&switch).await;
    let flow = |table, cookie, actions| Flow {
        table: TableId(table),
        priority: 5,
        cookie: Cookie(cookie),
        matches: Match::any(),
        actions,
    };
    let out = |n| vec![Action::Output(port(n).into())];
    bring_to(&session, &[flow(1, 1, out(1)), flow(2, 2, out(1)), flow(3, 3, out(1))]).await;

    session.apply(&[FlowMod::ModifyStrict(flow(1, 1, out(2)))]).await.unwrap();
    session.apply(&[FlowMod::DeleteStrict(flow(2, 0, vec![]).key())]).await.unwrap();
    let left = [flow(1, 1, out(2)), flow(3, 3, out(1))];
    assert_eq!(only_flows(session.dump_flows().await.unwrap()), left);

    let delete = |table, cookie| FlowMod::Delete { table, cookie, matches: Match::any() };
    session.apply(&[delete(None, Some(Cookie(3)))]).await.unwrap();
    assert_eq!(only_flows(session.dump_flows().await.unwrap()), left[..1]);
    session.apply(&[delete(Some(TableId(3)), None)]).await.unwrap();
    assert_eq!(only_flows(session.dump_flows().await.unwrap()), left[..1]);
    session.apply(&[delete(Some(TableId(1)), None)]).await.unwrap();
    assert_eq!(session.dump_flows().await.unwrap(), []);
    session.apply(&[]).await.unwrap();
}

#[tokio::test]
async fn ports_and_counters() {
    let switch = PrivateSwitch::start(3);
    let session = session(&switch).await;
    let ports = session.ports().await.unwrap();
    let names: Vec<_> = ports.iter().map(|port| (port.number, port.name.as_str())).collect();
    for n in 1..=3 {
        assert!(names.contains(&(Port::Number(port(n)), format!("p{n}").as_str())), "{names:?}");
    }
    assert!(names.contains(&(Port::Local, openflow_support::BRIDGE)), "{names:?}");

    let all = Flow {
        table: TableId(0),
        priority: 1,
        cookie: Cookie(9),
        matches: Match::any().in_port(port(1)),
        actions: vec![Action::Output(port(2).into())],
    };
    bring_to(&session, &[all]).await;
    let packet = "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x88cc)";
    for _ in 0..3 {
        switch.appctl(&["netdev-dummy/receive", "p1", packet]);
    }
    // The counters reach the flow with a look at the datapath that began after the packets: the one that ends next may
    // have begun before.
    for _ in 0..2 {
        switch.appctl(&["revalidator/wait"]);
    }
    let installed = session.dump_flows().await.unwrap();
    assert_eq!(installed.len(), 1);
    assert_eq!(installed[0].packets, 3, "{installed:?}");
    assert!(installed[0].bytes >= 3 * 14 && !installed[0].duration.is_zero(), "{installed:?}");
}

#[tokio::test]
async fn connections_are_forgotten() {
    let switch = PrivateSwitch::start(2);
    let session = session(&switch).await;
    let pod = Boundary { patch: port(2), ..pods(1).remove(0) };
    let wanted: Vec<Flow> = boundary::common_flows(Cookie(1)).into_iter().chain(pod.flows()).collect();
    bring_to(&session, &wanted).await;
    let send = |source_port: u16| {
        let packet = format!(
            "in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
             ipv4(src=10.0.0.1,dst=10.0.0.9,proto=17,tos=0,ttl=64,frag=no),udp(src={source_port},dst=53)"
        );
        switch.appctl(&["netdev-dummy/receive", "p1", &packet]);
    };
    let known =
        || switch.appctl(&["dpctl/dump-conntrack"]).lines().filter(|line| line.contains("zone=1")).count();
    send(1000);
    send(1001);
    assert_eq!(known(), 2);
    let original = CtTuple { src_port: Some(1000), ..CtTuple::default() };
    let one = CtFlush { zone: Some(1), proto: Some(17), original, ..CtFlush::default() };
    session.flush_ct(one).await.unwrap();
    assert_eq!(known(), 1);
    session.flush_ct_zone(CtZone::new(2).unwrap()).await.unwrap();
    assert_eq!(known(), 1, "another zone's");
    session.flush_ct_zone(CtZone::new(1).unwrap()).await.unwrap();
    assert_eq!(known(), 0);
}

#[tokio::test]
async fn kill_resolves_closed_and_fails_calls() {
    let mut switch = PrivateSwitch::start(1);
    let session = session(&switch).await;
    bring_to(&session, &boundaries(1)).await;
    switch.kill_switch();
    session.closed().await;
    assert!(matches!(session.dump_flows().await, Err(Error::Closed)));
    assert!(matches!(session.apply(&[FlowMod::Add(boundaries(1).remove(0))]).await, Err(Error::Closed)));
    assert!(matches!(Session::connect(&switch.management(), DEADLINE).await, Err(Error::Connect { .. })));

    // The next session finds an empty bridge and fills it.
    switch.restart_switch();
    let session = loop {
        match Session::connect(&switch.management(), DEADLINE).await {
            Ok(session) => break session,
            Err(Error::Connect { .. } | Error::Closed) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(session.dump_flows().await.unwrap(), []);
    bring_to(&session, &boundaries(1)).await;
}

#[tokio::test]
async fn a_bridge_without_openflow_15_says_so() {
    let switch = PrivateSwitch::start(1);
    switch.vsctl(&["set", "bridge", "br-edge", "protocols=OpenFlow10,OpenFlow13"].map(str::to_owned));
    let error = Session::connect(&switch.management(), DEADLINE).await.unwrap_err();
    assert!(matches!(error, Error::Version { .. }), "{error}");
}

#[tokio::test]
async fn meters_are_made_changed_counted_and_deleted() {
    let switch = PrivateSwitch::start(2);
    let session = session(&switch).await;
    let meter = |id, rate| Meter { id, rate, burst: 2 * rate };
    let there = async || {
        session.meters().await.unwrap().into_iter().map(|it| it.meter.unwrap()).collect::<BTreeSet<_>>()
    };
    assert!(there().await.is_empty());
    session.change_meters(&[MeterMod::Add(meter(1024, 50)), MeterMod::Add(meter(1025, 60))]).await.unwrap();
    session.change_meters(&[MeterMod::Modify(meter(1025, 70))]).await.unwrap();
    assert_eq!(there().await, BTreeSet::from([meter(1024, 50), meter(1025, 70)]));
    let seen = switch.ofctl(&["dump-meters"]);
    assert!(seen.contains("meter=1025 pktps burst stats bands="), "{seen}");
    assert!(seen.contains("rate=70 burst_size=140"), "{seen}");
    // Another's, of another kind, is shown and can be replaced.
    switch.ofctl(&["add-meter", "meter=7,kbps,bands=type=drop,rate=5"]);
    let all = session.meters().await.unwrap();
    assert!(all.contains(&InstalledMeter { id: 7, meter: None }), "{all:?}");
    session.change_meters(&[MeterMod::Modify(meter(7, 5)), MeterMod::Delete(7)]).await.unwrap();

    // A flow through it; without it there is no such flow.
    let flow = |id| Flow {
        table: TableId(9),
        priority: 3,
        cookie: Cookie(1),
        matches: Match::any(),
        actions: vec![Action::Meter(id), Action::Output(Port::InPort)],
    };
    session.apply(&[FlowMod::Add(flow(1025))]).await.unwrap();
    assert_same(&only_flows(session.dump_flows().await.unwrap()), &[flow(1025)]);
    let refused = session.apply(&[FlowMod::Add(flow(9))]).await.unwrap_err();
    assert!(refused.to_string().contains("meter"), "{refused}");
    let mut stats = session.meter_stats().await.unwrap();
    stats.sort_unstable_by_key(|it| it.id);
    assert_eq!(stats, [1024, 1025].map(|id| MeterStats { id, packets: 0, dropped: 0 }));
    session.change_meters(&[MeterMod::Delete(1025)]).await.unwrap();
    assert_same(&only_flows(session.dump_flows().await.unwrap()), &[]);
    let refused = session.change_meters(&[MeterMod::Modify(meter(1025, 1))]).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { .. }), "{refused}");
    session.close().await;
}
