use proptest::prelude::*;

use super::*;

const MOST: Limits =
    Limits { service: Served { ports: 4, endpoints: 9 }, namespace: Served { ports: 7, endpoints: 20 } };

fn name(namespace: u8, name: u8) -> ObjectName {
    ObjectName::new(format!("n{namespace}"), format!("s{name}"))
}

/// From the whole of what there is: who is too much by himself is refused, of the others the small ones fit first, and the first
/// by name of two of one size.
fn refused(all: &BTreeMap<ObjectName, Served>) -> BTreeSet<ObjectName> {
    let alone = |it: &Served| it.ports > 4 || it.endpoints > 9;
    let mut refused: BTreeSet<ObjectName> =
        all.iter().filter(|(_, it)| alone(it)).map(|(name, _)| name.clone()).collect();
    let mut others: Vec<(&ObjectName, &Served)> = all.iter().filter(|(_, it)| !alone(it)).collect();
    others.sort_by_key(|(name, it)| (it.ports, it.endpoints, (*name).clone()));
    let mut sums: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, it) in others {
        let sum = sums.entry(&*name.namespace).or_default();
        *sum = (sum.0 + it.ports, sum.1 + it.endpoints);
        if sum.0 > 7 || sum.1 > 20 {
            refused.insert(name.clone());
        }
    }
    refused
}

proptest! {
    #[test]
    fn who_is_refused_follows_from_what_there_is(
        steps in proptest::collection::vec(
            (0..2u8, 0..5u8, proptest::option::weighted(0.75, (0..6usize, 0..12usize))), 1..40,
        ),
    ) {
        let mut shares = Shares::new(MOST);
        let mut all = BTreeMap::new();
        for (namespace, of, cost) in steps {
            let name = name(namespace, of);
            let before = refused(&all);
            let cost = cost.map(|(ports, endpoints)| Served { ports, endpoints });
            match cost {
                Some(cost) => all.insert(name.clone(), cost),
                None => all.remove(&name),
            };
            let moved = shares.set(&name, cost);
            let now = refused(&all);
            prop_assert_eq!(&moved, &before.symmetric_difference(&now).cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(shares.refused().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), now.clone());
            prop_assert!(all.keys().all(|it| shares.refuses(it) == now.contains(it)));
            for (_, excess) in shares.refused() {
                prop_assert!(excess.found > excess.most, "{}", excess);
            }
        }
    }
}
