//! Cases that random worlds meet too seldom.

use super::kernel::Kernel;
use super::random::{Pod, UPLINK, World, mac, v4, v6};
use super::steps::{program, sync};
use super::verdicts::deliveries;
use crate::checker::{Profile, settle, withdraw};
use crate::flower::interpret::{Engine, Nic};
use crate::flower::{ChainIndex, Change, Place, Pref};
use crate::ids::{IfIndex, MacAddr};
use crate::openflow::interpret::{Body, Frame, Icmp, Ip, L4, Piece};
use crate::policy::{Action, Origin, PodPolicy, PrefixSet, Rule, Rules, Tier, Traffic};

fn only(port: u16) -> Rules {
    let rule = Rule {
        action: Action::Allow,
        peers: PrefixSet::any(),
        traffic: Traffic::tcp(port),
        origin: Origin(1),
    };
    Rules { tiers: vec![Tier { rules: vec![rule], otherwise: Action::Deny, origin: Origin(2) }] }
}

fn world(egress: Rules, ingress: Rules) -> World {
    let pod = |n: u8, policy| Pod {
        rep: IfIndex(10 + u32::from(n)),
        vlan: 100,
        mac: mac(n),
        ipv4: vec![v4(n)],
        ipv6: vec![],
        policy,
    };
    let one = PodPolicy { egress, ..PodPolicy::default() };
    let two = PodPolicy { ingress, ..PodPolicy::default() };
    World { pods: vec![pod(1, one), pod(2, two)] }
}

/// Port 80: first the sender denies it, then the receiver. Never both let it be, and it never passes.
#[test]
fn egress_and_ingress_change_in_one_flip() {
    let (old, new) = (world(only(81), only(80)), world(only(80), only(81)));
    let mut kernel = Kernel::new();
    sync(&mut kernel, &program(&old), |_, _| {});
    let l4 = L4::Tcp { src: 1000, dst: 80, syn: true };
    let body = Body::Ipv4(Ip { src: v4(1), dst: v4(2), ttl: 64, piece: Piece::Whole, l4 });
    let frame = Frame { eth_src: mac(1), eth_dst: mac(2), vlan: None, body };
    let mut steps = 0;
    sync(&mut kernel, &program(&new), |change, filters| {
        steps += 1;
        for engine in [Engine::Software, Engine::Eager] {
            let outcome = Nic::new(filters).receive(IfIndex(11), frame.clone(), engine).unwrap();
            assert!(deliveries(&outcome).is_empty(), "after {change:?}");
        }
    });
    assert!(steps > 5);
}

/// From a pod whose policy lets nothing of the kind by, and to one; from the wire to both.
#[test]
fn discovery_has_the_hop_limit_and_the_ends_of_a_link() {
    let mut world = world(only(80), only(80));
    for (pod, n) in world.pods.iter_mut().zip(1..) {
        pod.ipv6 = vec![v6(n)];
    }
    let mut kernel = Kernel::new();
    sync(&mut kernel, &program(&world), |_, _| {});
    let (own, local, nobody) = ("fd00::1", "fe80::ff:fe00:1", "::");
    for (wire, src, dst, kind, ttl, reach) in [
        (false, own, "ff02::1:ff00:2", 135, 255, 2),
        (false, own, "ff02::1:ff00:2", 135, 254, 0),
        (false, own, "ff02::1", 135, 255, 0),
        (false, nobody, "ff02::1:ff00:1", 135, 255, 2),
        (false, nobody, "ff02::1:ff00:2", 135, 255, 0),
        (false, own, "ff02::1", 136, 255, 2),
        (false, own, "ff02::1", 136, 1, 0),
        (false, own, "2001:db8::9", 136, 255, 0),
        (false, local, "ff02::2", 133, 255, 2),
        (false, local, "ff02::2", 133, 64, 0),
        (false, local, "ff02::1", 133, 255, 0),
        (false, local, "ff02::1", 134, 255, 0),
        (true, "fe80::9", "ff02::1", 134, 255, 2),
        (true, "2001:db8::9", "ff02::1", 134, 255, 0),
        (true, "fe80::9", "ff02::1", 134, 64, 0),
        (true, "fd00::9", "ff02::1:ff00:1", 135, 255, 2),
        (true, "fd00::9", "ff02::1:ff00:9", 135, 255, 0),
        (true, "fe80::9", "ff02::2", 133, 255, 0),
    ] {
        let l4 = L4::Icmp(Icmp { kind, code: 0, id: 0, about: None, nd: None });
        let ip = Ip { src: src.parse().unwrap(), dst: dst.parse().unwrap(), ttl, piece: Piece::Whole, l4 };
        let (port, eth_src, vlan) =
            if wire { (UPLINK, mac(9), Some(100)) } else { (IfIndex(11), mac(1), None) };
        let eth_dst = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
        let frame = Frame { eth_src, eth_dst, vlan, body: Body::Ipv6(ip) };
        for engine in [Engine::Software, Engine::Eager] {
            let outcome = Nic::new(&kernel.filters).receive(port, frame.clone(), engine).unwrap();
            assert_eq!(deliveries(&outcome).len(), reach, "{src} to {dst}, type {kind}, {ttl} hops");
        }
    }
}

/// `forward` holds delivery, drop and the way out, each over the next. Without the first in hardware the others leave
/// from below: were the drop first, its packets would go out to the wire.
#[test]
fn what_must_leave_the_hardware_leaves_from_below() {
    let mut kernel = Kernel::new();
    sync(&mut kernel, &program(&world(only(80), only(80))), |_, _| {});
    let forward = Place { port: IfIndex(11), chain: ChainIndex(2), pref: Pref::new(2).unwrap() };
    let filters = kernel.filters.get_mut(&forward.port).unwrap().chains.get_mut(&forward.chain).unwrap();
    filters.get_mut(&forward.pref).unwrap()[0].in_hw = false;
    let left: Vec<u16> = settle(&kernel.filters, &Profile::MLX5)
        .iter()
        .map(|change| match change {
            Change::Replace { at, .. } if (at.port, at.chain) == (forward.port, forward.chain) => {
                at.pref.0.get()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    // The drop of the pod's own MAC and that of groups stay: nothing that is not in hardware overlaps them.
    assert_eq!(left, [65_535, 5, 4]);
    assert!(kernel.filters.contains_key(&UPLINK));
}

/// When the hardware is not to be believed, all leaves it and comes back. At no step is anything let by that is denied, nor
/// lost that is allowed.
#[test]
fn what_is_withdrawn_comes_back() {
    let mut kernel = Kernel::new();
    sync(&mut kernel, &program(&world(only(80), only(80))), |_, _| {});
    let before = kernel.filters.clone();
    let passes = |kernel: &Kernel| {
        for (dst, passed) in [(80, 1), (81, 0)] {
            let l4 = L4::Tcp { src: 1000, dst, syn: true };
            let body = Body::Ipv4(Ip { src: v4(1), dst: v4(2), ttl: 64, piece: Piece::Whole, l4 });
            let frame = Frame { eth_src: mac(1), eth_dst: mac(2), vlan: None, body };
            for engine in [Engine::Software, Engine::Eswitch, Engine::Eager] {
                let outcome = Nic::new(&kernel.filters).receive(IfIndex(11), frame.clone(), engine).unwrap();
                assert_eq!(deliveries(&outcome).len(), passed, "port {dst}, {engine:?}");
            }
        }
    };
    let in_hardware = |kernel: &Kernel| {
        let chains = kernel.filters.values().flat_map(|it| it.chains.values());
        chains.flat_map(|it| it.values()).flatten().filter(|it| it.in_hw).count()
    };
    assert!(in_hardware(&kernel) > 10);
    for change in withdraw(&kernel.filters) {
        kernel.apply(&change);
        passes(&kernel);
    }
    assert_eq!(in_hardware(&kernel), 0);
    loop {
        let changes = settle(&kernel.filters, &Profile::MLX5);
        if changes.is_empty() {
            break;
        }
        for change in changes {
            kernel.apply(&change);
            passes(&kernel);
        }
    }
    assert_eq!(kernel.filters, before);
}
