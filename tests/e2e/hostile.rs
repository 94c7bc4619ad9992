//! A server that lies to its NIC: every lie is refused with its reason, and nothing has changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use tests::host::claim;
use tests::lies::{self, HOST, of_uid, of_vf, refused, with};
use tests::{Nic, Pod, State, Wish};

#[test]
fn every_lie_is_refused_and_changes_nothing() {
    let nic = Nic(1);
    let held = Pod::add(&Wish { name: "held", host: "host1", vf: 2, options: &[] });
    let free = Pod::create(&Wish { name: "free", host: "host1", vf: 3, options: &[] });
    let elsewhere = Pod::create(&Wish { name: "elsewhere", host: "host2", vf: 4, options: &[] });
    let hostnet = Pod::create(&Wish { name: "hostnet", host: "host1", vf: 5, options: &["--host-network"] });
    let done = Pod::create(&Wish { name: "done", host: "host1", vf: 6, options: &["--phase", "Succeeded"] });
    nic.settle();
    let before = State::of(nic);

    let honest = claim(&free);
    let mut all = vec![
        ("unknown-pod", of_uid(&honest, "11111111-2222-3333-4444-555555555555")),
        ("wrong-pod", with(&honest, |r| r.pod.as_mut().unwrap().name = "held".into())),
        ("wrong-node", claim(&elsewhere)),
        ("host-network", claim(&hostnet)),
        ("finished", claim(&done)),
        ("vf-held", of_vf(&honest, 0, 2)),
        ("no-such-vf", of_vf(&honest, 0, 200)),
        ("no-such-vf", of_vf(&honest, 9, 3)),
        ("sandbox-in-use", of_vf(&claim(&held), 0, 3)),
    ];
    all.extend(lies::malformed(&honest));
    lies::each_is_refused(all);
    lies::strangers_are_refused(&honest);
    lies::oversize_is_refused(&honest);
    lies::garbage();
    nic.settle();
    assert_eq!(State::of(nic), before);
    assert!(held.pings("10.244.0.1"), "and who was attached still is");

    // After all that, the honest claim is granted.
    free.cni("ADD", &[]).ok();
    assert!(free.pings(&held.ip));
    // A sandbox that was detached does not come back.
    let replay = claim(&free);
    free.cni("DEL", &[]).ok();
    assert_eq!(refused(HOST, replay).reason, "sandbox-replayed");
}
