use serde_json::json;

use super::*;
use crate::cluster::ObjectName;

fn pod(name: &str, runs: bool) -> PodObject {
    serde_json::from_value(json!({
        "metadata": {"namespace": "a", "name": name, "uid": name},
        "spec": {"nodeName": "n"},
        "status": {"phase": if runs { "Running" } else { "Succeeded" }},
    }))
    .unwrap()
}

fn take(known: &mut Known<PodObject>, events: Vec<Event<PodObject>>) -> Vec<String> {
    let resources = VfResources(vec!["drawbridge.dev/vf".to_owned()]);
    let inputs = events.into_iter().flat_map(|event| known.take(event, &resources)).collect::<Vec<_>>();
    let say = |input: Input| match input {
        Input::Change(Change::Pod(name, pod)) => {
            format!("{}{}", if pod.is_some() { '+' } else { '-' }, name.name)
        }
        Input::Change(other) => panic!("{other:?}"),
        Input::Listed(_) => "listed".to_owned(),
    };
    inputs.into_iter().map(say).collect()
}

#[test]
fn a_list_takes_away_what_it_does_not_name_and_only_at_its_end() {
    let mut known = Known::new(Kind::Pod);
    let first = vec![
        Event::Init,
        Event::InitApply(pod("x", true)),
        Event::InitApply(pod("y", true)),
        Event::InitApply(pod("z", false)),
        Event::InitDone,
    ];
    assert_eq!(take(&mut known, first), ["+x", "+y", "listed"]);
    let again = vec![Event::Init, Event::InitApply(pod("y", true))];
    assert_eq!(take(&mut known, again), ["+y"]);
    assert_eq!(take(&mut known, vec![Event::InitDone]), ["-x", "listed"]);
    assert_eq!(known.there.len(), 1);
}

#[test]
fn a_list_that_was_cut_short_takes_nothing_away() {
    let mut known = Known::new(Kind::Pod);
    take(&mut known, vec![Event::Init, Event::InitApply(pod("x", true)), Event::InitDone]);
    let cut = vec![Event::Init, Event::Init, Event::InitApply(pod("x", true)), Event::InitDone];
    assert_eq!(take(&mut known, cut), ["+x", "listed"]);
}

#[test]
fn finished_pods_cost_nothing_and_one_that_finishes_is_gone() {
    let mut known = Known::new(Kind::Pod);
    assert!(take(&mut known, vec![Event::Apply(pod("x", false)), Event::Delete(pod("x", false))]).is_empty());
    assert!(known.there.is_empty());
    assert_eq!(
        take(&mut known, vec![Event::Apply(pod("x", true)), Event::Apply(pod("x", false))]),
        ["+x", "-x"]
    );
    assert_eq!(
        take(&mut known, vec![Event::Apply(pod("y", true)), Event::Delete(pod("y", true))]),
        ["+y", "-y"]
    );
    let expected = Change::Pod(ObjectName::new("a", "y"), None);
    assert_eq!(Known::<PodObject>::gone(&(Some("a".into()), "y".into())), Some(Input::Change(expected)));
}
