//! `grpc.health.v1` beside our own service: the same answer, for the same client, as often.

use nic_agent::claim::Refusal;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::common::{Bench, HOST, reason};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_what_status_says() {
    let bench = Bench::start();
    let channel = bench.endpoint(Some(&bench.ca.client(&[HOST]))).connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    for service in ["", "drawbridge.nic.v1.NicAgent"] {
        let answer = health.check(of(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(of("drawbridge.nic.v9.NicAgent")).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown)), (Code::NotFound, "unknown-service"));
    let watched = health.watch(of("")).await.unwrap_err();
    assert_eq!((watched.code(), reason(&watched)), (Code::Unimplemented, "unknown-method"));
    *bench.fake.refuse.lock().unwrap() = Some(Refusal::Internal("no OVS".to_owned()));
    let answer = health.check(of("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    bench.stop().await;
}

#[tokio::test]
async fn health_is_for_the_host_alone() {
    let bench = Bench::start();
    let channel = bench.endpoint(Some(&bench.ca.client(&["server2"]))).connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    for refused in [health.check(of("")).await.unwrap_err(), health.watch(of("")).await.unwrap_err()] {
        assert_eq!((refused.code(), reason(&refused)), (Code::PermissionDenied, "wrong-identity"));
    }
    bench.stop().await;
}

#[tokio::test]
async fn health_is_asked_no_more_often_than_status() {
    let bench = Bench::start();
    let channel = bench.endpoint(Some(&bench.ca.client(&[HOST]))).connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    for _ in 0..1000 {
        if let Err(refused) = health.check(of("")).await {
            assert_eq!((refused.code(), reason(&refused)), (Code::ResourceExhausted, "too-many-requests"));
            return;
        }
    }
    panic!("a thousand answers");
}
