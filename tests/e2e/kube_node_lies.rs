//! A server that lies to the API with its kubelet's own credential, in every field that a node can write and that concerns
//! the pods' network: with our admission policies, and without them. Each lie is refused, or it is taken and changes nothing
//! of what pods of the other server may send and receive, with real packets all the while; and the other NIC says who lied.
//! kubelet is stopped meanwhile, and its lease kept. On a lab with Kubernetes and cluster-controller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "kube_node_lies/admission.rs"]
mod admission;
#[path = "kube_services/herald.rs"]
mod herald;
#[path = "kube_node_lies/liar.rs"]
mod liar;
#[path = "kube_node_lies/lies.rs"]
mod lies;
#[path = "kube_node_lies/scene.rs"]
mod scene;
#[path = "kube_node_lies/watchers.rs"]
mod watchers;

use std::sync::LazyLock;
use std::time::Instant;

use tests::cluster::{Api, Silent};

use admission::Admission;
use liar::Liar;
use scene::Scene;
use watchers::Watchers;

static API: LazyLock<Api> = LazyLock::new(Api::admin);

#[test]
fn nothing_that_a_node_writes_changes_what_others_pods_may_do() {
    let began = Instant::now();
    let mut scene = Scene::start(&API);
    println!("the pods run after {:.0} s", began.elapsed().as_secs_f64());
    let mut admission = Admission::of(&API);
    for guarded in [false, true] {
        if guarded {
            admission.on();
            // With it real kubelets get their own pods' addresses written as before.
            scene.add("late", "host2");
        } else {
            admission.off();
        }
        let silent = Silent::new(&API);
        let liar = Liar::start(&API, guarded);
        let watchers = Watchers::start(&scene);
        let before = scene.state();
        lies::run(&scene, &liar, &before);
        let seen = watchers.stop();
        lies::genuine(&scene, &liar);
        if guarded {
            lies::ends(&scene, &liar, &before);
        }
        println!(
            "{} admission policies, after {:.0} s: {} lies refused, {} taken; {seen}",
            if guarded { "with" } else { "without" },
            began.elapsed().as_secs_f64(),
            liar.refused(),
            liar.taken(),
        );
        liar.was_judged_right();
        drop(liar);
        drop(silent);
    }
}
