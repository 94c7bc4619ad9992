//! The underlay's program on a real kernel and a simulated NIC, with real packets between two pods of one NIC. Runs in the
//! lab VM, as root; `cargo test -p offload --test underlay_vm` there. What was written is read back with `tc`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[allow(dead_code)] // shared with the session's own tests, which use more of it
#[path = "netlink_vm/bench.rs"]
mod bench;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bench::{Bench, Nic, output, parameter, run, tc_filters};
use nix::sched::{CloneFlags, setns};
use offload::checker::{Profile, Why};
use offload::ids::{CtZone, IfIndex, MacAddr};
use offload::netlink::link;
use offload::netlink::socket::{NetlinkSocket, Protocol};
use offload::policy::{Action, Origin, PodPolicy, PrefixSet, Rule, Rules, Tier, Traffic};
use offload::underlay::session::{Report, Session};
use offload::underlay::{Member, Program, Underlay, compile};

const PODS: [&str; 2] = ["ulvm-a", "ulvm-b"];

fn address(pod: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 50, 10 + u8::try_from(pod).unwrap())
}

fn mac(pod: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 5, u8::try_from(pod).unwrap()])
}

fn route() -> NetlinkSocket {
    NetlinkSocket::open(Protocol::Route).unwrap()
}

fn index(name: &str) -> IfIndex {
    link::link_by_name(&mut route(), name).unwrap().unwrap_or_else(|| panic!("no device {name}")).ifindex
}

struct Pods;

impl Pods {
    fn new(nic: &Nic) -> Self {
        let pci = format!("/sys/bus/pci/devices/{:04x}:03:00.0/sriov_numvfs", 0x1000 + nic.id);
        std::fs::write(&pci, "2").unwrap_or_else(|error| panic!("{pci}: {error}"));
        run("ip link set p0 up");
        for (i, pod) in PODS.iter().enumerate() {
            run(&format!("ip netns add {pod}"));
            run(&format!("nsenter -t 1 -n ip link set ens{}v{i} netns {pod} name eth0", nic.id));
            run(&format!("ip -n {pod} link set eth0 address {}", mac(i)));
            run(&format!("ip -n {pod} link set eth0 up"));
            run(&format!("ip -n {pod} addr add {}/24 dev eth0", address(i)));
            run(&format!("ip link set pf0vf{i} up"));
        }
        Self
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for pod in PODS {
            let _ = output(&format!("ip netns del {pod}"));
        }
    }
}

fn inside<T: Send>(pod: usize, work: impl FnOnce() -> T + Send) -> T {
    let act = move || {
        setns(File::open(format!("/run/netns/{}", PODS[pod])).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

/// Does a connection from the first pod to the second one come about?
fn connects(port: u16) -> bool {
    let to = SocketAddr::from((address(1), port));
    let _listener = inside(1, move || TcpListener::bind(to).unwrap());
    inside(0, move || TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok())
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

fn program(policies: &[PodPolicy; 2]) -> Program {
    let ips = [[address(0)], [address(1)]];
    let member = |pod: usize| Member {
        rep: index(&format!("pf0vf{pod}")),
        mac: mac(pod),
        ipv4: &ips[pod],
        ipv6: &[],
        policy: &policies[pod],
    };
    let members = vec![member(0), member(1)];
    compile(&[Underlay { vlan: 100, zone: CtZone::new(62_000).unwrap(), uplink: index("p0"), members }])
        .unwrap()
}

fn clean(report: &Report) {
    assert!(report.refusals.is_empty(), "{:?}", report.refusals);
    assert!(report.mismatches.is_empty(), "{:?} {:?}", report.mismatches, report.warnings);
}

#[test]
fn two_pods_may_what_both_policies_let_them() {
    let mut bench = Bench::new();
    let nic = bench.nic(2);
    let _pods = Pods::new(&nic);
    let mut session = Session::new(route(), Profile::MLX5);
    let open = PodPolicy::default();
    let mut policies = [open.clone(), open];

    let first = session.sync(program(&policies)).unwrap();
    clean(&first);
    assert!(first.changes > 40, "{first:?}");
    assert!(first.software.iter().all(|it| it.why != Why::Refused), "{:?}", first.software);
    let in_hw = |dev: &str| tc_filters(dev).iter().filter(|it| it["options"]["in_hw"] == true).count();
    assert!(in_hw("pf0vf0") > 10 && in_hw("p0") > 5, "{} {}", in_hw("pf0vf0"), in_hw("p0"));
    assert!(connects(80) && connects(81));

    // Read back, nothing is left to do; whoever comes anew finds the same.
    assert_eq!(session.sync(program(&policies)).unwrap().changes, 0);
    let mut other = Session::new(route(), Profile::MLX5);
    assert_eq!(other.sync(program(&policies)).unwrap().changes, 0);

    policies[1].ingress = allow(80);
    clean(&session.sync(program(&policies)).unwrap());
    assert!(connects(80) && !connects(81));
    policies[0].egress = allow(81);
    clean(&session.sync(program(&policies)).unwrap());
    assert!(!connects(80) && !connects(81));
    policies[1].ingress = allow(81);
    clean(&session.sync(program(&policies)).unwrap());
    assert!(!connects(80) && connects(81));
    assert_eq!(session.sync(program(&policies)).unwrap().changes, 0);

    // The table is full: rules run in software, and say no less no. Room is back: they come back.
    parameter("max_rules", "8");
    policies[0].egress = allow(80);
    policies[1].ingress = allow(80);
    let full = session.sync(program(&policies)).unwrap();
    assert!(full.refusals.is_empty() && !full.mismatches.is_empty(), "{full:?}");
    assert!(full.software.iter().any(|it| it.why == Why::Refused));
    assert!(connects(80) && !connects(81));
    parameter("max_rules", "65536");
    let mut rounds = 0;
    while !session.sync(program(&policies)).unwrap().mismatches.is_empty() {
        rounds += 1;
        assert!(rounds < 20, "it never comes back");
    }
    assert!(connects(80) && !connects(81));

    session.sync(Program::default()).unwrap();
    for device in ["pf0vf0", "pf0vf1", "p0"] {
        assert!(tc_filters(device).is_empty(), "{device}");
    }
}
