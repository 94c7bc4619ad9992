use offload::ids::{CtZone, VfId};
use proptest::prelude::*;

use super::super::spec::pod_ports;
use super::super::view::PortView;
use super::*;
use crate::attachment::{Attachment, Binding, OverlayPort, Port};
use crate::claim::{Claim, PodRef, SandboxKey};

/// The database as ovsdb-server would change it, small enough to be checked by eye.
fn apply(view: &mut OvsView, step: &OvsStep, edge: &str) {
    fn change(map: &mut StringMap, by: &MapChange) {
        map.retain(|k, _| !by.remove.contains(k));
        map.extend(by.set.clone());
    }
    let row = |port: &PortSpec| PortView {
        interface: Some(InterfaceView {
            kind: port.kind.to_owned(),
            options: port.options.clone(),
            external_ids: port.external_ids.clone(),
            ofport_request: port.ofport.map(|p| i64::from(p.get())),
            ofport: None,
            ifindex: None,
            error: None,
        }),
    };
    match step {
        OvsStep::SetRoot { external_ids, other_config } => {
            change(&mut view.external_ids, external_ids);
            change(&mut view.other_config, other_config);
        }
        OvsStep::AddBridge(spec) | OvsStep::MendBridge(spec) => {
            let bridge = view.bridges.entry(spec.name.clone()).or_default();
            bridge.fail_mode = Some(BridgeSpec::FAIL_MODE.to_owned());
            bridge.protocols = BridgeSpec::protocols();
            BridgeSpec::DATAPATH_TYPE.clone_into(&mut bridge.datapath_type);
            bridge.external_ids.extend(BridgeSpec::external_ids());
            bridge.other_config.extend(BridgeSpec::other_config());
            let local = bridge.ports.entry(spec.name.clone()).or_default().interface.get_or_insert_default();
            local.kind = "internal".to_owned();
            local.external_ids.extend(spec.local_external_ids());
        }
        OvsStep::AddPort { bridge, port } => {
            assert!(view.bridge_of(&port.name).is_none(), "port names are unique: {}", port.name);
            view.bridges.get_mut(bridge).expect("bridge").ports.insert(port.name.clone(), row(port));
        }
        OvsStep::RemovePort { bridge, port } => {
            assert!(!(bridge == edge && port == edge), "the local port stays");
            view.bridges.get_mut(bridge).expect("bridge").ports.remove(port).expect("port");
        }
        OvsStep::MendInterface { port, external_ids } => {
            let bridge = view.bridge_of(&port.name).expect("port").to_owned();
            let bridge = view.bridges.get_mut(&bridge).expect("bridge");
            let row = bridge.ports.get_mut(&port.name).and_then(|p| p.interface.as_mut()).expect("interface");
            change(&mut row.external_ids, external_ids);
            row.options.clone_from(&port.options);
            row.ofport_request = port.ofport.map(|p| i64::from(p.get()));
        }
    }
}

fn attachment(vf: u16, pod: u16) -> Attachment {
    Attachment::of_claim(
        &Claim {
            key: SandboxKey { sandbox: format!("s{pod}"), interface: "eth0".into() },
            pod: PodRef { namespace: "default".into(), name: format!("web-{pod}"), uid: format!("u{pod}") },
            network: "drawbridge".into(),
            pci_address: "0000:03:00.2".into(),
            vf: VfId { pf: 0, vf },
        },
        Port::Overlay(OverlayPort {
            zone: CtZone::new(61000 + vf).unwrap(),
            zone_dirty: true,
            logical_port: format!("default_web-{pod}"),
            binding: pod.is_multiple_of(2).then(|| Binding {
                mac: "0a:00:00:00:00:01".parse().unwrap(),
                ips: Vec::new(),
                dhcp: true,
                dhcp_servers: Vec::new(),
            }),
        }),
    )
}

fn spec(pods: &[(u16, u16)]) -> OvsSpec {
    OvsSpec {
        external_ids: [("system-id", Some("nic1")), ("ovn-transport-zones", None)]
            .map(|(k, v)| (k.to_owned(), v.map(str::to_owned)))
            .into(),
        other_config: [("hw-offload".to_owned(), Some("true".to_owned()))].into(),
        edge: BridgeSpec { name: "br-edge".into() },
        integration: "br-int".into(),
        ports: pods
            .iter()
            .flat_map(|(vf, pod)| pod_ports(&attachment(*vf, *pod), &format!("rep{vf}")))
            .collect(),
    }
}

fn foreign() -> OvsView {
    let port = |kind: &str| PortView {
        interface: Some(InterfaceView { kind: kind.into(), ..InterfaceView::default() }),
    };
    let bridge = |ports: &[(&str, &str)]| BridgeView {
        ports: ports.iter().map(|(name, kind)| ((*name).to_owned(), port(kind))).collect(),
        ..BridgeView::default()
    };
    OvsView {
        external_ids: [("rundir".to_owned(), "/run".to_owned())].into(),
        bridges: [
            ("br-int".to_owned(), bridge(&[("br-int", "internal"), ("ovn-nic2-0", "geneve")])),
            ("br-ex".to_owned(), bridge(&[("br-ex", "internal"), ("p1", "")])),
        ]
        .into(),
        ..OvsView::default()
    }
}

fn converge(spec: &OvsSpec, view: &mut OvsView) -> OvsPlan {
    let first = plan(spec, view);
    for step in &first.steps {
        apply(view, step, &spec.edge.name);
    }
    assert_eq!(plan(spec, view).steps, [], "a second plan is empty");
    first
}

#[test]
fn from_nothing_to_two_pods_and_back() {
    let mut view = foreign();
    let before = view.bridges["br-ex"].clone();
    assert_eq!(converge(&spec(&[(0, 0), (5, 1)]), &mut view).conflicts, []);
    let bound = view.interface("i-pf0vf5").unwrap();
    assert_eq!(bound.external_ids["iface-id"], "default_web-1");
    assert_eq!(bound.options["peer"], "e-pf0vf5");
    assert_eq!(view.interface("rep5").unwrap().ofport_request, Some(1034));
    assert_eq!(view.external_ids["rundir"], "/run");

    converge(&spec(&[]), &mut view);
    assert_eq!(view.bridges["br-edge"].ports.keys().collect::<Vec<_>>(), ["br-edge"]);
    assert_eq!(view.bridges["br-int"].ports.keys().collect::<Vec<_>>(), ["br-int", "ovn-nic2-0"]);
    assert_eq!(view.bridges["br-ex"], before);
}

#[test]
fn another_pod_on_the_same_vf_gets_new_rows() {
    let mut view = foreign();
    converge(&spec(&[(3, 0)]), &mut view);
    let row = view.bridges.get_mut("br-int").unwrap().ports.get_mut("i-pf0vf3").unwrap();
    row.interface.as_mut().unwrap().external_ids.insert("ovn-installed".into(), "true".into());
    converge(&spec(&[(3, 2)]), &mut view);
    assert!(!view.interface("i-pf0vf3").unwrap().external_ids.contains_key("ovn-installed"));
    // ... and what ovn-controller adds to a row of the same pod stays.
    let row = view.bridges.get_mut("br-int").unwrap().ports.get_mut("i-pf0vf3").unwrap();
    let ids = &mut row.interface.as_mut().unwrap().external_ids;
    ids.insert("ovn-installed".into(), "true".into());
    ids.insert("iface-id".into(), "someone-elses".into());
    let steps = converge(&spec(&[(3, 2)]), &mut view).steps;
    assert!(matches!(steps.as_slice(), [OvsStep::MendInterface { .. }]), "{steps:?}");
    assert_eq!(view.interface("i-pf0vf3").unwrap().external_ids["ovn-installed"], "true");
}

#[test]
fn what_is_not_ours_is_reported_and_left_alone() {
    let mut view = foreign();
    view.bridges
        .get_mut("br-ex")
        .unwrap()
        .ports
        .insert("rep0".into(), PortView { interface: Some(InterfaceView::default()) });
    let conflicts = converge(&spec(&[(0, 0)]), &mut view).conflicts;
    assert_eq!(conflicts, [Conflict::ForeignPort { port: "rep0".into(), bridge: "br-ex".into() }]);

    let mut view = foreign();
    view.bridges.remove("br-int");
    let conflicts = converge(&spec(&[(0, 0), (1, 1)]), &mut view).conflicts;
    assert_eq!(conflicts, [Conflict::NoIntegrationBridge("br-int".into())]);

    let mut view = foreign();
    view.bridges.insert("br-edge".into(), BridgeView::default());
    let plan = plan(&spec(&[(0, 0)]), &view);
    assert_eq!(plan.conflicts, [Conflict::ForeignBridge("br-edge".into())]);
    assert!(!plan.steps.iter().any(|s| matches!(s, OvsStep::AddPort { .. } | OvsStep::AddBridge(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was wanted before, and whatever someone did to our rows since: one plan mends it, and foreign rows are
    /// as they were.
    #[test]
    fn converges_in_one_plan(
        before in prop::collection::btree_map(0u16..6, 0u16..8, 0..6),
        after in prop::collection::btree_map(0u16..6, 0u16..8, 0..6),
        vandal in prop::collection::vec((0u8..8, 0u16..6), 0..5),
    ) {
        let pods = |m: &BTreeMap<u16, u16>| m.iter().map(|(a, b)| (*a, *b)).collect::<Vec<_>>();
        let mut view = foreign();
        converge(&spec(&pods(&before)), &mut view);
        for (what, vf) in vandal {
            let edge = view.bridges.get_mut("br-edge").unwrap();
            match what {
                0 => edge.fail_mode = None,
                1 => { edge.ports.insert(format!("stray{vf}"), PortView::default()); }
                2 => { edge.ports.remove(&format!("e-pf0vf{vf}")); }
                3 => { edge.ports.insert(format!("rep{vf}"), PortView::default()); }
                4 => { view.external_ids.insert("system-id".into(), "evil".into()); }
                5 => { view.external_ids.insert("ovn-transport-zones".into(), "evil".into()); }
                6 => { edge.protocols.clear(); }
                _ => if let Some(p) = view.bridges.get_mut("br-int").unwrap().ports.get_mut(&format!("i-pf0vf{vf}")) {
                    p.interface.get_or_insert_default().options.clear();
                },
            }
        }
        let ex = view.bridges["br-ex"].clone();
        let conflicts = converge(&spec(&pods(&after)), &mut view).conflicts;
        prop_assert_eq!(conflicts, vec![]);
        prop_assert_eq!(&view.bridges["br-ex"], &ex);
        prop_assert_eq!(view.bridges["br-edge"].ports.len(), 1 + 2 * after.len());
        prop_assert_eq!(view.bridges["br-int"].ports.len(), 2 + after.len());
    }
}
