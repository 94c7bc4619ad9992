//! The agent's compiler against the oracle, and a change against starting over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use cluster_controller::cluster::object::{NodeObject, ServiceObject, SliceObject, VfResources, Watched};
use cluster_controller::northbound::Table;
use cluster_controller::plan::{Plan, group_key, switch_key, zone_key};
use cluster_controller::ranges::{Allocation, Decision};
use cluster_controller::settings::{RouterAddress, Settings as ControllersSettings};
use drawbridge_api::{NodeRange, NodeRangeSpec};
use nic_agent::policy::{Budget, Change, Compiler, ObjectName, Report, Settings, Snapshot};
use offload::policy::{Direction, Packet, State, Transport, verdict};
use serde_json::{Value, from_value, json};

use super::random::{self, Dice, PORTS, PROTOCOLS};
use super::{Cluster, For, Traffic, ips, list, text};

const NODE: [&str; 2] = ["10.0.1.1", "fd00:1::1"];

fn snapshot(items: &[Value]) -> Snapshot {
    let list = json!({"kind": "List", "items": items});
    Snapshot::parse(Path::new("test"), list.to_string().as_bytes()).unwrap()
}

fn settings() -> Settings {
    Settings {
        node: "n1".into(),
        zone: "z1".into(),
        node_addresses: NODE.map(|it| it.parse::<IpAddr>().unwrap()).into_iter().collect(),
        budget: Budget::default(),
    }
}

fn transport(traffic: Traffic, is_ipv6: bool) -> Transport {
    match traffic {
        Traffic::Port("TCP", dst) => Transport::Tcp { src: 40_000, dst },
        Traffic::Port("UDP", dst) => Transport::Udp { src: 40_000, dst },
        Traffic::Port(_, dst) => Transport::Sctp { src: 40_000, dst },
        Traffic::Other => Transport::Icmp { kind: if is_ipv6 { 128 } else { 8 }, code: 0 },
    }
}

/// What of this cluster is compiled wrongly, and how many cases were asked.
fn differences(items: &[Value]) -> (Vec<String>, usize) {
    let node_addresses = NODE.map(|it| it.parse().unwrap()).to_vec();
    let cluster = Cluster { items: items.to_vec(), node_addresses, node: "n1".into(), zone: "z1".into() };
    let compiler = Compiler::new(settings(), snapshot(items));
    let mut addresses: Vec<IpAddr> = cluster.of_kind("Pod").flat_map(ips).collect();
    for service in cluster.of_kind("Service") {
        addresses.extend(
            list(&service["spec"]["clusterIPs"]).iter().filter_map(|it| text(it).parse::<IpAddr>().ok()),
        );
    }
    let others = ["192.0.2.1", "192.0.2.200", "172.16.0.1", "2001:db8::1", NODE[0], NODE[1]];
    addresses.extend(others.map(|it| it.parse::<IpAddr>().unwrap()));
    addresses.sort();
    addresses.dedup();
    let mut traffics = vec![Traffic::Other];
    traffics.extend(PROTOCOLS.iter().flat_map(|protocol| PORTS.map(|port| Traffic::Port(protocol, port))));
    let (mut wrong, mut cases) = (Vec::new(), 0);
    for (_, name, policy) in compiler.all_compiled() {
        let pod = cluster.pod(&name.namespace, &name.name).unwrap();
        for own in ips(pod) {
            for peer in addresses.iter().filter(|it| it.is_ipv4() == own.is_ipv4() && **it != own) {
                for traffic in &traffics {
                    let transport = transport(*traffic, own.is_ipv6());
                    let out = Packet { src: own, dst: *peer, transport };
                    let back = Packet { src: *peer, dst: own, transport };
                    for (direction, packet, right) in [
                        (Direction::Egress, out, cluster.may_send(pod, *peer, *traffic)),
                        (Direction::Ingress, back, cluster.may_receive(pod, *peer, *traffic)),
                    ] {
                        cases += 1;
                        let decision = verdict(policy, direction, &packet, State::New);
                        if decision.allowed != right {
                            let by = decision.by.and_then(|it| compiler.origins().text(it));
                            wrong.push(format!(
                                "{name} {direction:?} {packet:?}: allowed should be {right}; {by:?}"
                            ));
                        }
                        if let Some(by) = decision.by {
                            assert!(compiler.origins().key(by).is_some(), "{by}");
                        }
                    }
                }
            }
        }
    }
    (wrong, cases)
}

/// Fewer objects that are still wrong.
fn shrink(mut items: Vec<Value>, is_wrong: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut at = 0;
    while at < items.len() {
        let mut fewer = items.clone();
        fewer.remove(at);
        if is_wrong(&fewer) { items = fewer } else { at += 1 }
    }
    items
}

#[test]
fn what_is_compiled_is_what_kubernetes_says() {
    let mut all = 0;
    for seed in 0..60 {
        let items = random::items(&mut Dice(seed));
        let (wrong, cases) = differences(&items);
        all += cases;
        if !wrong.is_empty() {
            let items = shrink(items, |items| !differences(items).0.is_empty());
            let said = differences(&items).0;
            panic!(
                "seed {seed}: {:#?}\n{}",
                &said[..said.len().min(5)],
                serde_json::to_string_pretty(&items).unwrap()
            );
        }
    }
    assert!(all >= 50_000, "{all} cases");
}

/// Budgets so small that most objects are beyond one of them.
fn small(dice: &mut Dice) -> Budget {
    let mut roll = |most| dice.roll(most);
    let mut budget = Budget::default();
    (budget.policy.rules, budget.policy.prefixes, budget.policy.ports) =
        (1 + roll(3), 1 + roll(8), 1 + roll(4));
    (budget.namespace.rules, budget.namespace.prefixes) = (1 + roll(6), 1 + roll(12));
    (budget.services.service.ports, budget.services.namespace.ports) = (1 + roll(3), 1 + roll(4));
    (budget.services.service.endpoints, budget.services.namespace.endpoints) = (1 + roll(4), 1 + roll(6));
    (budget.pod_flows, budget.pod_service_flows) = (4 + roll(60), 1 + roll(3));
    budget
}

/// What is too much is closed, never opened; and who has nothing that is too much has all that he had.
#[test]
fn a_budget_allows_nothing_more_and_takes_nothing_from_those_within_it() {
    let (mut taken, mut kept) = (0, 0);
    for seed in 0..120 {
        let mut dice = Dice(seed << 16 | 5);
        let items = random::items(&mut dice);
        let budget = small(&mut dice);
        let free = Compiler::new(settings(), snapshot(&items));
        let mut tight = Compiler::new(Settings { budget, ..settings() }, snapshot(&[]));
        // In any order, too.
        let mut order: Vec<Change> = snapshot(&items).into_changes().collect();
        for at in (1..order.len()).rev() {
            order.swap(at, dice.roll(at + 1));
        }
        for change in order {
            tight.apply(change);
        }
        let at_once = Compiler::new(Settings { budget, ..settings() }, snapshot(&items));
        assert_eq!(said(&tight), said(&at_once), "seed {seed}");
        let addresses: Vec<IpAddr> = items.iter().flat_map(ips).collect();
        let services = items.iter().flat_map(|it| list(&it["spec"]["clusterIPs"]).to_vec());
        let services = services.filter_map(|it| text(&it).parse::<IpAddr>().ok());
        let others = ["192.0.2.1", "2001:db8::1", NODE[0]].map(|it| it.parse::<IpAddr>().unwrap());
        let peers: Vec<IpAddr> = addresses.into_iter().chain(services).chain(others).collect();
        let is_within = tight.reports().iter().all(|it| !matches!(it, Report::OverBudget { .. }));
        for (uid, name, policy) in tight.all_compiled() {
            let before = free.compiled(uid).unwrap();
            if is_within {
                assert_eq!(policy, before, "seed {seed}: {name}");
                kept += 1;
                continue;
            }
            for peer in &peers {
                for port in PORTS {
                    let own: IpAddr = if peer.is_ipv4() { "10.99.0.1" } else { "fd99::1" }.parse().unwrap();
                    let transport = Transport::Tcp { src: 40_000, dst: port };
                    for (direction, src, dst) in
                        [(Direction::Egress, own, *peer), (Direction::Ingress, *peer, own)]
                    {
                        let packet = Packet { src, dst, transport };
                        let of = |policy| verdict(policy, direction, &packet, State::New).allowed;
                        assert!(
                            of(before) || !of(policy),
                            "seed {seed}: {name} {direction:?} {packet:?} is opened"
                        );
                        taken += usize::from(of(before) && !of(policy));
                    }
                }
            }
        }
    }
    assert!(taken > 1000 && kept > 0, "{taken} taken, {kept} pods within their budgets");
}

/// Everything that a compiler says.
fn said(compiler: &Compiler) -> String {
    let pods: Vec<_> = compiler.all_compiled().collect();
    let origins: Vec<_> = compiler.origins().iter().collect();
    format!("{pods:?}\n{origins:?}\n{:?}", compiler.reports())
}

fn change(item: &Value) -> Change {
    let one = snapshot(std::slice::from_ref(item));
    one.into_changes().next().unwrap()
}

fn gone(item: &Value) -> Change {
    let name = ObjectName::new(text(&item["metadata"]["namespace"]), text(&item["metadata"]["name"]));
    match text(&item["kind"]) {
        "Pod" => Change::PodGone(name),
        "Namespace" => Change::NamespaceGone(name.name),
        "NetworkPolicy" => Change::PolicyGone(name),
        "Service" => Change::ServiceGone(name),
        _ => Change::EndpointSliceGone(name),
    }
}

#[test]
fn changes_in_any_order_give_what_starting_over_gives() {
    for seed in 0..60 {
        let mut dice = Dice(seed << 32);
        let mut items = random::items(&mut dice);
        let mut compiler = Compiler::new(settings(), snapshot(&items));
        for step in 0..40 {
            let before: BTreeMap<_, _> =
                compiler.all_compiled().map(|(uid, _, policy)| (uid.clone(), policy.clone())).collect();
            let affected = if dice.one_in(4) && !items.is_empty() {
                let item = items.remove(dice.roll(items.len()));
                compiler.apply(gone(&item))
            } else {
                let kind = random::kind(&mut dice);
                let item = random::object(&mut dice, kind);
                random::put(&mut items, item.clone());
                compiler.apply(change(&item))
            };
            dice.shuffle(&mut items);
            let anew = Compiler::new(settings(), snapshot(&items));
            assert_eq!(said(&compiler), said(&anew), "seed {seed} step {step}");
            // It says which pods it changed, and no others.
            let after: BTreeMap<_, _> =
                compiler.all_compiled().map(|(uid, _, policy)| (uid.clone(), policy.clone())).collect();
            for uid in before.keys().chain(after.keys()) {
                let is_changed = before.get(uid) != after.get(uid);
                assert_eq!(affected.pods.contains(uid), is_changed, "seed {seed} step {step} {uid}");
            }
        }
        // And one by one from nothing.
        let mut grown = Compiler::new(settings(), Snapshot::default());
        for item in &items {
            grown.apply(change(item));
        }
        assert_eq!(said(&grown), said(&compiler), "seed {seed}");
        for item in &items {
            grown.apply(gone(item));
        }
        assert_eq!(said(&grown), said(&Compiler::new(settings(), Snapshot::default())));
        assert_eq!(grown.sets(), 0);
    }
}

fn controllers_plan() -> Plan {
    Plan::new(ControllersSettings {
        router_address: RouterAddress::First,
        mtu: "1400".parse().unwrap(),
        routes: Vec::new(),
        allocation: Allocation::new(vec!["10.244.0.0/16".parse().unwrap()], Vec::new()),
        copp_rate: "500".parse().unwrap(),
        services: cluster_controller::settings::Limits::default(),
    })
}

fn tell(plan: &mut Plan, object: impl Watched) {
    if let Some(change) = object.present(&VfResources(Vec::new())) {
        plan.apply(change);
    }
}

/// What a client on the node finds at each address and port, by the load balancers of its switch.
fn balanced(plan: &Plan, node: &str, zone: &str) -> BTreeMap<String, BTreeSet<String>> {
    let here = [group_key(), zone_key(zone), switch_key(node)];
    let mut found = BTreeMap::new();
    for (key, row) in plan.rows().filter(|(key, _)| key.table == Table::LoadBalancer) {
        if !here.contains(&row.parent.as_ref().unwrap().0) {
            continue;
        }
        let protocol = row.columns["protocol"].as_str().unwrap().to_uppercase();
        for (vip, backends) in row.columns["vips"].pairs() {
            let (vip, backends) = (vip.as_str().unwrap(), backends.as_str().unwrap());
            let backends = backends.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
            let known = found.insert(format!("{protocol} {vip}"), backends);
            assert!(known.is_none(), "two load balancers for {vip} on {node}: {key}");
        }
    }
    found
}

/// On every node a ClusterIP leads where Kubernetes says.
#[test]
fn load_balancers_are_as_kubernetes_says() {
    let (mut some, mut differ) = (0, 0);
    for seed in 0..1000 {
        let (mut items, mut dice) = (Vec::new(), Dice(seed << 20));
        for _ in 0..60 {
            let kind = dice.pick(&["Service", "EndpointSlice", "EndpointSlice"]);
            random::put(&mut items, random::object(&mut dice, kind));
        }
        let mut plan = controllers_plan();
        let nodes = [("n1", "z1"), ("n2", "z2"), ("n3", "z2"), ("n4", "")];
        let node = |at: usize, (name, zone): (&str, &str)| {
            json!({"kind": "Node", "metadata": {"name": name, "uid": name,
                    "labels": {"topology.kubernetes.io/zone": zone}},
                "spec": {"podCIDRs": [format!("10.244.{at}.0/24")]}})
        };
        items.extend(nodes.into_iter().enumerate().map(|(at, it)| node(at, it)));
        dice.shuffle(&mut items);
        for item in &items {
            match text(&item["kind"]) {
                "Service" => tell(&mut plan, from_value::<ServiceObject>(item.clone()).unwrap()),
                "EndpointSlice" => tell(&mut plan, from_value::<SliceObject>(item.clone()).unwrap()),
                _ => tell(&mut plan, from_value::<NodeObject>(item.clone()).unwrap()),
            }
        }
        let decisions = plan.decisions("t").into_iter().map(|(name, (decision, _))| (name, decision));
        for (name, decision) in decisions.collect::<Vec<_>>() {
            let Decision::Status(status) = decision else { panic!("{decision:?}") };
            let range = NodeRange::new(&name, NodeRangeSpec::default());
            let range = Box::new(NodeRange { status: Some(*status), ..range });
            plan.apply(cluster_controller::cluster::Change::NodeRange(name, Some(range)));
        }
        let mut all = Vec::new();
        for (node, zone) in nodes {
            let cluster =
                Cluster { items: items.clone(), node: node.into(), zone: zone.into(), ..Cluster::default() };
            // Of one address and port that two Services have, nobody says what it means.
            let mut right: BTreeMap<String, Option<BTreeSet<String>>> = BTreeMap::new();
            for port in cluster.service_ports(For::Connections) {
                let vip = SocketAddr::new(port.ip, u16::try_from(port.number).unwrap());
                let backends = port.backends.into_iter().map(|it| SocketAddr::from(it).to_string()).collect();
                let key = format!("{} {vip}", port.protocol);
                right.entry(key).and_modify(|it| *it = None).or_insert(Some(backends));
            }
            let right: BTreeMap<String, BTreeSet<String>> =
                right.into_iter().filter_map(|(key, it)| Some((key, it?))).collect();
            assert_eq!(balanced(&plan, node, zone), right, "seed {seed} {node}: {items:#?}");
            some += right.values().filter(|it| !it.is_empty()).count();
            all.push(right);
        }
        differ += usize::from(all.iter().any(|it| *it != all[0]));
    }
    assert!(some > 2000 && differ > 100, "{some} with backends; {differ} clusters in which nodes differ");
}
