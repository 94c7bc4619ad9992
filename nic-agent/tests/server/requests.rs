//! What a host that is who it says it is gets answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::{Bench, quick, reason, request};
use nic_agent::claim::{Refusal, SandboxKey};
use offload::ids::VfId;
use proto::v1;
use tokio::sync::Notify;
use tonic::Code;

fn sandbox() -> Option<v1::Sandbox> {
    request().sandbox
}

#[tokio::test]
async fn attach_check_list_detach() {
    let bench = Bench::start();
    let mut client = bench.client().await;
    let attached = client.attach(request()).await.unwrap().into_inner();
    assert_eq!(attached.mac, "0a:58:0a:f4:00:0a");
    assert_eq!(attached.mtu, 1400);
    let addresses: Vec<_> =
        attached.addresses.iter().map(|a| (a.address.as_str(), a.gateway.as_str())).collect();
    assert_eq!(addresses, [("10.244.0.10/24", "10.244.0.1"), ("fd00::a/64", "")]);
    assert_eq!(attached.routes[0].destination, "10.96.0.0/16");
    let claim = bench.fake.claims.lock().unwrap()[0].clone();
    assert_eq!((claim.vf, claim.pod.uid.len(), claim.network.as_str()), (VfId { pf: 0, vf: 3 }, 36, "ovn"));

    let check = client
        .check(v1::CheckRequest { sandbox: sandbox(), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(check.attachment, Some(attached));
    let items = client.list(v1::ListRequest {}).await.unwrap().into_inner().items;
    let asked = request();
    assert_eq!(
        items,
        [v1::list_response::Item {
            sandbox: asked.sandbox,
            pod: asked.pod,
            vf: asked.vf,
            network: asked.network
        }]
    );
    assert!(client.detach(v1::DetachRequest { sandbox: sandbox() }).await.unwrap().into_inner().existed);
    assert!(!client.detach(v1::DetachRequest { sandbox: sandbox() }).await.unwrap().into_inner().existed);
    let status =
        client.check(v1::CheckRequest { sandbox: sandbox(), ..Default::default() }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "not-attached"));

    let status = client.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert!(status.ready && status.reason.is_empty());
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    *bench.fake.refuse.lock().unwrap() = Some(Refusal::Internal("no OVS".to_owned()));
    let status = client.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.ready, status.reason.as_str()), (false, "no OVS"));
    assert_eq!(bench.metric("drawbridge_nic_agent_requests_total{method=\"Attach\",reason=\"ok\"}"), 1);
    assert_eq!(
        bench.metric("drawbridge_nic_agent_requests_total{method=\"Check\",reason=\"not-attached\"}"),
        1
    );
    assert_eq!(bench.metric("drawbridge_nic_agent_attach_duration_seconds_count{stage=\"total\"}"), 1);
    bench.stop().await;
}

#[tokio::test]
async fn each_refusal_has_its_reason_and_its_code() {
    let bench = Bench::start();
    let mut client = bench.client().await;
    let key = || SandboxKey { sandbox: "4f2a1b".to_owned(), interface: "eth0".to_owned() };
    let vf = VfId { pf: 0, vf: 3 };
    let text = || "x".to_owned();
    let table = [
        (Refusal::UnknownPod { pod: text(), uid: text() }, Code::PermissionDenied),
        (Refusal::WrongPod { uid: text(), actual: text(), claimed: text() }, Code::PermissionDenied),
        (Refusal::WrongNode { pod: text(), actual: text(), served: text() }, Code::PermissionDenied),
        (Refusal::HostNetwork { pod: text() }, Code::PermissionDenied),
        (Refusal::Finished { pod: text(), phase: text() }, Code::PermissionDenied),
        (Refusal::VfHeld { vf, holder: text() }, Code::AlreadyExists),
        (Refusal::SandboxInUse { key: key(), vf, pod: text() }, Code::AlreadyExists),
        (Refusal::LogicalPortHeld { logical_port: text(), vf }, Code::AlreadyExists),
        (Refusal::NoSuchVf { vf, candidates: "pf0vf0, pf0vf1".to_owned() }, Code::NotFound),
        (Refusal::NotAttached { key: key() }, Code::NotFound),
        (Refusal::SandboxReplayed { key: key() }, Code::FailedPrecondition),
        (Refusal::NoZone { size: 255 }, Code::ResourceExhausted),
        (Refusal::BudgetUsed { budget: 1 }, Code::ResourceExhausted),
        (Refusal::ManagementPort { vf }, Code::AlreadyExists),
        (Refusal::NotReady { stage: text() }, Code::DeadlineExceeded),
        (Refusal::DirectoryUnavailable { why: text() }, Code::Unavailable),
        (Refusal::Internal(text()), Code::Unavailable),
    ];
    for (refusal, code) in table {
        *bench.fake.refuse.lock().unwrap() = Some(refusal.clone());
        let status = client.attach(request()).await.unwrap_err();
        assert_eq!(status.code(), code, "{refusal}");
        assert_eq!(reason(&status), refusal.reason());
        assert_eq!(status.message(), refusal.to_string());
        let line = format!(
            "drawbridge_nic_agent_requests_total{{method=\"Attach\",reason=\"{}\"}}",
            refusal.reason()
        );
        assert_eq!(bench.metric(&line), 1);
    }
    assert!(bench.fake.claims.lock().unwrap().is_empty());

    // A NIC with more candidates than a header list holds still answers.
    let refusal = Refusal::NoSuchVf { vf, candidates: "pf0vf0, ".repeat(10_000) };
    *bench.fake.refuse.lock().unwrap() = Some(refusal);
    let status = client.attach(request()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "no-such-vf"));
    bench.stop().await;
}

#[tokio::test]
async fn malformed_requests_reach_nobody() {
    let bench = Bench::start();
    let mut client = bench.client().await;
    let mut bad = request();
    bad.pod.as_mut().unwrap().name = "../etc".to_owned();
    let status = client.attach(bad).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "malformed"));
    assert!(status.message().contains("pod.name"), "{status}");
    let status = client.detach(v1::DetachRequest { sandbox: None }).await.unwrap_err();
    assert_eq!(reason(&status), "malformed");
    let status = client
        .check(v1::CheckRequest { sandbox: Some(v1::Sandbox::default()), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "malformed");
    assert_eq!(bench.fake.entered.load(Ordering::SeqCst), 0);
    bench.stop().await;
}

#[tokio::test]
async fn our_own_deadline_counts() {
    let bench = Bench::start_with(quick(), |config| config.attach_timeout = Duration::from_millis(50));
    *bench.fake.hold.lock().unwrap() = Some(Arc::new(Notify::new()));
    let status = bench.client().await.attach(request()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::DeadlineExceeded, "not-ready"));
    bench.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let bench = Bench::start();
    *bench.fake.hold.lock().unwrap() = Some(Arc::new(Notify::new()));
    let mut client = bench.client().await;
    let call = tokio::spawn(async move { client.attach(request()).await });
    while bench.fake.entered.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    call.abort();
    while bench.fake.dropped.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_stop_lets_requests_end() {
    let bench = Bench::start();
    let go = Arc::new(Notify::new());
    *bench.fake.hold.lock().unwrap() = Some(Arc::clone(&go));
    let mut client = bench.client().await;
    let call = tokio::spawn(async move { client.attach(request()).await });
    while bench.fake.entered.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.cancel.cancel();
    // No new connection gets in any more.
    while tokio::net::TcpStream::connect(bench.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    go.notify_one();
    assert!(call.await.unwrap().is_ok());
    bench.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let limits = crate::common::quick();
    let limits = nic_agent::server::Limits { drain: Duration::from_millis(50), ..limits };
    let bench = Bench::start_with(limits, |_| {});
    *bench.fake.hold.lock().unwrap() = Some(Arc::new(Notify::new()));
    let mut client = bench.client().await;
    let call = tokio::spawn(async move { client.attach(request()).await });
    while bench.fake.entered.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.cancel.cancel();
    bench.task.await.unwrap().unwrap();
    assert!(call.await.unwrap().is_err());
    while bench.fake.dropped.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_check_hands_on_what_the_server_says_of_its_side_if_it_is_well_formed() {
    let bench = Bench::start();
    let mut client = bench.client().await;
    client.attach(request()).await.unwrap();
    for problem in ["", "the VF is not on the host"] {
        let problem = problem.to_owned();
        client.check(v1::CheckRequest { sandbox: sandbox(), problem }).await.unwrap();
    }
    let status = client.check(v1::CheckRequest { sandbox: sandbox(), problem: "a\nb".to_owned() }).await;
    assert_eq!(reason(&status.unwrap_err()), "malformed");
    let told = [None, Some("the VF is not on the host".to_owned())];
    assert_eq!(*bench.fake.problems.lock().unwrap(), told);
    bench.stop().await;
}
