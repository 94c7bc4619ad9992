//! Nodes and NICs that say of others, or of themselves, what is not so.

use super::*;

#[test]
fn a_port_comes_back_with_what_its_pod_had() {
    let cluster = || [node("n1", &["10.244.1.0/24"]), node("n2", &["10.244.2.0/24"]), pod("web", "u1", "n1")];
    let had = |more: Vec<Change>| {
        let plan = plan(cluster().into_iter().chain(more));
        let had = row(&plan, Table::LogicalSwitchPort, "pod/shop/web/u1").had.clone();
        had.map(|had| had.addresses.to_string())
    };
    let good = || attached("web", "u1", "n1", "10.244.1.7");
    let one = |attached: Attached| had(vec![attachment("web-eth0", attached)]);
    let back = Some("0a:00:00:00:00:07 10.244.1.7");
    assert_eq!(had(vec![]), None);
    assert_eq!(one(good()).as_deref(), back);
    assert_eq!(one(Attached { mac: "0A:00:00:00:00:07".into(), ..good() }).as_deref(), back);
    for (what, bad) in [
        ("its predecessor's", Attached { uid: "u0".into(), ..good() }),
        ("another port of its", Attached { logical_port: "shop_web-net1".into(), ..good() }),
        ("another pod's", Attached { pod: "db".into(), ..good() }),
        ("another node's NIC says it", Attached { node: "n2".into(), ..good() }),
        ("another node's range", attached("web", "u1", "n1", "10.244.2.7")),
        ("nobody's range", attached("web", "u1", "n1", "192.0.2.7")),
        ("the router's", attached("web", "u1", "n1", "10.244.1.1")),
        ("the network", attached("web", "u1", "n1", "10.244.1.0")),
        ("the broadcast", attached("web", "u1", "n1", "10.244.1.255")),
        ("the router's MAC", Attached { mac: "0A:58:0a:f4:01:01".into(), ..good() }),
        ("a group's MAC", Attached { mac: "01:00:5e:00:00:01".into(), ..good() }),
        ("no MAC", Attached { mac: "00:00:00:00:00:00".into(), ..good() }),
        ("no MAC", Attached { mac: "0a:00:00:00:00:07 unknown".into(), ..good() }),
    ] {
        assert_eq!(one(bad), None, "{what}");
    }
    let gone = Change::Attachment(ObjectName::new("shop", "web-eth0"), None);
    assert_eq!(had(vec![attachment("web-eth0", good()), gone.clone()]), None);
    // Two of one NIC's: neither. What another NIC says of it is nothing.
    let twice = attachment("db-eth0", Attached { pod: "db".into(), ..good() });
    assert_eq!(had(vec![attachment("web-eth0", good()), twice]), None);
    let squatter = attachment("x-eth0", Attached { node: "n2".into(), pod: "x".into(), ..good() });
    assert_eq!(had(vec![attachment("web-eth0", good()), squatter]).as_deref(), back);
    // Whatever comes first.
    let early = plan([attachment("web-eth0", good())].into_iter().chain(cluster()));
    assert!(row(&early, Table::LogicalSwitchPort, "pod/shop/web/u1").had.is_some());
}

#[test]
fn the_server_s_port_comes_back_with_what_it_had() {
    let said = |mac: &str, ip: &str| {
        let managed = Some(Managed { mac: mac.into(), ips: vec![ip.parse().unwrap()] });
        NicNode { management: true, managed, ..nic_of("n1") }
    };
    let of = |name: &str, nic: NicNode| Change::NicNode(name.into(), Some(nic));
    let had = |changes: Vec<Change>| {
        let plan = plan([node("n1", &["10.244.1.0/24"])].into_iter().chain(changes));
        let had = row(&plan, Table::LogicalSwitchPort, "management/n1").had.clone();
        had.map(|had| had.addresses.to_string())
    };
    let (mac, ip) = ("0A:00:00:00:00:07", "10.244.1.7");
    let back = Some("0a:00:00:00:00:07 10.244.1.7");
    assert_eq!(had(vec![of("nic", said(mac, ip))]).as_deref(), back);
    for (mac, bad) in [
        (mac, "10.244.2.7"),
        (mac, "10.244.1.1"),
        (mac, "10.244.1.255"),
        ("01:00:5e:00:00:01", ip),
        ("0a:58:0a:f4:01:01", ip),
        ("", ip),
    ] {
        assert_eq!(had(vec![of("nic", said(mac, bad))]), None, "{mac} {bad}");
    }
    // Of two NICs nobody can tell whose word it is.
    assert_eq!(had(vec![of("nic", said(mac, ip)), of("nic2", nic_of("n1"))]), None);
    // A NIC that says of a pod of its own that it has the server's.
    let plan = plan([
        node("n1", &["10.244.1.0/24"]),
        pod("web", "u1", "n1"),
        attachment("web-eth0", attached("web", "u1", "n1", ip)),
        of("nic", said(mac, ip)),
    ]);
    assert_eq!(row(&plan, Table::LogicalSwitchPort, "pod/shop/web/u1").had, None);
    assert!(row(&plan, Table::LogicalSwitchPort, "management/n1").had.is_some());
}

/// The case: a server that names a longer prefix of another node's for its own.
#[test]
fn a_node_gets_no_way_to_what_is_another_s() {
    for mut changes in [
        vec![node("node2", &["10.244.2.0/24"]), node("server1", &["10.244.2.0/29"])],
        vec![node("server1", &["10.244.2.0/29"]), node("node2", &["10.244.2.0/24"])],
        vec![node("node2", &["10.244.2.0/24"]), node("server1", &["10.244.2.0/24"])],
    ] {
        changes.push(pod("x", "u", "server1"));
        let plan = plan(changes);
        let lrp = row(&plan, Table::LogicalRouterPort, "node/node2");
        assert_eq!(lrp.columns["networks"], Datum::from("10.244.2.1/24"));
        assert_eq!((plan.count(Table::LogicalRouterPort), plan.count(Table::LogicalSwitch)), (1, 1));
        assert!(plan.get(&Key::new(Table::LogicalSwitchPort, "pod/shop/x/u")).is_none());
    }
}

#[test]
fn a_port_is_this_pod_s_and_bound_on_its_nic_alone() {
    let on = |chassis: &str| NicNode { chassis: Some(chassis.into()), ..nic_of("n1") };
    let of = |name: &str, nic: NicNode| Change::NicNode(name.into(), Some(nic));
    let mut plan = plan([node("n1", &["10.244.1.0/24"]), pod("web", "u1", "n1")]);
    let options =
        |plan: &Plan| row(plan, Table::LogicalSwitchPort, "pod/shop/web/u1").maps["options"].clone();
    assert_eq!(options(&plan), BTreeMap::from([("iface-id-ver", "u1".to_owned())]));
    let touched = plan.apply(of("nic1", NicNode { management: true, ..on("nic1") }));
    assert!(touched.contains(&Key::new(Table::LogicalSwitchPort, "pod/shop/web/u1")));
    assert_eq!(options(&plan)["requested-chassis"], "nic1");
    let management = row(&plan, Table::LogicalSwitchPort, "management/n1");
    assert_eq!(management.maps["options"]["requested-chassis"], "nic1");
    assert!(!management.maps["options"].contains_key("iface-id-ver"));
    // Of two nobody can tell which it is.
    plan.apply(of("nic2", on("nic2")));
    assert!(!options(&plan).contains_key("requested-chassis"));
}

#[test]
fn static_pods_count_where_an_operator_says_so() {
    let mirror = || {
        let pod = Pod { mirror: true, ..pod_of("u1", "n1") };
        Change::Pod(ObjectName::new("shop", "web"), Some(pod))
    };
    let key = Key::new(Table::LogicalSwitchPort, "pod/shop/web/u1");
    let allowing = |static_pods| Change::NicNode("nic".into(), Some(NicNode { static_pods, ..nic_of("n1") }));
    let mut plan = plan([node("n1", &["10.244.1.0/24"]), mirror()]);
    assert!(plan.get(&key).is_none(), "no NIC to say so");
    plan.apply(allowing(false));
    assert!(plan.get(&key).is_none());
    assert!(plan.apply(allowing(true)).contains(&key));
    assert_eq!(plan.get(&key).unwrap().assigned, ["10.244.1.0/24".parse().unwrap()]);
    plan.apply(allowing(false));
    assert!(plan.get(&key).is_none());
}

/// A Service's backends when `victim`, on n1 with a NIC, is one by right, and this happens besides.
fn backends_after(changes: Vec<Change>) -> String {
    let http = || vec![port("", Protocol::Tcp, 80)];
    let victim = of_pod("10.244.1.5", "victim", "u1");
    let mut plan = plan([
        node("n1", &["10.244.1.0/24"]),
        node("n2", &["10.244.2.0/24"]),
        nic("n1", false),
        pod("victim", "u1", "n1"),
        attachment("victim-eth0", attached("victim", "u1", "n1", "10.244.1.5")),
        web(service(&["10.96.0.10"], http())),
        slice("web-4", http(), vec![victim]),
    ]);
    for change in changes {
        apply(&mut plan, change);
    }
    vips(&plan, "service/shop/web/tcp").remove(0).1
}

fn of_pod(address: &str, pod: &str, uid: &str) -> Endpoint {
    let name = ObjectName::new("shop", pod);
    Endpoint { target: Some(Target { pod: name, uid: uid.into() }), ..endpoint(address, true, true, false) }
}

#[test]
fn who_answers_for_a_service_is_not_for_a_server_to_say() {
    let http = || vec![port("", Protocol::Tcp, 80)];
    let also = |endpoints: Vec<Endpoint>| slice("web-x", http(), endpoints);
    let put = |name: &str, pod: Pod| Change::Pod(ObjectName::new("shop", name), Some(pod));
    let honest = "10.244.1.5:80";
    assert_eq!(backends_after(vec![]), honest);
    // A mirror pod in the Service's namespace, with its labels: with an address of its own node, and with another's.
    for (address, nics) in
        [("10.244.2.9", true), ("10.244.2.9", false), ("10.244.1.5", true), ("192.0.2.9", false)]
    {
        let mirror = put("mirror", Pod { mirror: true, ..pod_of("m", "n2") });
        let mut changes = vec![mirror, also(vec![of_pod(address, "mirror", "m")])];
        if nics {
            changes.push(nic("n2", false));
            changes.push(attachment("mirror-eth0", attached("mirror", "m", "n2", address)));
        }
        assert_eq!(backends_after(changes), honest, "{address}");
    }
    // A pod of its own, by its status anywhere: where no NIC speaks, its node's range is its bounds.
    for (address, counts) in
        [("10.244.2.9", true), ("10.244.1.9", false), ("10.96.0.10", false), ("10.244.2.1", false)]
    {
        let now =
            backends_after(vec![put("own", pod_of("o", "n2")), also(vec![of_pod(address, "own", "o")])]);
        assert_eq!(now.contains(address), counts, "{address}: {now}");
    }
    // Where one speaks, it is the NIC's word, and that of the pod's own NIC.
    let with_nic = |address: &str, says: Option<Attached>| {
        let says = says.map(|it| attachment("own-eth0", it));
        let own = [put("own", pod_of("o", "n2")), nic("n2", false), also(vec![of_pod(address, "own", "o")])];
        backends_after(own.into_iter().chain(says).collect())
    };
    assert_eq!(with_nic("10.244.2.9", None), honest);
    assert_eq!(
        with_nic("10.244.2.9", Some(attached("own", "o", "n2", "10.244.2.9"))),
        "10.244.1.5:80,10.244.2.9:80"
    );
    assert_eq!(with_nic("10.244.2.9", Some(attached("own", "o", "n2", "10.244.2.8"))), honest);
    assert_eq!(with_nic("10.244.2.9", Some(attached("own", "o", "n1", "10.244.2.9"))), honest);
    assert_eq!(with_nic("10.244.2.9", Some(attached("own", "o2", "n2", "10.244.2.9"))), honest);
    assert_eq!(with_nic("10.244.1.5", Some(attached("own", "o", "n2", "10.244.1.5"))), honest);
    // A pod that is not there, or was made anew.
    assert_eq!(backends_after(vec![also(vec![of_pod("10.244.2.9", "none", "o")])]), honest);
    assert_eq!(backends_after(vec![pod("victim", "u2", "n1")]), "");
    // On the host's network: what an operator has confirmed of the server.
    let host = || put("host", Pod { host_network: true, ..pod_of("h", "n2") });
    let slice = || also(vec![of_pod("192.0.2.2", "host", "h")]);
    assert_eq!(backends_after(vec![host(), slice()]), honest);
    let said = backends_after(vec![host(), slice(), operator("n2", &[], &["192.0.2.2"])]);
    assert_eq!(said, "10.244.1.5:80,192.0.2.2:80");
    // What is kept by hand is as it was.
    let by_hand = also(vec![endpoint("192.0.2.7", true, true, false)]);
    assert_eq!(backends_after(vec![by_hand]), "10.244.1.5:80,192.0.2.7:80");
}
