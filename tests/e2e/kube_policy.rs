//! NetworkPolicy conformance: for each kind of policy that Kubernetes' documentation and its e2e suite know, applied to a real
//! API server, who of nine pods in three namespaces reaches whom: TCP and UDP, ports 80 and 81, IPv4 and IPv6, with packets.
//!
//! What is right is said twice: by hand beside each case, as the e2e suite does, and by the oracle, which reads the objects
//! as the API server has them. Both must agree before a packet is sent.
//!
//! What arrives is judged at the receiver's interface. What must not arrive and does is a failure at once, once the agents
//! have said that the change is in force; what must arrive is tried again, as an emulated machine loses packets.
//!
//! `DRAWBRIDGE_POLICY_GROUP`: only groups whose names contain this.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "kube_policy/cases.rs"]
mod cases;
#[path = "kube_policy/changes.rs"]
mod changes;
#[path = "kube_policy/egress.rs"]
mod egress;
#[path = "kube_policy/ingress.rs"]
mod ingress;
#[path = "kube_policy/matrix.rs"]
mod matrix;
#[path = "kube_policy/ports.rs"]
mod ports;

use std::time::Instant;

use tests::cluster::Api;

use matrix::Matrix;

#[test]
fn who_reaches_whom() {
    let api = Api::admin();
    let began = Instant::now();
    let mut matrix = Matrix::start(&api);
    println!("nine pods run after {:.0} s", began.elapsed().as_secs_f64());
    let mut groups = cases::groups(&matrix.addresses());
    if let Ok(some) = std::env::var("DRAWBRIDGE_POLICY_GROUP") {
        groups.retain(|it| it.name.contains(&some));
    }
    for group in &groups {
        matrix.run(group);
    }
    let (allowed, denied) = matrix.counted();
    println!(
        "{} cases, {} new connections: {allowed} allowed, {denied} denied, 0 differences, in {:.0} s",
        groups.iter().map(|it| it.cases.len()).sum::<usize>(),
        allowed + denied,
        began.elapsed().as_secs_f64()
    );
}
