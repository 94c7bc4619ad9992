use offload::ids::VfId;

use super::*;
use crate::kernel::view::{InSoftware, Offload};
use crate::published::PodStatus;

fn refused(refusal: Refusal) -> Refused {
    let pod = PodRef { namespace: "ns".to_owned(), name: "a".to_owned(), uid: "u".to_owned() };
    Refused { pod, vf: "pf0vf1".to_owned(), refusal }
}

#[test]
fn a_pod_that_the_server_only_names_gets_no_event() {
    let held = Refusal::VfHeld { vf: VfId { pf: 0, vf: 1 }, holder: "ns/b".to_owned() };
    let (about, event) = of_refusal(&refused(held));
    assert_eq!(about, About::Pod { namespace: "ns".into(), name: "a".into(), uid: "u".into() });
    assert_eq!(event.reason, "ClaimRefused");
    let note = event.note.unwrap();
    assert!(note.contains("pf0vf1") && note.contains("ns/b") && note.contains("(vf-held)"), "{note}");
    for lie in [
        Refusal::UnknownPod { pod: "ns/a".to_owned(), uid: "u".to_owned() },
        Refusal::WrongNode {
            pod: "ns/a".to_owned(),
            actual: "server2".to_owned(),
            served: "server1".to_owned(),
        },
    ] {
        assert_eq!(of_refusal(&refused(lie)).0, About::OwnNicNode);
    }
    let late = of_refusal(&refused(Refusal::NotReady { stage: "é".repeat(2000) })).1;
    assert_eq!(late.reason, "AttachNotReady");
    assert!(late.note.unwrap().len() < 1024);
}

fn published(whys: &[&str]) -> Published {
    let software = |why: &&str| InSoftware { filter: "chain 0".to_owned(), why: (*why).to_owned() };
    let pod = PodStatus {
        namespace: "ns".to_owned(),
        name: "a".to_owned(),
        uid: "u".to_owned(),
        vf: "pf0vf1".to_owned(),
        zone: 1,
        closed: None,
        egress_rule_set: 0,
        ingress_rule_set: 0,
        settled: true,
        unsettled: None,
        held: None,
        offload: Offload { hardware: 1, software: whys.iter().map(software).collect() },
        connections: None,
    };
    let mut published = Published::default();
    published.policy.pods = vec![pod];
    published
}

#[test]
fn only_what_lasts_is_said_and_only_once() {
    let (mut said, empty) = (Whys::new(), Whys::new());
    let (one, two) = (in_software(&published(&["x"])), in_software(&published(&["x", "y", "y"])));
    let mut notes = |before: &Whys, now: &Whys| -> Vec<String> {
        news(before, now, &mut said).into_iter().filter_map(|(_, event)| event.note).collect()
    };
    assert!(notes(&empty, &one).is_empty(), "seen for the first time");
    assert_eq!(notes(&one, &two), ["rules of this pod run in software: x"]);
    assert_eq!(notes(&two, &two), ["rules of this pod run in software: y"]);
    assert!(notes(&two, &two).is_empty());
    // A pod that went and came is another.
    assert!(notes(&two, &empty).is_empty());
    assert_eq!(notes(&one, &one).len(), 1);
}

#[test]
fn a_server_that_lies_all_day_gets_a_few_a_minute() {
    let began = std::time::Instant::now();
    let mut bucket = TokenBucket::new(FEW, began);
    let mut granted = |seconds| {
        let now = began + Duration::from_secs(seconds);
        (0..1000).filter(|_| bucket.take(now)).count()
    };
    assert_eq!((granted(0), granted(35), granted(24 * 3600)), (20, 3, 20));
}

struct Refuses;

impl Attachments for Refuses {
    async fn attach(&self, claim: Claim) -> Result<Attached, Refusal> {
        Err(Refusal::SandboxReplayed { key: claim.key })
    }

    async fn detach(&self, _: SandboxKey) -> Result<bool, Refusal> {
        Ok(true)
    }

    async fn check(&self, key: SandboxKey, _: Option<String>) -> Result<Attached, Refusal> {
        Err(Refusal::NotAttached { key })
    }

    async fn list(&self) -> Vec<Claim> {
        Vec::new()
    }

    async fn status(&self) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test]
async fn telling_never_waits() {
    let (telling, mut told) = Telling::new(Refuses);
    let claim = Claim {
        key: SandboxKey { sandbox: "s".to_owned(), interface: "eth0".to_owned() },
        pod: refused(Refusal::Internal(String::new())).pod,
        network: String::new(),
        pci_address: String::new(),
        vf: VfId { pf: 0, vf: 1 },
    };
    for _ in 0..QUEUE + 10 {
        assert!(telling.attach(claim.clone()).await.is_err());
    }
    assert!(telling.detach(claim.key.clone()).await.unwrap());
    drop(telling);
    let mut count = 0;
    while told.recv().await.is_some() {
        count += 1;
    }
    assert_eq!(count, QUEUE);
}

#[test]
fn what_a_server_says_of_its_side_is_said_of_the_pod_whenever_it_changes() {
    let about = About::Pod { namespace: "ns".to_owned(), name: "a".to_owned(), uid: "u".to_owned() };
    let says = |whys: &[&str]| {
        Whys::from([(about.clone(), whys.iter().map(|why| format!("eth0: {why}")).collect())])
    };
    let notes = |before: &Whys, now: &Whys| -> Vec<String> {
        fresh(before, now).into_iter().filter_map(|(_, event)| event.note).collect()
    };
    let what = "the server could not give this pod its interface again: eth0: ";
    assert_eq!(notes(&Whys::new(), &says(&["x"])), [format!("{what}x")]);
    assert!(notes(&says(&["x"]), &says(&["x"])).is_empty());
    assert_eq!(notes(&says(&["x"]), &says(&["y"])), [format!("{what}y")]);
    assert!(notes(&says(&["y"]), &says(&[])).is_empty());
}
