//! The controller, killed at random while the cluster changes, and the northbound wiped under it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, too

#[path = "../../nic-agent/ovsdb/tests/session/common/mod.rs"]
mod common;
mod northbound_common;

use std::time::Duration;

use cluster_controller::cluster::Change;
use cluster_controller::controller::Controller;
use cluster_controller::lease::Leading;
use cluster_controller::metrics::Metrics;
use cluster_controller::taint::Timing;
use cluster_controller::watch::{Input, Kind};
use common::{Server, options, soon};
use northbound_common::{Cluster, Dice, Size, assert_same, dump, fresh, settings, wipe, with_range};
use ovsdb_session::Session;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SIZE: Size = Size { nodes: 12, pods: 500, services: 50 };

/// One controller with its watches: killed when dropped, wherever it is.
struct Running {
    task: JoinHandle<()>,
    inputs: mpsc::Sender<Input>,
    leading: watch::Sender<Leading>,
    metrics: Metrics,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// Starts one, and lists the cluster to it.
    async fn start(server: &Server, cluster: &Cluster, token: &str) -> Self {
        let (inputs, receiver) = mpsc::channel(256);
        let (leading, leads) = watch::channel(Some(Instant::now() + Duration::from_hours(1)));
        let session = Session::start(options(server.unix()));
        let metrics = Metrics::default();
        let (controller, _health) = Controller::new(
            settings(),
            session,
            receiver,
            leads,
            token.to_owned(),
            metrics.clone(),
            Timing::default(),
        );
        let task = tokio::spawn(controller.run(CancellationToken::new()));
        for change in cluster.all() {
            inputs.send(Input::Change(change)).await.unwrap();
        }
        for kind in Kind::ALL {
            inputs.send(Input::Listed(kind)).await.unwrap();
        }
        Self { task, inputs, leading, metrics }
    }

    async fn send(&self, change: Change) {
        for change in with_range(&change) {
            self.inputs.send(Input::Change(change)).await.unwrap();
        }
    }
}

/// Until the northbound is so; not before nothing changes any more.
async fn becomes(session: &Session, wanted: &[String], what: &str) {
    let there = soon(what, async {
        let mut last = Vec::new();
        let mut same = 0;
        loop {
            let now = dump(session, true).await;
            if now == wanted {
                return now;
            }
            same = if now == last { same + 1 } else { 0 };
            last = now;
            if same > 100 {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_same(&there, wanted, what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_during_churn_and_wiped_once() {
    let (server, other) = (Server::start("ovn-nb", &[]), Server::start("ovn-nb", &[]));
    let observer = server.session().await;
    let mut dice = Dice(11);
    let mut cluster = Cluster::default();
    cluster.fill(SIZE);
    let mut running = Running::start(&server, &cluster, "0").await;
    let mut kills = 0;
    for round in 0..1500 {
        let change = cluster.step(SIZE, &mut dice);
        running.send(change).await;
        if dice.one_in(40) {
            kills += 1;
            running = Running::start(&server, &cluster, &format!("{kills}")).await;
        }
        if round == 750 {
            wipe(&observer).await;
        }
        if dice.one_in(5) {
            // Lets it get anywhere: into a transaction, between two.
            tokio::time::sleep(Duration::from_micros(dice.below(3000))).await;
        }
    }
    assert!(kills > 20, "{kills}");
    let wanted = fresh(&other, &cluster).await;
    assert!(wanted.len() > 400, "{}", wanted.len());
    becomes(&observer, &wanted, "after churn").await;
    wipe(&observer).await;
    becomes(&observer, &wanted, "after another wipe").await;
    assert_eq!((running.metrics.blocked.get(), running.metrics.copp.get()), (0, 1));
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing_and_is_ready_to() {
    let server = Server::start("ovn-nb", &[]);
    let observer = server.session().await;
    let mut cluster = Cluster::default();
    cluster.fill(Size { nodes: 3, pods: 9, services: 3 });
    let running = Running::start(&server, &cluster, "a").await;
    let first = fresh(&Server::start("ovn-nb", &[]), &cluster).await;
    becomes(&observer, &first, "while it leads").await;
    running.leading.send_replace(None);
    let standby = Running::start(&server, &cluster, "b").await;
    standby.leading.send_replace(None);
    // Both have seen that before what follows: they read their inputs in order.
    let change = northbound_common::node(7);
    cluster.put(change.clone());
    for one in [&running, &standby] {
        for _ in 0..600 {
            one.send(change.clone()).await;
        }
    }
    assert_same(&dump(&observer, true).await, &first, "while nobody leads");
    standby.leading.send_replace(Some(Instant::now() + Duration::from_hours(1)));
    let second = fresh(&Server::start("ovn-nb", &[]), &cluster).await;
    becomes(&observer, &second, "once it leads").await;
}

#[tokio::test]
async fn nothing_is_written_before_all_has_been_listed() {
    let server = Server::start("ovn-nb", &[]);
    let observer = server.session().await;
    let mut cluster = Cluster::default();
    cluster.fill(Size { nodes: 3, pods: 9, services: 3 });
    drop(Running::start(&server, &cluster, "a").await);
    let wanted = fresh(&server, &cluster).await;
    // Started anew, it has heard of the nodes only: to go by that, all pods would be gone.
    let (inputs, receiver) = mpsc::channel(1);
    let (_leading, leads) = watch::channel(Some(Instant::now() + Duration::from_hours(1)));
    let session = Session::start(options(server.unix()));
    let (controller, mut health) = Controller::new(
        settings(),
        session,
        receiver,
        leads,
        "b".to_owned(),
        Metrics::default(),
        Timing::default(),
    );
    let task = tokio::spawn(controller.run(CancellationToken::new()));
    inputs.send(Input::Listed(Kind::Node)).await.unwrap();
    let unready = |says: &'static str| {
        move |health: &cluster_controller::health::Health| {
            health.unready.as_ref().is_some_and(|why| why.contains(says))
        }
    };
    soon("readiness", health.wait_for(unready("pods"))).await.unwrap();
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Pod) {
        inputs.send(Input::Listed(kind)).await.unwrap();
    }
    soon("readiness", health.wait_for(|health| health.unready.as_deref() == Some("not listed yet: pods")))
        .await
        .unwrap();
    assert_same(&dump(&observer, true).await, &wanted, "before the pods have been listed");
    for change in cluster.all() {
        inputs.send(Input::Change(change)).await.unwrap();
    }
    inputs.send(Input::Listed(Kind::Pod)).await.unwrap();
    soon("readiness", health.wait_for(|health| health.unready.is_none())).await.unwrap();
    assert_same(&dump(&observer, true).await, &wanted, "afterwards");
    task.abort();
}

/// As after an update, or with an API that takes no writes: what stands in the northbound is not taken away because
/// nothing has been confirmed yet.
#[tokio::test]
async fn nothing_is_taken_away_before_ranges_have_been_decided() {
    let server = Server::start("ovn-nb", &[]);
    let observer = server.session().await;
    let mut cluster = Cluster::default();
    cluster.fill(Size { nodes: 3, pods: 9, services: 3 });
    let wanted = fresh(&server, &cluster).await;
    let (inputs, receiver) = mpsc::channel(256);
    let (_leading, leads) = watch::channel(Some(Instant::now() + Duration::from_hours(1)));
    let session = Session::start(options(server.unix()));
    let (controller, mut health) = Controller::new(
        settings(),
        session,
        receiver,
        leads,
        "b".to_owned(),
        Metrics::default(),
        Timing::default(),
    );
    let mut publish = controller.wanted();
    let task = tokio::spawn(controller.run(CancellationToken::new()));
    let (ranges, others): (Vec<Change>, Vec<Change>) =
        cluster.all().partition(|change| matches!(change, Change::NodeRange(..)));
    for change in others {
        inputs.send(Input::Change(change)).await.unwrap();
    }
    for kind in Kind::ALL {
        inputs.send(Input::Listed(kind)).await.unwrap();
    }
    let undecided = |health: &cluster_controller::health::Health| {
        health.unready.as_ref().is_some_and(|why| why.contains("NodeRange"))
    };
    soon("readiness", health.wait_for(undecided)).await.unwrap();
    soon("decisions", publish.wait_for(|wanted| wanted.ranges.len() == ranges.len())).await.unwrap();
    assert_same(&dump(&observer, true).await, &wanted, "before ranges have been decided");
    for change in ranges {
        inputs.send(Input::Change(change)).await.unwrap();
    }
    soon("readiness", health.wait_for(|health| health.unready.is_none())).await.unwrap();
    becomes(&observer, &wanted, "afterwards").await;
    task.abort();
}
