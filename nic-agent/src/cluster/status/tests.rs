use drawbridge_api::{ConditionStatus, NicNodeStatus, conditions as kinds};

use super::*;
use crate::enforcement::Disbelieved;
use crate::kernel::view::{InSoftware, Offload};
use crate::preflight::file::Unusable;
use crate::published::{ManagementPort, PodStatus};

fn config() -> Config {
    "[node]\nname = 'server1'\n[server]\nlisten = ['192.0.2.21:8443']\n[chassis]\nsystem-id = 'nic1'\novn-remote = 'tcp:192.0.2.10:6642'\novn-encap-ip = '192.0.2.1'\n"
        .parse()
        .unwrap()
}

fn pod(name: &str, offload: Offload) -> PodStatus {
    PodStatus {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
        vf: "pf0vf1".to_owned(),
        zone: 1,
        closed: None,
        egress_rule_set: 1,
        ingress_rule_set: 0,
        settled: true,
        unsettled: None,
        held: None,
        offload,
        connections: None,
    }
}

fn published() -> Published {
    let mut published = Published { passes: 1, ..Published::default() };
    published.health.vfs = 16;
    published.health.ovs_version = Some("3.5.0".to_owned());
    published
}

fn made(published: &Published, report: &Report, before: &NicNodeStatus, now: &str) -> NicNodeStatus {
    made_of(published, &config(), report, before, now)
}

fn made_of(
    published: &Published,
    config: &Config,
    report: &Report,
    before: &NicNodeStatus,
    now: &str,
) -> NicNodeStatus {
    let machine = Machine { serial: Some("MT1".to_owned()), ..Machine::default() };
    let daemons = Daemons { ovs: Some("3.5.1".to_owned()), ovn: Some("25.03.0".to_owned()) };
    let facts = Facts {
        published,
        config,
        report,
        machine: &machine,
        daemons: &daemons,
        preflight: &Err(Unusable::NotRun),
        shim_heard: false,
        generation: Some(7),
    };
    status(&facts, before, now)
}

fn said(status: &NicNodeStatus, kind: &str) -> (ConditionStatus, String, String) {
    let found = status.conditions.iter().find(|it| it.kind == kind).unwrap();
    assert_eq!(found.observed_generation, Some(7));
    (found.status, found.reason.clone(), found.message.clone())
}

const T: ConditionStatus = ConditionStatus::True;
const F: ConditionStatus = ConditionStatus::False;

#[test]
fn figures_and_facts_arrive() {
    let mut published = published();
    let software = vec![InSoftware { filter: "f".to_owned(), why: "too long".to_owned() }];
    published.policy.pods = vec![
        pod("a", Offload { hardware: 3, software: Vec::new() }),
        pod("b", Offload { hardware: 1, software }),
    ];
    published
        .policy
        .from_outside
        .insert("genev_sys_6081".into(), Offload { hardware: 5, software: Vec::new() });
    let status = made(&published, &Report::default(), &NicNodeStatus::default(), "t1");
    assert_eq!((status.offload.hardware_rules, status.offload.software_rules), (9, 1));
    assert_eq!((status.vfs.total, status.vfs.used, status.vfs.summary.as_str()), (16, 0, "0/16"));
    let versions = |status: &NicNodeStatus| (status.versions.ovs.clone(), status.versions.ovn.clone());
    assert_eq!(versions(&status), (Some("3.5.0".to_owned()), Some("25.03.0".to_owned())));
    // Nobody has written into the database what runs.
    published.health.ovs_version = None;
    let status = made(&published, &Report::default(), &NicNodeStatus::default(), "t1");
    assert_eq!(versions(&status).0.as_deref(), Some("3.5.1"));
    assert_eq!((status.serial.as_deref(), status.observed_generation), (Some("MT1"), Some(7)));
    assert_eq!(status.addresses[0].address, "192.0.2.1");
    let (is, reason, message) = said(&status, kinds::OFFLOADED);
    assert_eq!((is, reason.as_str()), (F, "InSoftware"));
    assert!(message.contains("too long"), "{message}");
}

#[test]
fn each_condition_says_why() {
    let none = NicNodeStatus::default();
    let reason = |published: &Published, kind: &str| {
        let (is, reason, _) = said(&made(published, &Report::default(), &none, "t"), kind);
        (is, reason)
    };
    let well = published();
    assert_eq!(reason(&well, kinds::READY), (T, "Ready".to_owned()));
    assert_eq!(
        reason(&well, kinds::HOST_SHIM_CONNECTED),
        (ConditionStatus::Unknown, "NotHeardYet".to_owned())
    );
    assert_eq!(reason(&well, kinds::OFFLOADED), (ConditionStatus::Unknown, "NoRules".to_owned()));
    assert_eq!(reason(&well, kinds::POLICY_ENFORCED), (T, "Enforced".to_owned()));
    assert_eq!(reason(&well, kinds::CONFIGURED), (ConditionStatus::Unknown, "Pending".to_owned()));
    let mut bad = published();
    bad.health.ovn = Some("gone".to_owned());
    assert_eq!(reason(&bad, kinds::READY), (F, "OVNNotConnected".to_owned()));
    assert_eq!(reason(&bad, kinds::OVN_CONNECTED), (F, "NotConnected".to_owned()));
    assert_eq!(reason(&bad, kinds::OVS_READY), (T, "Ready".to_owned()));
    bad.health.ovs = Some("down".to_owned());
    assert_eq!(reason(&bad, kinds::READY), (F, "OVSNotReady".to_owned()));
    assert_eq!(reason(&bad, kinds::OVS_READY), (F, "NotReady".to_owned()));
    bad.health.datapath_refused = true;
    assert_eq!(reason(&bad, kinds::READY), (F, "OVSNotReady".to_owned()));
    assert_eq!(reason(&bad, kinds::OVS_READY), (F, "DatapathNotSupported".to_owned()));
    bad.health.representors = Some("?".to_owned());
    assert_eq!(reason(&bad, kinds::READY), (F, "RepresentorsUnreadable".to_owned()));
    let mut policy = published();
    policy.policy.pods = vec![PodStatus { settled: false, ..pod("a", Offload::default()) }];
    assert_eq!(reason(&policy, kinds::POLICY_ENFORCED), (F, "Settling".to_owned()));
    policy
        .policy
        .pods
        .push(PodStatus { closed: Some("no list yet".to_owned()), ..pod("b", Offload::default()) });
    let closed = said(&made(&policy, &Report::default(), &none, "t"), kinds::POLICY_ENFORCED);
    assert_eq!(closed.1, "PolicyUnknown");
    assert!(closed.2.contains("ns/b: no list yet"), "{}", closed.2);
}

#[test]
fn what_became_of_the_spec_is_said() {
    let of = |verdict| {
        let report = Report { looked_at: Some(7), generation: Some(6), verdict };
        said(&made(&published(), &report, &NicNodeStatus::default(), "t"), kinds::CONFIGURED)
    };
    assert_eq!(of(Verdict::InForce).0, T);
    let (is, reason, message) =
        of(Verdict::Refused { problems: vec!["spec.mtu = 1: write more".to_owned()] });
    assert_eq!((is, reason.as_str()), (F, "Refused"));
    assert!(message.contains("generation 6") && message.contains("spec.mtu"), "{message}");
    let (is, reason, message) = of(Verdict::NeedsRestart { paths: vec!["spec.podZones".to_owned()] });
    assert_eq!((is, reason.as_str()), (F, "NeedsRestart"));
    assert!(message.contains("spec.podZones"), "{message}");
}

#[test]
fn traffic_alone_is_not_worth_a_write() {
    let quiet = published();
    let first = made(&quiet, &Report::default(), &NicNodeStatus::default(), "t1");
    let mut busy = published();
    busy.policy.from_outside.insert("p0".into(), Offload { hardware: 5, software: Vec::new() });
    let second = made(&busy, &Report::default(), &first, "t2");
    assert_ne!(second, first);
    assert_eq!(without_figures(&second, &first), first, "the heartbeat takes it along");
    busy.health.ovn = Some("gone".to_owned());
    let third = made(&busy, &Report::default(), &first, "t3");
    assert_ne!(without_figures(&third, &first), first);
    let time = |status: &NicNodeStatus, kind: &str| {
        status.conditions.iter().find(|it| it.kind == kind).unwrap().last_transition_time.clone()
    };
    assert_eq!((time(&third, kinds::READY).as_str(), time(&third, kinds::OVS_READY).as_str()), ("t3", "t1"));
}

#[test]
fn the_management_port_is_said_where_one_is_named() {
    let mut published = published();
    let of = |published: &Published| made(published, &Report::default(), &NicNodeStatus::default(), "t");
    let without = of(&published);
    assert!(without.conditions.iter().all(|it| it.kind != kinds::MANAGEMENT_PORT));
    let vf = offload::ids::VfId { pf: 0, vf: 3 };
    let mut port =
        ManagementPort { vf, mac: None, ips: Vec::new(), state: Err("held by pod a/b".to_owned()) };
    published.management = Some(port.clone());
    let (is, reason, message) = said(&of(&published), kinds::MANAGEMENT_PORT);
    assert_eq!((is, reason.as_str(), message.as_str()), (F, "Waiting", "held by pod a/b"));
    assert_eq!(of(&published).management_port, None);
    (port.ips, port.state) = (vec!["10.244.1.2".parse().unwrap()], Ok(()));
    port.mac = Some("0a:00:00:00:00:07".parse().unwrap());
    published.management = Some(port.clone());
    let status = of(&published);
    let has = ManagedPort { mac: "0a:00:00:00:00:07".to_owned(), ips: vec!["10.244.1.2".to_owned()] };
    assert_eq!(status.management_port.as_ref(), Some(&has));
    assert_eq!(said(&status, kinds::MANAGEMENT_PORT).0, T);
    let last = status.addresses.last().unwrap();
    assert_eq!((last.kind, last.address.as_str()), (AddressType::Management, "10.244.1.2"));
    // What it had stays said while nobody knows better, as long as there is to be one: see `made`, which names none.
    published.management = Some(ManagementPort { mac: None, ips: Vec::new(), ..port });
    assert_eq!(made(&published, &Report::default(), &status, "t").management_port, None);
    let mut config = config();
    config.edge.management_port = Some(vf);
    let kept = made_of(&published, &config, &Report::default(), &status, "t").management_port;
    assert_eq!(kept, Some(has));
}

#[test]
fn what_the_server_is_not_believed_is_said_with_the_heartbeat() {
    let report = Report::default();
    let mut published = published();
    let first = made(&published, &report, &NicNodeStatus::default(), "t1");
    assert_eq!(said(&first, kinds::NODE_BELIEVED).1, "ClusterNotRead");
    published.policy.source = Some("pods=5".to_owned());
    let well = made(&published, &report, &first, "t2");
    assert_eq!(
        (said(&well, kinds::NODE_BELIEVED).0, said(&well, kinds::NODE_BELIEVED).1.as_str()),
        (T, "Believed")
    );
    published.policy.disbelieved = [("MirrorPods", "bank/db and 7 more"), ("AddressesUnreadable", "bank/x")]
        .map(|(reason, what)| Disbelieved { reason, what: what.to_owned() })
        .into();
    let lies = made(&published, &report, &well, "t3");
    let expected = (F, "MirrorPods".to_owned(), "bank/db and 7 more; bank/x".to_owned());
    assert_eq!(said(&lies, kinds::NODE_BELIEVED), expected);
    // However often a server changes what it says, nobody is woken for it.
    assert_eq!(without_figures(&lies, &well), well);
    assert_eq!(without_figures(&well, &lies), lies);
}
