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
        Event::Begin,
        Event::Object(pod("x", true)),
        Event::Object(pod("y", true)),
        Event::Object(pod("z", false)),
        Event::End,
    ];
    assert_eq!(take(&mut known, first), ["+x", "+y", "listed"]);
    let again = vec![Event::Begin, Event::Object(pod("y", true))];
    assert_eq!(take(&mut known, again), ["+y"]);
    assert_eq!(take(&mut known, vec![Event::End]), ["-x", "listed"]);
    assert_eq!(known.there.len(), 1);
}

#[test]
fn a_list_that_was_cut_short_takes_nothing_away() {
    let mut known = Known::new(Kind::Pod);
    take(&mut known, vec![Event::Begin, Event::Object(pod("x", true)), Event::End]);
    let cut = vec![Event::Begin, Event::Begin, Event::Object(pod("x", true)), Event::End];
    assert_eq!(take(&mut known, cut), ["+x", "listed"]);
}

#[test]
fn finished_pods_cost_nothing_and_one_that_finishes_is_gone() {
    let mut known = Known::new(Kind::Pod);
    assert!(take(&mut known, vec![Event::Object(pod("x", false)), Event::Gone(pod("x", false))]).is_empty());
    assert!(known.there.is_empty());
    assert_eq!(
        take(&mut known, vec![Event::Object(pod("x", true)), Event::Object(pod("x", false))]),
        ["+x", "-x"]
    );
    assert_eq!(
        take(&mut known, vec![Event::Object(pod("y", true)), Event::Gone(pod("y", true))]),
        ["+y", "-y"]
    );
    let expected = Change::Pod(ObjectName::new("a", "y"), None);
    assert_eq!(Known::<PodObject>::gone(&(Some("a".into()), "y".into())), Some(Input::Change(expected)));
}
