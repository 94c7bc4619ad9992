//! A server that asks and does not wait: the loop's passes go on, its ledger is written so often as there are passes, and
//! who waits is answered.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nic_agent::claim::Refusal;
use nic_agent::reconcile::intake;
use nic_agent::server::Limits;
use offload::ids::VfId;
use proto::v1;
use proto::v1::nic_agent_client::NicAgentClient;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::common::looping::{Bench, PODS, SERVED, pods, request, without_budgets};
use crate::common::{attached, quick, reason};

/// Until told to stop: Attach after Attach, each with 5 ms to be answered in, or dropped at once. How many.
async fn flood(mut shim: NicAgentClient<Channel>, lane: usize, stop: CancellationToken) -> u64 {
    let mut asked = 0;
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let pod = u16::try_from(1 + (lane * 31 + number) % usize::from(PODS - 1)).unwrap();
        let mut request = Request::new(request(pod, lane * 1_000_000 + number));
        request.set_timeout(Duration::from_millis(5));
        let attach = shim.attach(request);
        // Every other one is a stream that is reset.
        let patience = Duration::from_millis(if number % 2 == 0 { 1 } else { 50 });
        if let Ok(answer) = tokio::time::timeout(patience, attach).await {
            let status = answer.unwrap_err();
            // Too many resets end a connection, and the channel makes another.
            let is_broken = std::error::Error::source(&status).is_some();
            assert!(
                is_broken
                    || matches!(
                        status.code(),
                        Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
                    ),
                "{status:?}"
            );
        }
        asked += 1;
    }
    asked
}

/// What one shim with a bad loop does while another, with its own key, works.
async fn who_waits_is_answered(limits: Limits) -> (Bench, u64) {
    let bench = Bench::start(limits);
    let bad = bench.shim().await;
    let stop = CancellationToken::new();
    let lanes: Vec<_> = (0..8).map(|lane| tokio::spawn(flood(bad.clone(), lane, stop.clone()))).collect();

    let mut good = bench.shim().await;
    let mut published = bench.published.clone();
    for try_ in 0..20 {
        let key = Some(v1::Sandbox { id: format!("s0-{try_}"), interface: "eth0".to_owned() });
        let answer = good.attach(request(0, try_)).await.unwrap().into_inner();
        assert_eq!(answer.logical_port, attached().logical_port);
        good.check(v1::CheckRequest { sandbox: key.clone(), ..Default::default() }).await.unwrap();
        assert!(good.detach(v1::DetachRequest { sandbox: key }).await.unwrap().into_inner().existed);
        // Passes go on: this one was not kept from being made.
        let before = published.borrow_and_update().passes;
        published.wait_for(|it| it.passes > before).await.unwrap();
    }
    stop.cancel();
    let mut asked = 0;
    for lane in lanes {
        asked += lane.await.unwrap();
    }
    // Nothing of them stays.
    let gone = published.wait_for(|it| it.attachments.is_empty());
    tokio::time::timeout(Duration::from_mins(1), gone).await.unwrap().unwrap();
    (bench, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaches_that_nobody_waits_for_starve_nobody() {
    // Without budgets: what is bounded is bounded by the loop itself.
    let (bench, asked) = who_waits_is_answered(without_budgets()).await;
    let (passes, writes) = (bench.published.borrow().passes, bench.writes.load(Ordering::SeqCst));
    let abandoned = bench.counted("drawbridge_nic_agent_requests_abandoned_total");
    println!(
        "asked {asked}, abandoned in the queue {abandoned}, passes {passes}, writes {writes}, largest batch {}",
        bench.largest.load(Ordering::SeqCst)
    );
    assert!(writes <= passes + 1, "one write for each batch: {writes} writes, {passes} passes");
    assert!(bench.largest.load(Ordering::SeqCst) <= u64::try_from(intake::AT_ONCE).unwrap());
    assert!(asked > passes, "the flood was none: {asked} requests, {passes} passes");
    assert!(abandoned > 0);
    bench.cancel.cancel();
    drop(bench.dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_asks_too_often_is_told_and_another_is_not() {
    let few = nic_agent::bucket::Rate { burst: 30, period: Duration::from_hours(1) };
    let rates = nic_agent::server::Rates { attach: few, ..nic_agent::server::Rates::default() };
    let (bench, asked) = who_waits_is_answered(Limits { rates, ..quick() }).await;
    let refused = "drawbridge_nic_agent_requests_total{method=\"Attach\",reason=\"too-many-requests\"}";
    println!("asked {asked}, refused {}", bench.counted(refused));
    assert!(bench.counted(refused) > 0);
    let mut last = bench.shim().await;
    for try_ in 100..130 {
        let _ = last.attach(request(0, try_)).await;
    }
    let status = last.attach(request(0, 200)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "too-many-requests"));
    assert!(status.message().contains("ask again"), "{status:?}");
    // The budget of one kind is not that of another.
    last.list(v1::ListRequest {}).await.unwrap();
    bench.cancel.cancel();
}

#[test]
fn pods_of_the_test_are_admissible() {
    let claim = |pod: u16| nic_agent::claim::PodRef {
        namespace: "default".to_owned(),
        name: format!("web-{pod}"),
        uid: format!("u{pod}"),
    };
    assert_eq!(pods().judge(&claim(PODS - 1), SERVED), Ok(()));
    assert!(matches!(pods().judge(&claim(PODS), SERVED), Err(Refusal::UnknownPod { .. })));
    assert!(nic_agent::attachment::of_ports(VfId { pf: 0, vf: PODS }).is_some());
}
