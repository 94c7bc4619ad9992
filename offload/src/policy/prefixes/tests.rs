use proptest::prelude::*;

use super::*;

/// Few addresses, so that prefixes meet.
fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (0..32u32, 0..=32u8)
        .prop_map(|(low, len)| Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 | low), len).unwrap().into());
    let v6 = (0..32u128, 0..=128u8)
        .prop_map(|(low, len)| Ipv6Net::new(Ipv6Addr::from(0xfd00 << 112 | low), len).unwrap().into());
    let near = (0..32u32, 26..=32u8)
        .prop_map(|(low, len)| Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 | low), len).unwrap().into());
    proptest::collection::vec(prop_oneof![v4, v6, near], 0..8)
}

proptest! {
    #[test]
    fn a_set_is_what_its_prefixes_say(a in nets(), b in nets(), far in any::<u32>()) {
        let (set_a, set_b): (PrefixSet, PrefixSet) = (a.iter().copied().collect(), b.iter().copied().collect());
        let v4 = (0..34u32).map(|low| 0x0a00_0000 | low).chain([far]).map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
        let v6 = (0..34u128).map(|low| IpAddr::from(Ipv6Addr::from(0xfd00 << 112 | low)));
        for ip in v4.chain(v6) {
            let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
            prop_assert_eq!(set_a.contains(ip), within(&a));
            prop_assert_eq!(set_a.union(&set_b).contains(ip), within(&a) || within(&b));
            prop_assert_eq!(set_a.difference(&set_b).contains(ip), within(&a) && !within(&b));
        }
        prop_assert_eq!(set_a.union(&set_b), set_b.union(&set_a));
        prop_assert_eq!(set_a.is_any(), set_a == PrefixSet::any());
        // One address at a time is the same value as all at once.
        let mut one_by_one = set_a.clone();
        for ip in (0..40u32).map(|low| IpAddr::from(Ipv4Addr::from(0x0a00_0000 | low))).chain([0x0a00_0007, far].map(|ip| Ipv4Addr::from(ip).into())) {
            let single = PrefixSet::from(IpNet::from(ip));
            let (mut more, mut less) = (set_a.clone(), set_a.clone());
            more.insert(ip);
            less.remove(ip);
            prop_assert_eq!(&more, &set_a.union(&single));
            prop_assert_eq!(&less, &set_a.difference(&single));
            one_by_one.insert(ip);
        }
        for low in 0..40u128 {
            one_by_one.insert(Ipv6Addr::from(0xfd00 << 112 | low).into());
        }
        prop_assert!(one_by_one.v4.len() <= set_a.v4.len() + 4);
        // Disjoint: a prefix can be met once.
        let disjoint = |set: &PrefixSet| {
            set.v4().enumerate().all(|(i, x)| set.v4().skip(i + 1).all(|y| !x.contains(&y) && !y.contains(&x)))
        };
        prop_assert!(disjoint(&set_a) && disjoint(&set_a.difference(&set_b)));
    }
}

/// Whole prefixes of each version, with holes anywhere, their ends among them.
fn holes() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 =
        (any::<u32>(), 0..=32u8).prop_map(|(bits, len)| IpNet::from(Ipv4Net::new(bits.into(), len).unwrap()));
    let v6 = (any::<u128>(), 0..=128u8)
        .prop_map(|(bits, len)| IpNet::from(Ipv6Net::new(bits.into(), len).unwrap()));
    let ends = prop_oneof![
        Just("0.0.0.0/32"),
        Just("255.255.255.255/32"),
        Just("::/128"),
        Just("128.0.0.0/1"),
        Just("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
        Just("0.0.0.0/0"),
        Just("::/0")
    ]
    .prop_map(|it| it.parse::<IpNet>().unwrap());
    proptest::collection::vec(prop_oneof![4 => v4, 4 => v6, 1 => ends], 0..24)
}

proptest! {
    /// Asked at every edge of every prefix, where membership can change.
    #[test]
    fn a_difference_is_what_is_in_one_and_not_in_the_other(a in holes(), b in holes()) {
        let (set_a, set_b): (PrefixSet, PrefixSet) = (a.iter().copied().collect(), b.iter().copied().collect());
        let whole = PrefixSet::any();
        for (of, from) in [(set_a.difference(&set_b), &a), (whole.difference(&set_b), &whole.iter().collect())] {
            let beside = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => [u32::from(ip).wrapping_sub(1), u32::from(ip).wrapping_add(1)].map(|it| Ipv4Addr::from(it).into()),
                IpAddr::V6(ip) => [u128::from(ip).wrapping_sub(1), u128::from(ip).wrapping_add(1)].map(|it| Ipv6Addr::from(it).into()),
            };
            let ends = a.iter().chain(&b).flat_map(|net| [net.network(), net.broadcast()]);
            for ip in ends.flat_map(|ip| beside(ip).into_iter().chain([ip])) {
                let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
                prop_assert_eq!(of.contains(ip), within(from) && !within(&b), "{}", ip);
            }
            // The one form that such a set has.
            prop_assert_eq!(&of, &of.iter().collect());
            let size = of.len();
            let of_a = from.iter().copied().collect::<PrefixSet>();
            prop_assert_eq!(of_a.difference_within(&set_b, size), Ok(of));
            if let Some(less) = size.checked_sub(1) {
                prop_assert_eq!(of_a.difference_within(&set_b, less), Err(size));
            }
        }
    }
}

#[test]
fn every_address_is_those_of_both_versions() {
    let set = |nets: &[&str]| nets.iter().map(|it| it.parse::<IpNet>().unwrap()).collect::<PrefixSet>();
    assert!(PrefixSet::any().is_any() && set(&["::/0", "0.0.0.0/1", "128.0.0.0/1"]).is_any());
    for some in [&["0.0.0.0/0"][..], &["::/0"], &["0.0.0.0/0", "::/1"], &[]] {
        assert!(!set(some).is_any(), "{some:?}");
    }
}

proptest! {
    /// A set that many share while addresses come and go: each time it is what it would be made anew, and what was
    /// copied before stays as it was.
    #[test]
    fn one_address_after_the_other_is_the_same_as_all_anew(
        first in proptest::collection::btree_set(0..512u32, 0..400),
        changes in proptest::collection::vec((any::<bool>(), 0..512u32), 1..100),
    ) {
        let v4 = |it: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 | it));
        let v6 = |it: u32| IpAddr::from(Ipv6Addr::from(0xfd00 << 112 | u128::from(it)));
        let anew = |of: &std::collections::BTreeSet<u32>| -> PrefixSet {
            of.iter().flat_map(|it| [v4(*it), v6(*it)]).collect()
        };
        let (mut wanted, mut set) = (first.clone(), anew(&first));
        for (comes, it) in changes {
            let (copy, before) = (set.clone(), anew(&wanted));
            if comes {
                wanted.insert(it);
                set.insert(v4(it));
                set.insert(v6(it));
            } else {
                wanted.remove(&it);
                set.remove(v4(it));
                set.remove(v6(it));
            }
            prop_assert_eq!(&set, &anew(&wanted));
            prop_assert_eq!(copy == set, before == set);
            prop_assert_eq!(copy, before);
        }
    }
}
