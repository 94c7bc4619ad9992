//! The same from whatever was there and in whatever order it is told; garbage goes and foreigners stay.

use proptest::prelude::*;

use super::dice::Dice;
use super::kernel::Kernel;
use super::random::{World, mac, v4, worlds};
use super::steps::{program, sync};
use crate::checker::Profile;
use crate::flower::{
    Actions, Chain, ChainIndex, Change, Filters, Handle, Installed, Key, Place, Pref, Rule, Skip,
};
use crate::ids::{CtZone, IfIndex};
use crate::openflow::Masked;
use crate::policy::{PodPolicy, Rules};
use crate::underlay::{Error, Member, Plan, PortProgram, Program, Underlay, compile, is_ours, plan};

fn settled(world: &World) -> Kernel {
    let mut kernel = Kernel::new();
    sync(&mut kernel, &program(world), |_, _| {});
    kernel
}

/// What stands, without handles.
fn standing(filters: &Filters) -> Vec<(Place, Option<Rule>)> {
    let mut all: Vec<_> = filters
        .iter()
        .flat_map(|(port, filters)| {
            filters.chains.keys().flat_map(move |chain| {
                filters.chain(*chain).map(move |(pref, filter)| {
                    (Place { port: *port, chain: *chain, pref }, filter.rule.clone())
                })
            })
        })
        .collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_members_does_not_matter(world in worlds(), seed in any::<u64>()) {
        let mut shuffled = world.clone();
        let mut dice = Dice(seed);
        for n in (1..shuffled.pods.len()).rev() {
            shuffled.pods.swap(n, dice.roll(n + 1));
        }
        for pod in &mut shuffled.pods {
            pod.ipv4.reverse();
            pod.ipv6.reverse();
        }
        let mut underlays = shuffled.underlays();
        underlays.reverse();
        prop_assert_eq!(compile(&underlays).unwrap(), compile(&world.underlays()).unwrap());
    }

    #[test]
    fn what_is_applied_stands_and_is_left_alone(world in worlds()) {
        let kernel = settled(&world);
        let wanted = program(&world);
        prop_assert_eq!(plan(&wanted, &kernel.filters), Plan::default());
        let port = |(port, PortProgram { chains, .. }): (&IfIndex, &PortProgram)| {
            let rules = |(chain, rules): (&ChainIndex, &Chain)| {
                let place = |pref| Place { port: *port, chain: *chain, pref };
                rules.rules().map(|(pref, rule)| (place(pref), Some(rule.clone()))).collect::<Vec<_>>()
            };
            chains.iter().flat_map(rules).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = wanted.ports.iter().flat_map(port).collect();
        all.sort();
        prop_assert_eq!(standing(&kernel.filters), all);
    }

    /// After any history, what stands is nothing but the program (under numbers of its own), and after removal nothing.
    #[test]
    fn history_leaves_no_trace(history in proptest::collection::vec(worlds(), 1..5)) {
        let mut kernel = Kernel::new();
        for world in &history {
            sync(&mut kernel, &program(world), |_, _| {});
            prop_assert_eq!(plan(&program(world), &kernel.filters), Plan::default());
            let count = |program: &PortProgram| program.chains.values().map(Chain::len).sum::<usize>();
            let wanted: usize = program(world).ports.values().map(count).sum();
            // The unused one of the two numbers of a dispatch may be left out where nobody leads to it.
            prop_assert_eq!(standing(&kernel.filters).len(), wanted);
        }
        sync(&mut kernel, &Program::default(), |_, _| {});
        prop_assert_eq!(standing(&kernel.filters), vec![]);
    }

    /// Half of an earlier work, filters that vanished, and what others put there.
    #[test]
    fn garbage_goes_and_foreigners_stay(old in worlds(), world in worlds(), seed in any::<u64>()) {
        let mut kernel = settled(&old);
        let mut dice = Dice(seed);
        let half = plan(&program(&world), &kernel.filters);
        let steps: Vec<Change> = half.steps().cloned().collect();
        for step in steps.iter().take(dice.roll(steps.len() + 1)) {
            kernel.apply(step);
        }
        for filters in kernel.filters.values_mut().flat_map(|it| it.chains.values_mut()).flat_map(|it| it.values_mut()) {
            filters.retain(|_| dice.roll(10) != 0);
        }
        let foreign = Rule { key: Key { eth_dst: Masked::exact(mac(77)), ..Key::default() }, actions: Actions::drop(), skip: Skip::None };
        let places = [(0, 60_000), (17, 60_000), (900, 1), (0x4001, 1)].map(|(chain, pref)| (ChainIndex(chain), Pref::new(pref).unwrap()));
        for port in [IfIndex(1), IfIndex(11), IfIndex(77)] {
            for (n, (chain, pref)) in places.into_iter().enumerate() {
                let rule = (n % 2 == 0).then(|| foreign.clone());
                let filter = Installed { handle: Handle(1 << 20), rule, in_hw: false };
                kernel.filters.entry(port).or_default().insert(chain, pref, filter);
            }
        }
        let foreigners = |kernel: &Kernel| -> Vec<_> {
            standing(&kernel.filters).into_iter().filter(|(_, rule)| !rule.as_ref().is_some_and(is_ours)).collect()
        };
        let before = foreigners(&kernel);
        sync(&mut kernel, &program(&world), |_, _| {});
        prop_assert_eq!(foreigners(&kernel), before);
        prop_assert_eq!(plan(&program(&world), &kernel.filters), Plan::default());
    }
}

#[test]
fn only_what_hardware_cannot_do_is_in_software() {
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(world in worlds())| {
        let kernel = settled(&world);
        prop_assert_eq!(crate::checker::compare(&kernel.filters, &Profile::MLX5), vec![]);
        // What known connections meet is all in hardware.
        for it in crate::checker::in_software(&kernel.filters, &Profile::MLX5) {
            let installed = &kernel.filters[&it.at.port];
            let flat = |key: &Key| crate::flower::overlap::Flat::of(key);
            let known = flat(&Key { ct: crate::flower::CtKey::established(), ..Key::default() });
            let met = installed.chain(it.at.chain).any(|(pref, it2)| pref == it.at.pref && !it2.in_hw
                && it2.rule.as_ref().is_some_and(|rule| flat(&rule.key).overlaps(&known) && rule.key != Key::default()));
            prop_assert!(!met, "{it:?}");
        }
    });
}

#[test]
fn nonsense_is_refused() {
    let policy = PodPolicy { egress: Rules::default(), ingress: Rules::default() };
    let (one, two) = ([v4(1)], [v4(2)]);
    let member = |rep: u32, n: u8, ipv4| Member {
        rep: IfIndex(rep),
        mac: mac(n),
        ipv4,
        ipv6: &[],
        on_link: &[],
        policy: &policy,
    };
    let vlan = |vlan, zone, members| Underlay {
        vlan,
        zone: CtZone::new(zone).unwrap(),
        uplink: IfIndex(1),
        members,
    };
    let good = || vec![member(2, 1, &one), member(3, 2, &two)];
    assert!(compile(&[vlan(5, 5, good()), vlan(6, 6, vec![member(4, 1, &one)])]).is_ok());
    let refused = |underlays: &[Underlay<'_>]| compile(underlays).unwrap_err();
    assert_eq!(refused(&[vlan(0, 5, vec![])]), Error::Vlan(0));
    assert_eq!(refused(&[vlan(4095, 5, vec![])]), Error::Vlan(4095));
    assert_eq!(refused(&[vlan(5, 5, vec![]), vlan(5, 6, vec![])]), Error::SameVlan(5, IfIndex(1)));
    assert_eq!(refused(&[vlan(5, 5, vec![]), vlan(6, 5, vec![])]), Error::SameZone(CtZone::new(5).unwrap()));
    assert_eq!(refused(&[vlan(5, 5, vec![member(1, 1, &one)])]), Error::SamePort(IfIndex(1)));
    assert_eq!(
        refused(&[vlan(5, 5, good()), vlan(6, 6, vec![member(2, 3, &one)])]),
        Error::SamePort(IfIndex(2))
    );
    let same = |what: String| Error::SameAddress(5, what);
    assert_eq!(refused(&[vlan(5, 5, vec![member(2, 1, &one), member(3, 2, &one)])]), same("10.0.0.1".into()));
    assert_eq!(
        refused(&[vlan(5, 5, vec![member(2, 1, &one), member(3, 1, &two)])]),
        same(mac(1).to_string())
    );
    let multicast = ["224.0.0.1".parse().unwrap()];
    assert!(matches!(refused(&[vlan(5, 5, vec![member(2, 1, &multicast)])]), Error::NotOwn(IfIndex(2), _)));
}
