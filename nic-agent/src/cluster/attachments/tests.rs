use std::sync::Arc;

use drawbridge_api::ConditionStatus;
use offload::ids::{CtZone, VfId};

use super::*;
use crate::attachment::Binding;
use crate::claim::{Attached, PodRef, SandboxKey};
use crate::kernel::view::{InSoftware, Offload};
use crate::published::Connections as Shares;
use crate::published::Wiring;

fn claim(pod: &str, interface: &str, vf: u16) -> Claim {
    Claim {
        key: SandboxKey { sandbox: format!("sandbox-{pod}"), interface: interface.to_owned() },
        pod: PodRef { namespace: "ns".to_owned(), name: pod.to_owned(), uid: format!("uid-{pod}") },
        network: String::new(),
        pci_address: String::new(),
        vf: VfId { pf: 0, vf },
    }
}

fn entry(claim: Claim, ready: bool) -> Entry {
    let mac = "0a:00:00:00:00:01".parse().unwrap();
    let attached = Attached {
        mac,
        mtu: 1400,
        addresses: Vec::new(),
        routes: Vec::new(),
        logical_port: "ns_a".to_owned(),
    };
    let state = if ready {
        State::Ready(Arc::new(attached))
    } else {
        State::Waiting("the port has no address".to_owned())
    };
    let wiring = Wiring {
        zone: CtZone::new(61000).unwrap(),
        logical_port: "ns_a".to_owned(),
        binding: ready.then(|| Binding {
            mac,
            ips: vec!["10.0.0.1".parse().unwrap()],
            dhcp: false,
            dhcp_servers: Vec::new(),
        }),
        representor: Some("c1pf0vf1".to_owned()),
    };
    Entry { claim, token: 1, wiring, state, remarks: Vec::new(), problem: None }
}

fn published(entries: Vec<Entry>, offload: &Offload) -> Published {
    let mut published = Published { passes: 1, ..Published::default() };
    for entry in entries {
        published.policy.pods.push(PodStatus {
            namespace: entry.claim.pod.namespace.clone(),
            name: entry.claim.pod.name.clone(),
            uid: entry.claim.pod.uid.clone(),
            vf: entry.claim.vf.to_string(),
            zone: 61000,
            closed: None,
            egress_rule_set: 4,
            ingress_rule_set: 0,
            settled: true,
            unsettled: None,
            held: None,
            offload: offload.clone(),
            connections: None,
        });
        published.attachments.insert(entry.claim.key.clone(), entry);
    }
    published
}

fn key(name: &str) -> Key {
    ("ns".to_owned(), name.to_owned())
}

/// The API after these steps.
fn applied(mut objects: BTreeMap<Key, PodAttachment>, steps: &[Step]) -> BTreeMap<Key, PodAttachment> {
    for step in steps {
        match step {
            Step::Create(object) => {
                let mut object = object.clone();
                object.metadata.uid = Some("of-the-object".to_owned());
                object.metadata.generation = Some(1);
                objects.insert(key(object.metadata.name.as_deref().unwrap()), *object);
            }
            Step::Status { key, status, .. } => {
                objects.get_mut(key).unwrap().status = Some((**status).clone());
            }
            Step::Delete { key, .. } => {
                objects.remove(key).unwrap();
            }
        }
    }
    objects
}

fn planned(published: &Published, observed: &BTreeMap<Key, PodAttachment>, now: &str) -> Vec<Step> {
    plan(&wanted(published, "server1", true, &Taken::new([1; 16])), observed, "server1", now, |_| None)
}

#[test]
fn an_attachment_comes_lives_and_goes() {
    let waiting = published(vec![entry(claim("a", "eth0", 1), false)], &Offload::default());
    let steps = planned(&waiting, &BTreeMap::new(), "t1");
    assert!(
        matches!(&steps[..], [Step::Create(it)] if it.metadata.name.as_deref() == Some("a-eth0")),
        "{steps:?}"
    );
    let api = applied(BTreeMap::new(), &steps);
    let owner = &api[&key("a-eth0")].metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Pod", "uid-a"));

    let steps = planned(&waiting, &api, "t1");
    let api = applied(api, &steps);
    let condition = |api: &BTreeMap<Key, PodAttachment>, kind: &str| {
        let status = api[&key("a-eth0")].status.clone().unwrap();
        status.conditions.into_iter().find(|it| it.kind == kind).unwrap()
    };
    let bound = condition(&api, kinds::BOUND);
    assert_eq!((bound.status, bound.reason.as_str()), (ConditionStatus::False, "Waiting"));
    assert_eq!((bound.message.as_str(), bound.observed_generation), ("the port has no address", Some(1)));
    assert_eq!(planned(&waiting, &api, "t2"), [], "nothing is written twice");

    let offload = Offload {
        hardware: 2,
        software: vec![InSoftware { filter: "sctp".to_owned(), why: "no SCTP".to_owned() }],
    };
    let ready = published(vec![entry(claim("a", "eth0", 1), true)], &offload);
    let steps = planned(&ready, &api, "t3");
    let api = applied(api, &steps);
    let status = api[&key("a-eth0")].status.clone().unwrap();
    assert_eq!((status.mac.as_deref(), status.ips.len()), (Some("0a:00:00:00:00:01"), 1));
    assert_eq!((status.conntrack_zone, status.rule_sets.egress), (Some(61000), 4));
    assert_eq!(status.offload.in_software[0].reason, "no SCTP");
    assert_eq!(condition(&api, kinds::BOUND).last_transition_time, "t3");
    assert_eq!(condition(&api, kinds::POLICY_ENFORCED).last_transition_time, "t1");
    assert_eq!(condition(&api, kinds::OFFLOADED).reason, "InSoftware");

    let gone = published(Vec::new(), &Offload::default());
    let steps = planned(&gone, &api, "t4");
    assert_eq!(steps, [Step::Delete { key: key("a-eth0"), uid: Some("of-the-object".to_owned()) }]);
}

#[test]
fn another_sandbox_takes_the_place_and_other_nodes_are_left_alone() {
    let old = published(vec![entry(claim("a", "eth0", 1), true)], &Offload::default());
    let api = applied(BTreeMap::new(), &planned(&old, &BTreeMap::new(), "t"));
    let new = published(vec![entry(claim("a", "eth0", 5), true)], &Offload::default());
    let steps = planned(&new, &api, "t");
    assert!(matches!(&steps[..], [Step::Delete { .. }]), "{steps:?}");
    assert!(matches!(&planned(&new, &applied(api, &steps), "t")[..], [Step::Create(_)]));

    let foreign = wanted(&old, "server2", true, &Taken::new([2; 16]));
    let none = published(Vec::new(), &Offload::default());
    assert_eq!(planned(&none, &foreign, "t"), []);
    assert_eq!(planned(&old, &foreign, "t"), [], "its name is taken: the other node's agent deletes it");
    let mut going = applied(BTreeMap::new(), &planned(&old, &BTreeMap::new(), "t"));
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    going.get_mut(&key("a-eth0")).unwrap().metadata.deletion_timestamp = Some(time);
    assert_eq!(planned(&none, &going, "t"), []);
}

fn offload(hardware: usize, reasons: &[&str]) -> Offload {
    let rule = |why: &&str| InSoftware { filter: format!("{hardware}"), why: (*why).to_owned() };
    Offload { hardware, software: reasons.iter().map(rule).collect() }
}

/// Is an object of which `before` was written that long ago written for what there is now?
fn is_written(before: &Offload, now: &Offload, age: Duration) -> bool {
    let with = |offload: &Offload| published(vec![entry(claim("a", "eth0", 1), true)], offload);
    let api = applied(BTreeMap::new(), &planned(&with(before), &BTreeMap::new(), "t"));
    let api = applied(api.clone(), &planned(&with(before), &api, "t"));
    let wanted = wanted(&with(now), "server1", true, &Taken::new([1; 16]));
    let steps = plan(&wanted, &api, "server1", "t", |_| Some(age));
    assert!(steps.iter().all(|it| matches!(it, Step::Status { only_figures: true, .. })), "{steps:?}");
    !steps.is_empty()
}

#[test]
fn figures_wait() {
    let (none, some) = (offload(0, &[]), offload(4, &[]));
    let (soon, later) = (FIRST_FIGURES, FIGURES * 2);
    assert!(is_written(&none, &some, soon) && !is_written(&none, &some, soon / 2), "the first ones");
    for (now, is_news) in [
        (offload(7, &[]), false),
        (offload(2, &[]), false),
        (offload(9, &[]), true),
        (offload(1, &[]), true),
        (none.clone(), false),
        (offload(4, &["no SCTP"]), true),
    ] {
        assert_eq!(is_written(&some, &now, later), is_news, "{now:?}");
        assert!(!is_written(&some, &now, FIGURES.saturating_sub(Duration::from_secs(1))), "{now:?}");
    }
    let refused = offload(4, &["no SCTP"]);
    assert!(is_written(&refused, &offload(4, &["table full"]), later));
    assert!(!is_written(&refused, &offload(5, &["no SCTP"]), later), "another rule for the same reason");
}

#[test]
fn connections_are_a_figure_and_their_limit_is_news() {
    let of = |used: u32, limited| {
        let mut published = published(vec![entry(claim("a", "eth0", 1), true)], &offload(4, &[]));
        let refused_by_rate = used.into();
        published.policy.pods[0].connections = Some(Shares { limit: 1000, used, limited, refused_by_rate });
        published
    };
    let wanted = |published: &Published| wanted(published, "server1", true, &Taken::new([1; 16]));
    let is_written = |before: &Published, now: &Published, age| {
        !plan(&wanted(now), &wanted(before), "server1", "t", |_| Some(age)).is_empty()
    };
    let later = FIGURES * 2;
    assert!(!is_written(&of(5, false), &of(500, false), FIGURES / 2));
    assert!(!is_written(&of(5, false), &of(255, false), later), "as good as none");
    assert!(
        is_written(&of(5, false), &of(900, false), later)
            && is_written(&of(900, false), &of(5, false), later)
    );
    assert!(!is_written(&of(600, false), &of(900, false), later));
    assert!(is_written(&of(5, false), &of(1000, true), Duration::ZERO));
    let status = wanted(&of(1000, true)).into_values().next().unwrap().status.unwrap();
    assert_eq!(status.connections, Some(Connections { limit: 1000, used: 1000, refused_by_rate: 1000 }));
    let limited = status.conditions.into_iter().find(|it| it.kind == kinds::CONNECTIONS_LIMITED).unwrap();
    assert_eq!((limited.status, limited.reason.as_str()), (ConditionStatus::True, "AtLimit"));
}

/// docs/performance.md has its figures: `cargo test -p nic-agent --lib what_traffic_costs -- --nocapture`.
#[test]
fn what_traffic_costs_the_api_is_bounded() {
    const PODS: u16 = 100;
    const TICK: Duration = Duration::from_secs(10);
    const TICKS: u32 = 360;
    let mut state = 1_u64;
    let mut roll = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    let mut api = BTreeMap::new();
    let mut last: BTreeMap<Key, u32> = BTreeMap::new();
    // As each change of figures would be written every 30 seconds.
    let (mut at_once, mut before): (usize, BTreeMap<Key, (u32, AttachmentOffload)>) = (0, BTreeMap::new());
    let (mut writes, mut bytes) = (0, 0);
    for tick in 0..TICKS {
        let mut all = Published { passes: 1, ..Published::default() };
        for number in 0..PODS {
            let busy = usize::try_from(roll(3) * roll(40)).unwrap();
            let reasons: &[&str] = if roll(50) == 0 { &["no SCTP"] } else { &[] };
            let entry = entry(claim(&format!("pod-{number}"), "eth0", number), true);
            let one = published(vec![entry], &offload(busy, reasons));
            all.attachments.extend(one.attachments);
            all.policy.pods.extend(one.policy.pods);
        }
        let age = |key: &Key| last.get(key).map(|at| TICK * (tick - at));
        let wanted = wanted(&all, "server1", true, &Taken::new([1; 16]));
        for (key, object) in &wanted {
            let offload = object.status.clone().unwrap().offload;
            if before.get(key).is_none_or(|(at, old)| *old != offload && TICK * (tick - at) >= FIRST_FIGURES)
            {
                at_once += 1;
                before.insert(key.clone(), (tick, offload));
            }
        }
        let steps = plan(&wanted, &api, "server1", "2026-01-01T00:00:00Z", age);
        api = applied(api, &steps);
        for step in &steps {
            if let Step::Status { key, .. } = step {
                last.insert(key.clone(), tick);
                writes += 1;
                bytes += serde_json::to_vec(&api[key]).unwrap().len();
            }
        }
    }
    let seconds = f64::from(TICKS) * TICK.as_secs_f64();
    let of_ten_thousand =
        |count: usize| f64::from(u32::try_from(count).unwrap()) / seconds * 10_000.0 / f64::from(PODS);
    println!(
        "of 10 000 pods: {:.0} objects/s, {:.0} kB/s to each NIC; every 30 s: {:.0} objects/s, {:.0} kB/s",
        of_ten_thousand(writes),
        of_ten_thousand(bytes) / 1e3,
        of_ten_thousand(at_once),
        of_ten_thousand(bytes) / 1e3 * of_ten_thousand(at_once) / of_ten_thousand(writes)
    );
    // Whatever the traffic: one that says that it is there, one soon after, and then one each five minutes at most.
    let most = usize::from(PODS) * usize::try_from(2 + TICKS / 30).unwrap();
    assert!(writes <= most && writes >= usize::from(PODS), "{writes} of {most}");
}

#[test]
fn names_are_names_and_nobody_elses() {
    assert_eq!(name(&claim("a-b", "c", 1)), "a-b-c");
    assert_ne!(name(&claim("a", "b-c", 1)), "a-b-c");
    let long = "x".repeat(253);
    for (pod, interface) in [("a", "b-c"), ("a", "Net_1"), (long.as_str(), "eth0"), ("a.b", "eth0.100")] {
        let name = name(&claim(pod, interface, 1));
        assert!(is_object_name(&name) && name.len() <= 253, "{name}");
        assert_ne!(name, self::name(&claim(pod, "other-1", 1)));
    }
}

#[test]
fn a_name_that_is_taken_keeps_nothing_from_being_said() {
    let all = published(
        vec![entry(claim("a", "eth0", 1), true), entry(claim("b", "eth0", 2), true)],
        &Offload::default(),
    );
    let mut taken = Taken::new([1; 16]);
    taken.add(key("a-eth0"));
    let wanted = |taken: &Taken| wanted(&all, "server1", true, taken);
    let now = wanted(&taken);
    assert!(!now.contains_key(&key("a-eth0")) && now.contains_key(&key("b-eth0")));
    let (other, object) = now.iter().find(|(_, it)| it.spec.pod.name == "a").unwrap();
    assert!(is_object_name(&other.1) && object.metadata.name.as_ref() == Some(&other.1));
    assert_eq!(wanted(&taken), now, "it stays with the agent");
    // With another salt it is another: who squats cannot foresee it.
    let mut elsewhere = Taken::new([2; 16]);
    elsewhere.add(key("a-eth0"));
    assert!(!wanted(&elsewhere).contains_key(other));
    // What an earlier agent had made under its own salt goes.
    let steps = plan(&now, &wanted(&elsewhere), "server1", "t", |_| None);
    let deleted = steps.iter().filter(|it| matches!(it, Step::Delete { .. })).count();
    let created = steps.iter().filter(|it| matches!(it, Step::Create(_))).count();
    assert_eq!((deleted, created), (1, 1), "{steps:?}");
}

#[test]
fn what_the_server_could_not_give_back_is_not_bound() {
    let entry = Entry { problem: Some("no VF".to_owned()), ..entry(claim("a", "eth0", 1), true) };
    let status = status(&entry, None, true);
    let bound = status.conditions.iter().find(|it| it.kind == kinds::BOUND).unwrap();
    assert_eq!((bound.status, bound.reason.as_str()), (ConditionStatus::False, "InterfaceMissing"));
    assert!(bound.message.ends_with("interface: no VF"), "{}", bound.message);
}
