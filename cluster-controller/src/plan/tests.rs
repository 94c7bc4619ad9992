mod copp;
mod hostile;
mod shares;

use std::net::IpAddr;

use drawbridge_api::NodeRangeSpec;
use ovsdb_session::{Atom, Datum};
use proptest::prelude::*;

use super::*;
use crate::cluster::{Endpoint, Hints, Managed, Port, Protocol, Target};
use crate::ranges::Allocation;
use crate::settings::RouterAddress;

fn settings() -> Settings {
    Settings {
        router_address: RouterAddress::First,
        mtu: "1400".parse().unwrap(),
        routes: ["10.244.0.0/16", "fd00:10:244::/56", "10.96.0.0/12"].map(|r| r.parse().unwrap()).to_vec(),
        allocation: Allocation::new(
            ["10.244.0.0/16", "fd00:10::/32"].map(|r| r.parse().unwrap()).to_vec(),
            vec!["10.96.0.0/12".parse().unwrap()],
        ),
        copp_rate: "500".parse().unwrap(),
        services: kube_services::Limits::default(),
    }
}

/// And what comes of it: the API has what was decided, and says so.
fn apply(plan: &mut Plan, change: Change) -> Touched {
    let mut touched = plan.apply(change);
    touched.append(&mut settle(plan));
    touched
}

fn settle(plan: &mut Plan) -> Touched {
    let decisions = plan.decisions("t").into_iter();
    let changes: Vec<Change> = decisions
        .map(|(name, (decision, there))| {
            let object = match decision {
                Decision::Delete => None,
                Decision::Status(status) => {
                    let object = there.cloned();
                    let object = object.unwrap_or_else(|| NodeRange::new(&name, NodeRangeSpec::default()));
                    Some(Box::new(NodeRange { status: Some(*status), ..object }))
                }
            };
            Change::NodeRange(name, object)
        })
        .collect();
    changes.into_iter().flat_map(|change| plan.apply(change)).collect()
}

fn plan(changes: impl IntoIterator<Item = Change>) -> Plan {
    let mut plan = Plan::new(settings());
    for change in changes {
        apply(&mut plan, change);
    }
    plan
}

fn node(name: &str, cidrs: &[&str]) -> Change {
    let pod_cidrs = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
    let uid = format!("uid-of-{name}").into();
    Change::Node(name.into(), Some(Node { uid, pod_cidrs, zone: "".into(), nic_taint: false }))
}

/// An operator's word.
fn operator(name: &str, ranges: &[&str], addresses: &[&str]) -> Change {
    let texts = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
    let spec = NodeRangeSpec { ranges: texts(ranges), addresses: texts(addresses) };
    Change::NodeRange(name.into(), Some(Box::new(NodeRange::new(name, spec))))
}

fn nic_of(node: &str) -> NicNode {
    NicNode {
        node: node.into(),
        management: false,
        static_pods: false,
        chassis: None,
        managed: None,
        health: NicHealth::default(),
    }
}

fn nic(node: &str, management: bool) -> Change {
    Change::NicNode(format!("nic-{node}").into(), Some(NicNode { management, ..nic_of(node) }))
}

fn pod_of(uid: &str, node: &str) -> Pod {
    Pod { uid: uid.into(), node: node.into(), vf: true, host_network: false, mirror: false }
}

fn pod(name: &str, uid: &str, node: &str) -> Change {
    Change::Pod(ObjectName::new("shop", name), Some(pod_of(uid, node)))
}

fn attached(pod: &str, uid: &str, node: &str, ip: &str) -> Attached {
    Attached {
        pod: pod.into(),
        uid: uid.into(),
        node: node.into(),
        logical_port: format!("shop_{pod}").into(),
        mac: "0a:00:00:00:00:07".into(),
        ips: vec![ip.parse().unwrap()],
        created: Some(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
    }
}

fn attachment(name: &str, attached: Attached) -> Change {
    Change::Attachment(ObjectName::new("shop", name), Some(attached))
}

fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port { name: name.into(), protocol, number }
}

fn service(ips: &[&str], ports: Vec<Port>) -> Service {
    let cluster_ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let name = ObjectName::new("shop", "web");
    Service { name, cluster_ips, ports_found: ports.len(), ports, affinity: None, local: false, fault: None }
}

fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> Endpoint {
    let address = address.parse().unwrap();
    Endpoint { address, target: None, node: None, ready, serving, terminating, hints: None }
}

fn slice(name: &str, ports: Vec<Port>, endpoints: Vec<Endpoint>) -> Change {
    let name = ObjectName::new("shop", name);
    Change::Slice(name.clone(), Some(slice_of(name, "web", ports, endpoints)))
}

fn slice_of(name: ObjectName, service: &str, ports: Vec<Port>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice { name, service: Some(service.into()), endpoints, ports, fault: None, is_cut: false }
}

#[test]
fn a_heartbeat_changes_no_row() {
    let mut plan = Plan::new(settings());
    apply(&mut plan, node("n1", &["10.244.1.0/24"]));
    apply(&mut plan, nic("n1", true));
    apply(&mut plan, pod("a", "u1", "n1"));
    let health = NicHealth { ready: true, message: "".into(), heartbeat: Some("now".into()) };
    let beating = NicNode { management: true, health, ..nic_of("n1") };
    let nics = plan.nic_nodes.clone();
    assert_eq!(plan.apply(Change::NicNode("nic-n1".into(), Some(beating))), Touched::new());
    assert_eq!(plan.nic_nodes, nics);
}

fn web(service: Service) -> Change {
    Change::Service(ObjectName::new("shop", "web"), Some(service))
}

fn row<'a>(plan: &'a Plan, table: Table, id: &str) -> &'a WantedRow {
    plan.get(&Key::new(table, id)).unwrap_or_else(|| panic!("no {id} in {:?}", plan.rows.keys()))
}

fn vips(plan: &Plan, id: &str) -> Vec<(String, String)> {
    let text = |atom: &Atom| atom.as_str().unwrap().to_owned();
    let row = row(plan, Table::LoadBalancer, id);
    row.columns["vips"].pairs().map(|(vip, backends)| (text(vip), text(backends))).collect()
}

#[test]
fn a_node_gets_a_switch_with_its_subnets_and_a_way_to_the_router() {
    let plan = plan([node("n1", &["10.244.1.0/24", "fd00:10:244:1::/64"])]);
    let switch = row(&plan, Table::LogicalSwitch, "node/n1");
    assert_eq!(switch.maps["other_config"]["subnet"], "10.244.1.0/24");
    assert_eq!(switch.maps["other_config"]["ipv6_prefix"], "fd00:10:244:1::");
    assert_eq!(switch.members["load_balancer_group"], BTreeSet::from([group_key(), zone_key("")]));
    let lrp = row(&plan, Table::LogicalRouterPort, "node/n1");
    assert_eq!(lrp.columns["networks"], Datum::set(["10.244.1.1/24", "fd00:10:244:1::1/64"]));
    assert_eq!(lrp.columns["mac"], Datum::from("0a:58:0a:f4:01:01"));
    let lsp = row(&plan, Table::LogicalSwitchPort, "router/n1");
    assert_eq!(lsp.maps["options"]["router-port"], lrp.columns["name"].as_str().unwrap());
    assert_eq!(lsp.columns["addresses"], Datum::from("router"));
    assert_eq!(plan.count(Table::DhcpOptions), 0);
}

#[test]
fn the_routers_address_and_mac() {
    let mut last = settings();
    last.router_address = RouterAddress::Last;
    let mut plan = Plan::new(last);
    apply(&mut plan, node("n1", &["10.244.1.0/24"]));
    let lrp = row(&plan, Table::LogicalRouterPort, "node/n1");
    assert_eq!(lrp.columns["networks"], Datum::from("10.244.1.254/24"));
    assert_eq!(lrp.columns["mac"], Datum::from("0a:58:0a:f4:01:fe"));
    // IPv6 alone: still one for each subnet.
    let macs: BTreeSet<String> = ["fd00:10:244:1::/64", "fd00:10:244:2::/64", "fd00:10:245:1::/64"]
        .iter()
        .map(|cidr| {
            apply(&mut plan, Change::Node("n2".into(), None));
            apply(&mut plan, node("n2", &[cidr]));
            row(&plan, Table::LogicalRouterPort, "node/n2").columns["mac"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(macs.len(), 3);
}

#[test]
fn prefixes_of_which_ovn_can_give_nothing_are_left_out() {
    let two = plan([node("n1", &[]), operator("n1", &["10.244.1.0/30", "fd00:10::/112"], &[])]);
    assert_eq!(two.held.sole("n1").count(), 2);
    assert!(two.get(&switch_key("n1")).is_none());
    let one = plan([node("n1", &[]), operator("n1", &["10.244.1.0/30", "fd00:10:0:100::/56"], &[])]);
    let switch = row(&one, Table::LogicalSwitch, "node/n1");
    assert_eq!(switch.maps["other_config"].get("subnet"), None);
    assert_eq!(switch.maps["other_config"]["ipv6_prefix"], "fd00:10:0:100::");
}

#[test]
fn a_pod_s_port_waits_for_its_switch_and_goes_with_it() {
    let mut plan = plan([pod("web-0", "u1", "n1")]);
    let key = Key::new(Table::LogicalSwitchPort, "pod/shop/web-0/u1");
    assert!(plan.get(&key).is_none());
    assert!(apply(&mut plan, node("n1", &["10.244.1.0/24"])).contains(&key));
    let port = plan.get(&key).unwrap();
    assert_eq!(port.columns["name"], Datum::from("shop_web-0"));
    assert_eq!(port.assigned, ["10.244.1.0/24".parse().unwrap()]);
    assert_eq!(port.maps["external_ids"]["drawbridge.dev/pod-uid"], "u1");
    assert_eq!(port.parent, Some((switch_key("n1"), "ports")));
    assert!(plan.apply(Change::Node("n1".into(), None)).contains(&key));
    assert_eq!(plan.rows().count(), Plan::new(settings()).rows().count());
}

#[test]
fn a_pod_made_anew_gets_a_port_of_its_own() {
    let mut plan = plan([node("n1", &["10.244.1.0/24"]), pod("web-0", "u1", "n1")]);
    let touched = plan.apply(pod("web-0", "u2", "n1"));
    let keys = ["pod/shop/web-0/u1", "pod/shop/web-0/u2"].map(|id| Key::new(Table::LogicalSwitchPort, id));
    assert_eq!(touched, BTreeSet::from(keys.clone()));
    assert!(plan.get(&keys[0]).is_none() && plan.get(&keys[1]).is_some());
    assert!(plan.apply(pod("web-0", "u2", "n1")).is_empty());
}

#[test]
fn the_servers_own_port_has_dhcp() {
    let mut plan = plan([node("n1", &["10.244.1.0/24", "fd00:10:244:1::/64"]), nic("n1", true)]);
    let port = row(&plan, Table::LogicalSwitchPort, "management/n1");
    assert_eq!(port.columns["name"], Datum::from("k8s-n1"));
    assert_eq!(port.maps["external_ids"]["drawbridge.dev/dhcp"], "true");
    assert_eq!(port.maps["external_ids"]["drawbridge.dev/dhcp-servers"], "10.244.1.1,fe80::858:aff:fef4:101");
    let v4 = &port.references["dhcpv4_options"];
    let options = &plan.get(v4).unwrap().columns["options"];
    let option = |name: &str| options.value_of(&Atom::from(name)).and_then(Atom::as_str);
    assert_eq!(option("server_id"), Some("10.244.1.1"));
    assert_eq!(option("mtu"), Some("1400"));
    assert_eq!(option("classless_static_route"), Some("{10.244.0.0/16,10.244.1.1, 10.96.0.0/12,10.244.1.1}"));
    // No way out by default.
    assert_eq!(option("router"), None);
    let lrp = row(&plan, Table::LogicalRouterPort, "node/n1");
    assert_eq!(lrp.maps["ipv6_ra_configs"]["route_info"], "HIGH-fd00:10:244::/56");
    assert_eq!(plan.count(Table::DhcpOptions), 2);
    plan.apply(nic("n1", false));
    assert_eq!(plan.count(Table::DhcpOptions), 0);
    assert!(!row(&plan, Table::LogicalRouterPort, "node/n1").maps.contains_key("ipv6_ra_configs"));
}

#[test]
fn no_two_rows_have_one_name() {
    // A namespace and a pod that are called like our own ports.
    let named = |ns: &str, name: &str| Change::Pod(ObjectName::new(ns, name), Some(pod_of("u", "n1")));
    let plan = plan([
        node("n1", &["10.244.1.0/24"]),
        nic("n1", true),
        named("k8s", "n1"),
        named("k8s-n1", "x"),
        named("stor", "n1"),
        named("rtos-n1", "n1"),
    ]);
    let names: Vec<&str> = plan.rows().filter_map(|(key, row)| row.unique_name(key.table)).collect();
    assert_eq!(names.len(), BTreeSet::from_iter(&names).len(), "{names:?}");
}

#[test]
fn a_load_balancer_for_each_protocol_with_both_families() {
    let ports = || {
        vec![port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53), port("s", Protocol::Sctp, 9)]
    };
    let targets = || vec![port("http", Protocol::Tcp, 8080), port("dns", Protocol::Udp, 5353)];
    let plan = plan([
        web(service(&["10.96.0.10", "fd00:96::a"], ports())),
        slice(
            "web-4",
            targets(),
            vec![endpoint("10.244.2.6", true, true, false), endpoint("10.244.1.5", true, true, false)],
        ),
        slice("web-6", targets(), vec![endpoint("fd00::5", true, true, false)]),
    ]);
    let expected = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(vip, backends)| ((*vip).to_owned(), (*backends).to_owned())).collect()
    };
    assert_eq!(
        vips(&plan, "service/shop/web/tcp"),
        expected(&[
            ("10.96.0.10:80", "10.244.1.5:8080,10.244.2.6:8080"),
            ("[fd00:96::a]:80", "[fd00::5]:8080")
        ])
    );
    assert_eq!(
        vips(&plan, "service/shop/web/udp"),
        expected(&[
            ("10.96.0.10:53", "10.244.1.5:5353,10.244.2.6:5353"),
            ("[fd00:96::a]:53", "[fd00::5]:5353")
        ])
    );
    assert_eq!(
        vips(&plan, "service/shop/web/sctp"),
        expected(&[("10.96.0.10:9", ""), ("[fd00:96::a]:9", "")])
    );
    let row = row(&plan, Table::LoadBalancer, "service/shop/web/tcp");
    assert_eq!(row.maps["options"]["reject"], "true");
    // Of what has no end, OVN forgets who was served by an endpoint that goes; a TCP connection notices by itself.
    for (protocol, flushed) in [("tcp", None), ("udp", Some("true")), ("sctp", Some("true"))] {
        let options =
            &self::row(&plan, Table::LoadBalancer, &format!("service/shop/web/{protocol}")).maps["options"];
        assert_eq!(options.get("ct_flush").map(String::as_str), flushed, "{protocol}");
    }
    assert_eq!(row.parent, Some((group_key(), "load_balancer")));
}

#[test]
fn endpoints_as_kube_proxy_chooses_them() {
    let http = || vec![port("", Protocol::Tcp, 80)];
    for (endpoints, chosen) in [
        (vec![("10.0.0.1", true, true, false), ("10.0.0.2", false, true, true)], "10.0.0.1:80"),
        (vec![("10.0.0.1", false, false, false), ("10.0.0.2", false, true, true)], "10.0.0.2:80"),
        (vec![("10.0.0.1", false, true, false), ("10.0.0.2", false, false, true)], ""),
        (vec![("10.0.0.1", true, true, false), ("10.0.0.1", true, true, false)], "10.0.0.1:80"),
    ] {
        let endpoints = endpoints.into_iter().map(|(a, r, s, t)| endpoint(a, r, s, t)).collect();
        let plan = plan([web(service(&["10.96.0.10"], http())), slice("web-4", http(), endpoints)]);
        assert_eq!(vips(&plan, "service/shop/web/tcp")[0].1, chosen);
    }
}

#[test]
fn affinity_as_long_as_ovn_can() {
    for (asked, given) in [(10_800, "10800"), (86_400, "65535")] {
        let mut service = service(&["10.96.0.10"], vec![port("", Protocol::Tcp, 80)]);
        service.affinity = Some(asked);
        let plan = plan([web(service)]);
        let options = &row(&plan, Table::LoadBalancer, "service/shop/web/tcp").maps["options"];
        assert_eq!(options["affinity_timeout"], given);
    }
}

#[test]
fn a_local_service_is_another_on_each_node() {
    let http = || vec![port("", Protocol::Tcp, 80)];
    let mut local = service(&["10.96.0.10"], http());
    local.local = true;
    let mut here = endpoint("10.244.1.5", true, true, false);
    here.node = Some("n1".into());
    let mut plan = plan([node("n1", &["10.244.1.0/24"]), web(local), slice("web-4", http(), vec![here])]);
    apply(&mut plan, node("n2", &["10.244.2.0/24"]));
    assert_eq!(vips(&plan, "service/shop/web/tcp/n1")[0].1, "10.244.1.5:80");
    assert_eq!(vips(&plan, "service/shop/web/tcp/n2")[0].1, "");
    let row = row(&plan, Table::LoadBalancer, "service/shop/web/tcp/n2");
    assert_eq!(row.parent, Some((switch_key("n2"), "load_balancer")));
    plan.apply(Change::Node("n2".into(), None));
    assert_eq!(plan.count(Table::LoadBalancer), 1);
}

#[test]
fn one_endpoint_touches_one_row() {
    let http = || vec![port("", Protocol::Tcp, 80)];
    let mut changes = vec![web(service(&["10.96.0.10"], http()))];
    for n in 0..50 {
        changes.push(Change::Service(
            ObjectName::new("other", format!("s{n}")),
            Some(service(&["10.96.1.1"], http())),
        ));
    }
    let mut plan = plan(changes);
    let touched = plan.apply(slice("web-4", http(), vec![endpoint("10.0.0.1", true, true, false)]));
    assert_eq!(touched, BTreeSet::from([Key::new(Table::LoadBalancer, "service/shop/web/tcp")]));
}

fn hints(zone: bool, node: bool) -> Option<Box<Hints>> {
    let one = |some: bool, name: &str| some.then(|| name.into()).into_iter().collect();
    (zone || node).then(|| Box::new(Hints { zones: one(zone, "z1"), nodes: one(node, "n1") }))
}

fn in_zone(name: &str, cidr: &str, zone: &str) -> Change {
    let Change::Node(name, Some(it)) = node(name, &[cidr]) else { panic!() };
    Change::Node(name, Some(Node { zone: zone.into(), ..it }))
}

/// `trafficDistribution: PreferSameZone` makes the EndpointSlice controller write such hints.
#[test]
fn endpoints_for_a_zone_are_for_its_nodes() {
    let http = || vec![port("", Protocol::Tcp, 80)];
    let near = |address: &str, zone: &str| {
        let hints = Hints { zones: vec![zone.into()], nodes: Vec::new() };
        Endpoint { hints: Some(Box::new(hints)), ..endpoint(address, true, true, false) }
    };
    let both = || vec![near("10.244.1.5", "z1"), near("10.244.2.5", "z2")];
    let mut plan = plan([web(service(&["10.96.0.10"], http())), slice("web-4", http(), both())]);
    for (node, cidr, zone) in [
        ("n1", "10.244.1.0/24", "z1"),
        ("n2", "10.244.2.0/24", "z2"),
        ("n3", "10.244.3.0/24", "z2"),
        ("n4", "10.244.4.0/24", ""),
    ] {
        apply(&mut plan, in_zone(node, cidr, zone));
    }
    let of = |plan: &Plan, id: &str| vips(plan, &format!("service/shop/web/tcp{id}"))[0].1.clone();
    assert_eq!(of(&plan, "/zone/z1"), "10.244.1.5:80");
    assert_eq!(of(&plan, "/zone/z2"), "10.244.2.5:80");
    assert_eq!(of(&plan, "/zone/"), "10.244.1.5:80,10.244.2.5:80");
    let row = row(&plan, Table::LoadBalancer, "service/shop/web/tcp/zone/z2");
    assert_eq!(row.parent, Some((zone_key("z2"), "load_balancer")));
    assert!(plan.get(&zone_key("z2")).is_some());
    let groups =
        |plan: &Plan, node: &str| plan.get(&switch_key(node)).unwrap().members["load_balancer_group"].clone();
    assert_eq!(groups(&plan, "n3"), BTreeSet::from([group_key(), zone_key("z2")]));
    // A zone that nobody is in any more.
    for (node, cidr) in [("n2", "10.244.2.0/24"), ("n3", "10.244.3.0/24")] {
        apply(&mut plan, in_zone(node, cidr, "z1"));
    }
    assert!(plan.get(&zone_key("z2")).is_none() && plan.count(Table::LoadBalancer) == 2);
    // One that says nothing, and all are for all.
    let mut some = both();
    some[1].hints = None;
    plan.apply(slice("web-4", http(), some));
    assert_eq!(of(&plan, ""), "10.244.1.5:80,10.244.2.5:80");
    assert_eq!(plan.count(Table::LoadBalancer), 1);
}

/// Few names, so that objects meet.
fn any_change() -> impl Strategy<Value = Change> {
    let address = |n: u8| -> IpAddr { format!("10.244.{}.{}", n / 4, n % 4 + 1).parse().unwrap() };
    prop_oneof![
        (0..3_u8, prop::option::of((0..2_u8, 0..3_u8, 0..3_u8))).prop_map(|(n, node)| Change::Node(
            format!("n{n}").into(),
            node.map(|(uid, c, zone)| Node {
                uid: format!("u{uid}").into(),
                pod_cidrs: vec![format!("10.244.{c}.0/24")],
                zone: ["", "z1", "z2"][usize::from(zone)].into(),
                nic_taint: false,
            })
        )),
        (0..3_u8, prop::option::of((0..2_u8, 0..3_u8, any::<bool>()))).prop_map(|(n, range)| {
            let name = format!("n{n}");
            Change::NodeRange(
                name.as_str().into(),
                range.map(|(uid, c, addresses)| {
                    let status = NodeRangeStatus {
                        node_uid: Some(format!("u{uid}")),
                        ranges: vec![format!("10.244.{c}.0/24")],
                        addresses: addresses.then(|| "10.244.0.1".to_owned()).into_iter().collect(),
                        ..NodeRangeStatus::default()
                    };
                    let object = NodeRange::new(&name, NodeRangeSpec::default());
                    Box::new(NodeRange { status: Some(status), ..object })
                }),
            )
        }),
        (0..3_u8, prop::option::of((0..3_u8, any::<bool>(), any::<bool>()))).prop_map(move |(n, nic)| {
            let nic = nic.map(|(node, management, static_pods)| NicNode {
                node: format!("n{node}").into(),
                management,
                static_pods,
                chassis: management.then(|| format!("chassis{n}").into()),
                managed: management
                    .then(|| Managed { mac: "0a:00:00:00:00:06".into(), ips: vec![address(node * 4 + n)] }),
                health: NicHealth { ready: static_pods, ..NicHealth::default() },
            });
            Change::NicNode(format!("nic{n}").into(), nic)
        }),
        (0..4_u8, prop::option::of((0..3_u8, 0..3_u8, 0..8_u8))).prop_map(|(n, pod)| Change::Pod(
            ObjectName::new("a", format!("p{n}")),
            pod.map(|(uid, node, kind)| Pod {
                vf: kind != 0,
                host_network: kind == 1,
                mirror: kind == 2,
                ..pod_of(&format!("u{uid}"), &format!("n{node}"))
            })
        )),
        (0..4_u8, prop::option::of((0..4_u8, 0..3_u8, 0..3_u8, 0..12_u8))).prop_map(move |(n, it)| {
            Change::Attachment(
                ObjectName::new("a", format!("p{n}-eth0")),
                it.map(|(pod, uid, node, ip)| Attached {
                    logical_port: format!("a_p{pod}").into(),
                    ips: vec![address(ip)],
                    ..attached(&format!("p{pod}"), &format!("u{uid}"), &format!("n{node}"), "10.244.0.1")
                }),
            )
        }),
        (0..3_u8, prop::option::of((any::<bool>(), any::<bool>()))).prop_map(|(n, service)| Change::Service(
            ObjectName::new("a", format!("s{n}")),
            service.map(|(udp, local)| {
                let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
                Service { local, ..self::service(&[&format!("10.96.0.{n}")], vec![port("", protocol, 80)]) }
            })
        )),
        (
            0..4_u8,
            prop::option::of((0..3_u8, 0..12_u8, 0..3_u8, prop::option::of((0..4_u8, 0..3_u8)), 0..4_u8))
        )
            .prop_map(move |(n, slice)| {
                let name = ObjectName::new("a", format!("e{n}"));
                let slice = slice.map(|(service, ip, node, pod, hint)| {
                    let endpoint = Endpoint {
                        target: pod.map(|(pod, uid)| Target {
                            pod: ObjectName::new("a", format!("p{pod}")),
                            uid: format!("u{uid}").into(),
                        }),
                        node: Some(format!("n{node}").into()),
                        address: address(ip),
                        ready: ip != 0,
                        serving: true,
                        terminating: ip == 0,
                        hints: hints(hint & 1 != 0, hint & 2 != 0),
                    };
                    let ports = vec![port("", Protocol::Tcp, 8080)];
                    slice_of(name.clone(), &format!("s{service}"), ports, vec![endpoint])
                });
                Change::Slice(name, slice)
            }),
    ]
}

/// Which object a change is about.
fn about(change: &Change) -> String {
    match change {
        Change::Node(name, _) => format!("node {name}"),
        Change::NodeRange(name, _) => format!("range {name}"),
        Change::NicNode(name, _) => format!("nic {name}"),
        Change::Pod(name, _) => format!("pod {name}"),
        Change::Attachment(name, _) => format!("attachment {name}"),
        Change::Service(name, _) => format!("service {name}"),
        Change::Slice(name, _) => format!("slice {name}"),
    }
}

proptest! {
    /// Whatever came in whatever order: the rows are those of a fresh start with the objects as they are last, read in
    /// another order; and what was touched is what differs.
    #[test]
    fn rows_depend_on_the_objects_and_not_on_what_has_been(
        changes in prop::collection::vec(any_change(), 0..60),
        seed in any::<u64>(),
    ) {
        let mut incremental = Plan::new(settings());
        for change in &changes {
            let before = incremental.rows.clone();
            let touched = incremental.apply(change.clone());
            let keys: BTreeSet<&Key> = before.keys().chain(incremental.rows.keys()).collect();
            for key in keys {
                prop_assert_eq!(touched.contains(key), before.get(key) != incremental.rows.get(key), "{}", key);
            }
        }
        let last: BTreeMap<String, Change> =
            changes.iter().map(|change| (about(change), change.clone())).collect();
        let mut last: Vec<Change> = last.into_values().collect();
        let turns = usize::try_from(seed % 61).unwrap();
        if !last.is_empty() {
            let by = turns % last.len();
            last.rotate_left(by);
        }
        if seed & 64 != 0 {
            last.reverse();
        }
        let mut fresh = Plan::new(settings());
        for change in last {
            fresh.apply(change);
        }
        prop_assert_eq!(&fresh.rows, &incremental.rows);
        let alone = Plan::new(settings()).rows.len();
        for table in Table::ALL {
            prop_assert_eq!(incremental.count(table), fresh.rows.keys().filter(|key| key.table == table).count());
        }
        prop_assert_eq!(
            fresh.made_of.values().map(Vec::len).sum::<usize>() + alone, fresh.rows.len(),
            "no row of two objects"
        );
    }
}
