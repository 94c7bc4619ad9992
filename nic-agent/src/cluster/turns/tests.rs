use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::kinds::{Namespaces, NetworkPolicies, Watched};
use crate::cluster::object::Seen;

const POLICIES: Kind = Kind::NetworkPolicies;

fn named(namespace: &str, name: &str, version: u64, size: usize) -> Named {
    let policy = json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("u-{version}"),
        "resourceVersion": version.to_string(), "annotations": {"long": "x".repeat(size)}}});
    of::<NetworkPolicies>(&policy)
}

/// The text is not all there is to an object: what is called of a size is a little larger.
fn of<K: Watched>(object: &Value) -> Named {
    let seen: Seen<K> = serde_json::from_str(&object.to_string()).unwrap();
    Named { name: seen.name(), uid: seen.uid(), version: seen.version(), unread: seen.unread }
}

fn small(namespace: &str, name: &str, version: u64) -> Event<Named> {
    Event::Object(named(namespace, name, version, 0))
}

fn gone(namespace: &str, name: &str, version: u64) -> Event<Named> {
    Event::Gone(named(namespace, name, version, 0))
}

fn put(turns: &mut Turns, event: Event<Named>) -> bool {
    turns.put(Said { kind: POLICIES, event })
}

/// As text, without what every round says.
fn texts(round: Vec<Next>) -> Vec<String> {
    let text = |next: Next| match next.what {
        What::Object(it) => Some(format!("{} {}", it.name, it.version)),
        What::Gone(name, uid) => Some(format!("{name} gone {uid}")),
        What::Listed(names) => {
            let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
            Some(format!("listed {}", names.into_iter().collect::<Vec<_>>().join(",")))
        }
        What::Superseded(count) => Some(format!("superseded {count}")),
        What::Well => Some("well".to_owned()),
        What::Failed(_) => Some("failed".to_owned()),
        What::Heard(_) => None,
    };
    round.into_iter().filter_map(text).collect()
}

fn heard(round: &[Next]) -> u64 {
    let of = |next: &Next| match next.what {
        What::Heard(version) => Some(version),
        _ => None,
    };
    round.iter().find_map(of).unwrap_or(0)
}

#[test]
fn of_an_object_the_last_version_counts() {
    let mut turns = Turns::default();
    for version in 1..=5 {
        put(&mut turns, small("a", "p", version));
    }
    assert_eq!(texts(turns.round(true)), ["a/p 5", "superseded 4"]);
    assert!(turns.is_empty() && turns.size == 0);
    assert!(texts(turns.round(true)).is_empty());
}

#[test]
fn that_one_was_gone_in_between_is_said() {
    let mut turns = Turns::default();
    put(&mut turns, small("a", "p", 1));
    put(&mut turns, gone("a", "p", 2));
    put(&mut turns, small("a", "p", 3));
    put(&mut turns, small("a", "p", 4));
    assert_eq!(texts(turns.round(true)), ["a/p gone u-2", "a/p 4", "superseded 2"]);
    put(&mut turns, small("a", "p", 5));
    put(&mut turns, gone("a", "p", 6));
    assert_eq!(texts(turns.round(true)), ["a/p gone u-6", "superseded 1"]);
}

#[test]
fn a_namespace_has_its_part_of_a_round() {
    let mut turns = Turns::default();
    let large = |name: &str, version| Event::Object(named("loud", name, version, PART - 2000));
    for version in 1..=6 {
        put(&mut turns, large(&format!("p{version}"), version));
    }
    put(&mut turns, small("calm", "p", 7));
    let first = turns.round(true);
    assert_eq!(heard(&first), 1, "2 waits");
    assert_eq!(texts(first), ["loud/p1 1", "calm/p 7"]);
    for version in 2..=5 {
        let round = turns.round(true);
        assert_eq!(heard(&round), version, "{version} was the last of which nothing earlier waits");
        assert_eq!(texts(round), [format!("loud/p{version} {version}")]);
    }
    let last = turns.round(true);
    assert_eq!((heard(&last), turns.is_empty()), (7, true));
}

#[test]
fn who_has_just_had_a_part_lets_others_go_first() {
    let mut turns = Turns::default();
    for version in 1..=3 {
        put(&mut turns, Event::Object(named("loud", &format!("p{version}"), version, PART - 2000)));
    }
    assert!(turns.is_urgent());
    assert_eq!(texts(turns.round(true)), ["loud/p1 1"]);
    assert!(!turns.is_urgent() && !turns.is_empty());
    assert!(!put(&mut turns, small("loud", "p1", 4)) && !turns.is_urgent(), "it has had its part");
    assert!(put(&mut turns, small("calm", "p", 5)) && turns.is_urgent());
    assert_eq!(texts(turns.round(false)), ["calm/p 5"]);
    assert!(!put(&mut turns, small("calm", "p", 6)) && !turns.is_urgent());
    assert!(texts(turns.round(false)).is_empty());
    assert_eq!(texts(turns.round(true)), ["loud/p2 2", "calm/p 6"]);
    assert_eq!(texts(turns.round(true)), ["loud/p3 3", "loud/p1 4"]);
    // What has no turn to wait for is urgent.
    assert!(put(&mut turns, Event::Well) && turns.is_urgent());
}

#[test]
fn what_is_larger_than_a_part_has_its_turn_all_the_same() {
    let mut turns = Turns::default();
    let huge = |namespace: &str, version| Event::Object(named(namespace, "p", version, 3 * PART));
    put(&mut turns, huge("loud", 1));
    assert_eq!(texts(turns.round(true)), ["loud/p 1"], "nobody else waits");
    put(&mut turns, huge("loud", 2));
    for version in 3..6 {
        put(&mut turns, small("calm", "p", version));
        assert_eq!(texts(turns.round(true)), [format!("calm/p {version}")]);
    }
    put(&mut turns, small("calm", "p", 6));
    assert_eq!(texts(turns.round(true)), ["loud/p 2", "calm/p 6"]);
}

#[test]
fn so_many_namespaces_as_fit_have_their_turn_in_one_round() {
    let mut turns = Turns::default();
    for number in 0..10_000_usize {
        put(&mut turns, small(&format!("n{number}"), "p", 1));
        if !turns.has_room() {
            break;
        }
    }
    assert_eq!(turns.objects.len(), MOST_OBJECTS);
    let mut rounds = 0;
    while !turns.is_empty() {
        turns.round(true);
        rounds += 1;
    }
    assert!((2..5).contains(&rounds), "{rounds}");
}

#[test]
fn there_is_room_for_so_many_bytes() {
    let mut turns = Turns::default();
    let mut count = 0;
    while turns.has_room() {
        put(&mut turns, Event::Object(named("a", &format!("p{count}"), 1, 3 << 20)));
        count += 1;
    }
    assert_eq!(count, 6);
    // The same again takes no more.
    let before = turns.size;
    put(&mut turns, Event::Object(named("a", "p0", 2, 3 << 20)));
    assert_eq!(turns.size, before);
}

#[test]
fn a_list_has_ended_when_all_that_it_named_is_out() {
    let mut turns = Turns::default();
    put(&mut turns, Event::Begin);
    put(&mut turns, Event::Object(named("a", "big", 1, 2 * PART)));
    put(&mut turns, small("b", "q", 2));
    put(&mut turns, Event::End);
    put(&mut turns, Event::Well);
    put(&mut turns, small("b", "later", 3));
    assert_eq!(texts(turns.round(true)), ["well", "b/q 2", "b/later 3"]);
    put(&mut turns, gone("b", "q", 4));
    // Nothing that came after the list is taken for gone.
    assert_eq!(texts(turns.round(true)), ["b/q gone u-4"]);
    assert_eq!(texts(turns.round(true)), ["a/big 1", "listed a/big,b/later,b/q"]);
    put(&mut turns, Event::Begin);
    put(&mut turns, Event::End);
    assert_eq!(texts(turns.round(true)), ["listed "], "of nothing nothing waits");
}

#[test]
fn a_list_that_failed_names_nothing() {
    let mut turns = Turns::default();
    put(&mut turns, Event::Begin);
    put(&mut turns, small("a", "p", 1));
    put(&mut turns, Event::Failed(kube_watch::Trouble::new(kube_watch::Cause::Server, "500")));
    assert_eq!(texts(turns.round(true)), ["failed", "a/p 1"]);
    put(&mut turns, Event::Begin);
    put(&mut turns, Event::End);
    assert_eq!(texts(turns.round(true)), ["listed "]);
}

#[test]
fn a_namespace_object_is_its_own_namespaces() {
    let name = ObjectName::new("", "shop");
    assert_eq!(&*owner(Kind::Namespaces, &name), "shop");
    assert_eq!(&*owner(Kind::Nodes, &name), "");
    let mut turns = Turns::default();
    let object = of::<Namespaces>(&json!({"metadata": {"name": "shop"}}));
    turns.put(Said { kind: Kind::Namespaces, event: Event::Object(object) });
    assert_eq!(turns.order, ["shop".into()]);
}

#[derive(Clone, Debug)]
enum Step {
    Object(u8, u8, usize),
    Gone(u8, u8),
    Round(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![4 => 0..10_usize, 1 => Just(PART / 2), 1 => Just(2 * PART)];
    let step = prop_oneof![
        4 => (0..3_u8, 0..4_u8, size).prop_map(|(namespace, name, size)| Step::Object(namespace, name, size)),
        1 => (0..3_u8, 0..4_u8).prop_map(|(namespace, name)| Step::Gone(namespace, name)),
        2 => any::<bool>().prop_map(Step::Round),
    ];
    proptest::collection::vec(step, 0..60)
}

/// What there is, by what was said.
fn take(there: &mut BTreeMap<ObjectName, u64>, event: &Event<Named>) {
    match event {
        Event::Object(it) => drop(there.insert(it.name.clone(), it.version)),
        Event::Gone(it) => drop(there.remove(&it.name)),
        _ => {}
    }
}

proptest! {
    /// Whatever was superseded, at the end there is what would be without; and up to the version that was heard of it
    /// is so before the end, too.
    #[test]
    fn at_the_end_it_is_as_if_each_had_been_handed_out(steps in steps()) {
        let mut turns = Turns::default();
        let (mut said, mut got) = (BTreeMap::new(), BTreeMap::new());
        // Of each object the versions at which something was said of it.
        let mut history: BTreeMap<ObjectName, Vec<u64>> = BTreeMap::new();
        let mut version = 0;
        let mut rounds = 0;
        for step in steps.into_iter().chain(std::iter::repeat_n(Step::Round(true), 2000)) {
            version += 1;
            let (namespace, name, size) = match step {
                Step::Object(namespace, name, size) => (namespace, name, Some(size)),
                Step::Gone(namespace, name) => (namespace, name, None),
                Step::Round(is_for_all) => {
                    let was_empty = turns.is_empty();
                    let round = turns.round(is_for_all);
                    rounds += 1;
                    let heard = heard(&round);
                    for next in round {
                        match next.what {
                            What::Object(it) => take(&mut got, &Event::Object(it)),
                            What::Gone(name, _) => drop(got.remove(&name)),
                            _ => {}
                        }
                    }
                    for (name, versions) in &history {
                        let last = versions.last().copied().unwrap_or(0);
                        if last <= heard {
                            prop_assert_eq!(got.get(name), said.get(name), "{} at {}", name, heard);
                        }
                    }
                    if was_empty {
                        break;
                    }
                    continue;
                }
            };
            let named = named(&format!("n{namespace}"), &format!("p{name}"), version, size.unwrap_or(0));
            history.entry(named.name.clone()).or_default().push(version);
            let event = if size.is_some() { Event::Object(named) } else { Event::Gone(named) };
            take(&mut said, &event);
            put(&mut turns, event);
        }
        prop_assert!(rounds > 0 && turns.is_empty() && turns.size == 0 && turns.order.is_empty());
        prop_assert!(turns.namespaces.is_empty() && turns.kinds.values().all(|it| it.waiting == 0 && it.versions.is_empty()));
        prop_assert_eq!(got, said);
    }
}
