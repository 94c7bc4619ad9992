use super::*;
use crate::netlink::devlink::Netdev as PortNetdev;
use proptest::prelude::*;

fn link(ifindex: u32, name: &str, switch: Option<&str>, port_name: Option<&str>) -> Link {
    Link {
        ifindex: IfIndex(ifindex),
        name: name.to_owned(),
        mac: None,
        mtu: 1500,
        up: false,
        running: false,
        carrier: false,
        phys_switch_id: switch.map(|id| SwitchId(id.as_bytes().to_vec())),
        phys_port_name: port_name.map(str::to_owned),
        parent: None,
        devlink_port: None,
        link_netnsid: None,
        master: None,
        kind: None,
    }
}

fn device(number: u32) -> DeviceHandle {
    format!("pci/0000:0{number}:00.0").parse().unwrap()
}

fn port(device_number: u32, index: u32, flavour: Flavour, netdev: Option<(u32, &str)>) -> Port {
    Port {
        handle: PortHandle { device: device(device_number), index },
        kind: PortType::Ethernet,
        flavour,
        netdev: netdev.map(|(ifindex, name)| PortNetdev { ifindex: IfIndex(ifindex), name: name.to_owned() }),
        function_mac: None,
    }
}

fn vf(controller: u32, vf: u16) -> Flavour {
    Flavour::PciVf { controller, pf: 0, vf, external: controller != 0 }
}

fn id(vf: u16) -> VfId {
    VfId { pf: 0, vf }
}

/// A NIC with an uplink, the host's PF and four VFs; devices are numbered from `base`.
fn nic(number: u32, base: u32, switch: &str) -> (Vec<Port>, Vec<Link>) {
    let names = ["p0", "pf0hpf", "r0", "r1", "r2", "r3"].map(|name| format!("{name}n{number}"));
    let flavours = [
        Flavour::Physical { number: Some(0) },
        Flavour::PciPf { controller: 1, pf: 0, external: true },
        vf(1, 0),
        vf(1, 1),
        vf(1, 2),
        vf(1, 3),
    ];
    let port_names = ["p0", "c1pf0", "c1pf0vf0", "c1pf0vf1", "c1pf0vf2", "c1pf0vf3"];
    let ports = (0..)
        .zip(flavours)
        .zip(&names)
        .map(|((n, flavour), name)| port(number, n, flavour, Some((base + n, name))));
    let links = (base..)
        .zip(&names)
        .zip(port_names)
        .map(|((ifindex, name), port)| link(ifindex, name, Some(switch), Some(port)));
    (ports.collect(), links.collect())
}

fn names(representors: &[Representor]) -> Vec<&str> {
    representors.iter().map(|representor| representor.name.as_str()).collect()
}

#[test]
fn by_devlink_and_not_by_name() {
    let (ports, mut links) = nic(3, 10, "s");
    // Renamed since the port dump, to what another one should be called.
    links[2].name = "c1pf0vf3".to_owned();
    let table = RepresentorTable::new(&ports, &links, Selector::default());
    let found = table.find(Some(1), id(0)).unwrap();
    assert_eq!(
        (found.ifindex, found.name.as_str(), found.found_by),
        (IfIndex(12), "c1pf0vf3", FoundBy::Devlink)
    );
    assert_eq!((found.vf(), found.controller()), (Some(id(0)), Some(1)));
    assert_eq!(found.port.unwrap().to_string(), "pci/0000:03:00.0/2");
    assert_eq!(table.find(None, id(3)).unwrap().ifindex, IfIndex(15));
    assert_eq!(names(&table.pf_representors()), ["pf0hpfn3"]);
    assert_eq!(names(&table.uplinks()), ["p0n3"]);
    assert_eq!(table.all_vf_representors().len(), 4);
}

#[test]
fn by_port_name_where_devlink_is_silent() {
    let (_, links) = nic(3, 10, "s");
    let table = RepresentorTable::new(&[], &links, Selector::default());
    let found = table.find(Some(1), id(2)).unwrap();
    assert_eq!((found.name.as_str(), found.found_by), ("r2n3", FoundBy::PhysPortName));
    assert_eq!(names(&table.pf_representors()), ["pf0hpfn3"]);
    assert_eq!(names(&table.uplinks()), ["p0n3"]);
    // A port name without a switch is no representor: many drivers call their own ports p0 or pf0vf0.
    let alone = [link(1, "eth0", None, Some("pf0vf2"))];
    let table = RepresentorTable::new(&[], &alone, Selector::default());
    assert!(
        matches!(table.find(None, id(2)), Err(FindError::NotFound { candidates, .. }) if candidates == "none")
    );
    assert!(table.uplinks().is_empty());
}

#[test]
fn what_is_missing_is_said_with_what_there_is() {
    let (mut ports, links) = nic(3, 10, "s");
    ports[4].netdev = None;
    ports[4].kind = PortType::NotSet;
    let table = RepresentorTable::new(&ports, &links[..4], Selector::default());
    assert_eq!(
        table.find(Some(1), id(9)).unwrap_err().to_string(),
        "no representor of c1pf0vf9 on this NIC; there are: c1pf0vf0-1, c1pf0vf2-3 without a network device (pci/0000:03:00.0)"
    );
    assert_eq!(
        table.find(Some(0), id(0)).unwrap_err().to_string(),
        "no representor of pf0vf0 of controller 0 on this NIC; there are: c1pf0vf0-1, c1pf0vf2-3 without a network device (pci/0000:03:00.0)"
    );
    assert_eq!(
        table.find(Some(1), id(2)).unwrap_err().to_string(),
        "devlink port pci/0000:03:00.0/4 is c1pf0vf2, but it has no network device (yet)"
    );
    assert_eq!(
        table.find(Some(1), id(3)).unwrap_err().to_string(),
        "devlink port pci/0000:03:00.0/5 is c1pf0vf3, but its network device r3n3 (15) is gone"
    );
}

#[test]
fn a_device_in_another_namespace_is_said_as_such() {
    let (mut ports, links) = nic(3, 10, "s");
    ports[3].netdev = None;
    let table = RepresentorTable::new(&ports, &links[..3], Selector::default());
    assert!(
        matches!(table.find(Some(1), id(1)), Err(FindError::NoNetdev { why, .. }) if why.contains("another network namespace"))
    );
    assert_eq!(table.all_vf_representors().len(), 1);
}

#[test]
fn two_switches_are_told_apart_or_refused() {
    let (mut ports, mut links) = nic(3, 10, "s");
    let (more_ports, more_links) = nic(4, 20, "t");
    ports.extend(more_ports);
    links.extend(more_links);
    let table = |selector| RepresentorTable::new(&ports, &links, selector);
    let both = table(Selector::default());
    assert_eq!(
        both.find(Some(1), id(1)).unwrap_err().to_string(),
        "more than one representor of c1pf0vf1; configure the devlink device or the controller; there are: c1pf0vf1 (pci/0000:03:00.0); c1pf0vf1 (pci/0000:04:00.0)"
    );
    for (number, expected) in [(3, "r1n3"), (4, "r1n4")] {
        let one = table(Selector { device: Some(device(number)), controller: None });
        assert_eq!(one.find(Some(1), id(1)).unwrap().name, expected);
        assert_eq!(
            (one.uplinks().len(), one.pf_representors().len(), one.all_vf_representors().len()),
            (1, 1, 4)
        );
    }
    // Whatever was chosen, the others are closed.
    for selector in [
        Selector::default(),
        Selector { device: Some(device(3)), controller: None },
        Selector { device: Some(device(4)), controller: Some(2) },
    ] {
        assert_eq!(table(selector).to_be_closed().len(), 10);
    }
    // A pod may have those of the chosen one, and where none is chosen, none: their numbers are those of both.
    let attachable = |selector: Selector| {
        let table = table(selector);
        let had = |it: Representor| table.attachable(&it).map(|vf| (it.name, vf));
        table.to_be_closed().into_iter().filter_map(had).collect::<Vec<_>>()
    };
    assert_eq!(attachable(Selector::default()), []);
    assert_eq!(attachable(Selector { device: Some(device(4)), controller: Some(2) }), []);
    let of_four = attachable(Selector { device: Some(device(4)), controller: None });
    assert_eq!(of_four, [0, 1, 2, 3].map(|vf| (format!("r{vf}n4"), id(vf))));
    // Port names belong to the switch that a device of the selected NIC is on.
    let devlink_knows: Vec<Port> =
        ports.iter().filter(|p| matches!(p.flavour, Flavour::Physical { .. })).cloned().collect();
    let selector = Selector { device: Some(device(4)), controller: None };
    let one = RepresentorTable::new(&devlink_knows, &links, selector);
    let found = one.find(Some(1), id(1)).unwrap();
    assert_eq!((found.name.as_str(), found.found_by), ("r1n4", FoundBy::PhysPortName));
}

/// The same NIC's second PF: an eSwitch and a devlink device of its own, and the same `phys_switch_id`.
fn second_pf(base: u32, switch: &str) -> (Vec<Port>, Vec<Link>) {
    let (mut ports, mut links) = nic(3, base, switch);
    for port in &mut ports {
        port.handle.device.device = "0000:03:00.1".to_owned();
        match &mut port.flavour {
            Flavour::Physical { number } => *number = Some(1),
            Flavour::PciPf { pf, .. } | Flavour::PciVf { pf, .. } => *pf = 1,
            _ => {}
        }
        port.netdev.as_mut().unwrap().name.push_str("f1");
    }
    for link in &mut links {
        link.name.push_str("f1");
        let name = link.phys_port_name.take().unwrap();
        link.phys_port_name = Some(if name == "p0" { "p1".to_owned() } else { name.replace("pf0", "pf1") });
    }
    (ports, links)
}

#[test]
fn one_nic_has_one_switch_id_and_an_eswitch_for_each_pf() {
    let (mut ports, mut links) = nic(3, 10, "s");
    let (more_ports, more_links) = second_pf(20, "s");
    let second = more_ports[0].handle.device.clone();
    ports.extend(more_ports);
    links.extend(more_links);
    let on = |pf, vf| VfId { pf, vf };
    let both = RepresentorTable::new(&ports, &links, Selector::default());
    assert_eq!(both.find(None, on(0, 1)).unwrap().name, "r1n3");
    assert_eq!(both.find(None, on(1, 1)).unwrap().name, "r1n3f1");
    // devlink knows all ports, or the cables only: the switch's id chooses nothing.
    let cables: Vec<Port> =
        ports.iter().filter(|p| matches!(p.flavour, Flavour::Physical { .. })).cloned().collect();
    for known in [&ports, &cables] {
        for (chosen, own, other, name) in
            [(device(3), on(0, 1), on(1, 1), "r1n3"), (second.clone(), on(1, 1), on(0, 1), "r1n3f1")]
        {
            let selector = Selector { device: Some(chosen), controller: None };
            let table = RepresentorTable::new(known, &links, selector);
            assert_eq!(table.find(Some(1), own).unwrap().name, name);
            assert!(matches!(table.find(Some(1), other), Err(FindError::NotFound { .. })));
            assert_eq!(table.to_be_closed().len(), 10, "all of both");
            assert_eq!(
                table.to_be_closed().iter().filter_map(|it| table.attachable(it)).count(),
                4,
                "one's VFs"
            );
        }
    }
}

#[test]
fn what_is_a_servers_is_closed_and_what_is_the_nics_own_is_not() {
    let sf = |controller, sf| Flavour::PciSf { controller, pf: 0, sf, external: controller != 0 };
    let own_pf = Flavour::PciPf { controller: 0, pf: 1, external: false };
    let flavours = [
        ("p0", Flavour::Physical { number: Some(0) }),
        ("pf0hpf", Flavour::PciPf { controller: 1, pf: 0, external: true }),
        ("pf1own", own_pf),
        ("vf", vf(1, 0)),
        ("other", vf(2, 0)),
        ("ownvf", vf(0, 7)),
        ("sf", sf(1, 4)),
        ("ownsf", sf(0, 4)),
    ];
    let ports: Vec<Port> =
        (1..).zip(flavours).map(|(n, (name, flavour))| port(3, n, flavour, Some((n, name)))).collect();
    let links: Vec<Link> = (1..).zip(flavours).map(|(n, (name, _))| link(n, name, Some("s"), None)).collect();
    let closed = |controller| {
        let table = RepresentorTable::new(&ports, &links, Selector { device: None, controller });
        let mut names: Vec<String> = table.to_be_closed().into_iter().map(|it| it.name).collect();
        names.sort();
        names
    };
    assert_eq!(closed(Some(1)), ["other", "pf0hpf", "sf", "vf"]);
    assert_eq!(closed(Some(2)), ["other", "pf0hpf", "sf", "vf"]);
    assert_eq!(closed(None), ["other", "ownvf", "pf0hpf", "sf", "vf"], "a pod might have it");
    assert_eq!(closed(Some(0)), ["other", "ownvf", "pf0hpf", "sf", "vf"]);

    // Where devlink says nothing: by the name that the kernel forms.
    let names = ["p0", "pf0", "c1pf0vf3", "pf0vf4", "pf0sf5", "c1pf0sf6"];
    let links: Vec<Link> = (1..).zip(names).map(|(n, name)| link(n, name, Some("s"), Some(name))).collect();
    let closed = RepresentorTable::new(&[], &links, Selector::default()).to_be_closed();
    assert_eq!(self::names(&closed), ["pf0", "pf0vf4", "c1pf0vf3", "c1pf0sf6"]);
}

#[test]
fn a_servers_function_whose_device_is_elsewhere_is_named() {
    let mut ports = vec![port(3, 1, vf(1, 0), None), port(3, 2, vf(1, 1), None), port(3, 3, vf(0, 2), None)];
    ports[1].kind = PortType::NotSet;
    let table = RepresentorTable::new(&ports, &[], Selector::default());
    let named: Vec<String> =
        table.out_of_reach().iter().map(|(it, port, _)| format!("{it} {port}")).collect();
    assert_eq!(named, ["c1pf0vf0 pci/0000:03:00.0/1"], "one that is not there yet is not open");
}

#[test]
fn two_controllers_are_told_apart_or_refused() {
    let ports = [port(3, 1, vf(0, 0), Some((1, "a"))), port(3, 2, vf(1, 0), Some((2, "b")))];
    let links = [link(1, "a", Some("s"), Some("pf0vf0")), link(2, "b", Some("s"), Some("c1pf0vf0"))];
    let table = RepresentorTable::new(&ports, &links, Selector::default());
    assert_eq!(table.find(Some(0), id(0)).unwrap().name, "a");
    assert_eq!(table.find(Some(1), id(0)).unwrap().name, "b");
    let error = table.find(None, id(0)).unwrap_err();
    assert!(
        matches!(&error, FindError::Ambiguous { candidates, .. } if candidates == "pf0vf0, c1pf0vf0 (pci/0000:03:00.0)"),
        "{error}"
    );
    let configured = RepresentorTable::new(&ports, &links, Selector { device: None, controller: Some(1) });
    assert_eq!(configured.find(None, id(0)).unwrap().name, "b");
    assert_eq!(names(&configured.all_vf_representors()), ["b"]);
}

#[test]
fn a_nic_without_an_eswitch_has_no_uplink() {
    let ports = [port(3, 0, Flavour::Physical { number: Some(0) }, Some((1, "eth0")))];
    let links = [link(1, "eth0", None, Some("p0"))];
    assert!(RepresentorTable::new(&ports, &links, Selector::default()).uplinks().is_empty());
}

#[test]
fn port_names() {
    for (name, expected) in [
        ("p0", Some("p0")),
        ("p12", Some("p12")),
        ("pf0", Some("pf0")),
        ("c1pf1", Some("c1pf1")),
        ("pf0vf3", Some("pf0vf3")),
        ("c1pf0vf127", Some("c1pf0vf127")),
        ("pf0sf88", Some("pf0sf88")),
        ("p0s1", None),
        ("", None),
        ("c1p0", None),
        ("c1", None),
        ("pf", None),
        ("pf0vf", None),
        ("pf0vf3x", None),
        ("pf0vf03", None),
        ("pf0vf70000", None),
        ("pf0vf-1", None),
        ("eth0", None),
    ] {
        let parsed = parse_port_name(name).map(|function| function.to_string());
        assert_eq!(parsed.as_deref(), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn any_name_is_read_or_refused(name in "(c?[0-9]{0,6})?(pf?)?[0-9]{0,6}([vs]f)?[0-9]{0,6}\\PC{0,3}") {
        if let Some(function) = parse_port_name(&name) {
            // Controller 0 is not written, and so the text is the name.
            prop_assert_eq!(function.to_string(), name.strip_prefix("c0").unwrap_or(&name));
        }
    }

    /// Whatever the devices are called and in whatever order they come, a VF's representor is the one that devlink says.
    #[test]
    fn names_and_order_do_not_matter(order in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle(), names in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle(), wanted in 0u16..4) {
        let (ports, mut links) = nic(3, 10, "s");
        let usual: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
        for (link, name) in links.iter_mut().zip(names) {
            link.name.clone_from(&usual[name]);
        }
        let ports: Vec<_> = order.iter().map(|at| ports[*at].clone()).collect();
        let links: Vec<_> = order.iter().rev().map(|at| links[*at].clone()).collect();
        let table = RepresentorTable::new(&ports, &links, Selector::default());
        prop_assert_eq!(table.find(Some(1), id(wanted)).unwrap().ifindex, IfIndex(12 + u32::from(wanted)));
    }
}
