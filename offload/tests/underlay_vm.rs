//! The underlay's program on a real kernel and a simulated NIC, with real packets between two pods of one NIC. Runs in the
//! lab VM, as root; `cargo test -p offload --test underlay_vm` there. What was written is read back with `tc`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[allow(dead_code)] // shared with the session's own tests, which use more of it
#[path = "netlink_vm/bench.rs"]
mod bench;

#[allow(dead_code)] // shared with the random policies' test
#[path = "underlay_vm/stand.rs"]
mod stand;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bench::{Bench, parameter, tc_filters};
use offload::checker::{Profile, Why};
use offload::policy::{Action, Origin, PodPolicy, PrefixSet, Rule, Rules, Tier, Traffic};
use offload::session::{Report, Session};
use offload::underlay::Program;
use stand::{Stand, address, inside, route};

/// Does a connection from the first pod to the second one come about? Over IPv4 as over IPv6.
fn connects(port: u16) -> bool {
    let [v4, v6] = [false, true].map(|is_ipv6| {
        let to = SocketAddr::from((address(1, is_ipv6), port));
        let _listener = inside(1, move || TcpListener::bind(to).unwrap());
        inside(0, move || TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok())
    });
    assert_eq!(v4, v6, "port {port}: over IPv4, over IPv6");
    v4
}

fn allow(port: u16) -> Rules {
    let rule = Rule {
        action: Action::Allow,
        peers: PrefixSet::any(),
        traffic: Traffic::tcp(port),
        origin: Origin(u64::from(port)),
    };
    Rules { tiers: vec![Tier { rules: vec![rule], otherwise: Action::Deny, origin: Origin(1) }] }
}

fn clean(report: &Report) {
    assert!(report.refusals.is_empty(), "{:?}", report.refusals);
    assert!(report.mismatches.is_empty(), "{:?} {:?}", report.mismatches, report.warnings);
}

#[test]
fn two_pods_may_what_both_policies_let_them() {
    let mut bench = Bench::new();
    let stand = Stand::new(&mut bench, 2);
    let mut session = Session::new(route(), Profile::MLX5);
    let open = PodPolicy::default();
    let mut policies = [open.clone(), open];

    let first = session.sync(stand.program(&policies)).unwrap();
    clean(&first);
    assert!(first.changes > 40, "{first:?}");
    assert!(first.software.iter().all(|it| it.why != Why::Refused), "{:?}", first.software);
    let in_hw = |dev: &str| tc_filters(dev).iter().filter(|it| it["options"]["in_hw"] == true).count();
    assert!(in_hw("pf0vf0") > 10 && in_hw("p0") > 5, "{} {}", in_hw("pf0vf0"), in_hw("p0"));
    assert!(connects(80) && connects(81));

    // Read back, nothing is left to do; whoever comes anew finds the same.
    assert_eq!(session.sync(stand.program(&policies)).unwrap().changes, 0);
    let mut other = Session::new(route(), Profile::MLX5);
    assert_eq!(other.sync(stand.program(&policies)).unwrap().changes, 0);

    policies[1].ingress = allow(80);
    clean(&session.sync(stand.program(&policies)).unwrap());
    assert!(connects(80) && !connects(81));
    policies[0].egress = allow(81);
    clean(&session.sync(stand.program(&policies)).unwrap());
    assert!(!connects(80) && !connects(81));
    policies[1].ingress = allow(81);
    clean(&session.sync(stand.program(&policies)).unwrap());
    assert!(!connects(80) && connects(81));
    assert_eq!(session.sync(stand.program(&policies)).unwrap().changes, 0);

    // The table is full: rules run in software, and say no less no. Room is back: they come back.
    parameter("max_rules", "8");
    policies[0].egress = allow(80);
    policies[1].ingress = allow(80);
    let full = session.sync(stand.program(&policies)).unwrap();
    assert!(full.refusals.is_empty() && !full.mismatches.is_empty(), "{full:?}");
    assert!(full.software.iter().any(|it| it.why == Why::Refused));
    assert!(connects(80) && !connects(81));
    parameter("max_rules", "65536");
    let mut rounds = 0;
    while !session.sync(stand.program(&policies)).unwrap().mismatches.is_empty() {
        rounds += 1;
        assert!(rounds < 20, "it never comes back");
    }
    assert!(connects(80) && !connects(81));

    session.sync(Program::default()).unwrap();
    for device in ["pf0vf0", "pf0vf1", "p0"] {
        assert!(tc_filters(device).is_empty(), "{device}");
    }
}
