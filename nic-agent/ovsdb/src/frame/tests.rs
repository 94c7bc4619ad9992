use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn frames(framer: &mut Framer, bytes: &[u8]) -> Vec<Vec<u8>> {
    framer.push(bytes);
    let mut out = Vec::new();
    while let Some(frame) = framer.next_frame().unwrap() {
        out.push(frame);
    }
    out
}

#[test]
fn brackets_and_escaped_quotes_inside_strings_do_not_count() {
    let text = br#"{"a":"}{[\"\\","b":["]"]}"#;
    let mut framer = Framer::new(1000);
    assert_eq!(frames(&mut framer, text), vec![text.to_vec()]);
    assert_eq!(framer.pending(), 0);
}

#[test]
fn two_messages_in_one_read_are_two_frames() {
    let mut framer = Framer::new(1000);
    assert_eq!(
        frames(&mut framer, b"{\"id\":1}\n {\"id\":2}{"),
        vec![b"{\"id\":1}".to_vec(), b"{\"id\":2}".to_vec()]
    );
    assert_eq!(framer.pending(), 1);
}

#[test]
fn garbage_is_refused() {
    for (text, byte) in
        [(&b"x"[..], b'x'), (b"{}]", b']'), (b"HTTP/1.1 400", b'H'), (b"[1]", b'['), (b"\0", 0)]
    {
        let mut framer = Framer::new(1000);
        framer.push(text);
        let error = loop {
            match framer.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{text:?} accepted"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, FrameError::Garbage { byte });
    }
}

#[test]
fn the_limit_is_exact() {
    let text = br#"{"a":"bcd"}"#;
    let mut framer = Framer::new(text.len());
    assert_eq!(frames(&mut framer, text).len(), 1);
    let mut framer = Framer::new(text.len() - 1);
    framer.push(text);
    assert_eq!(framer.next_frame(), Err(FrameError::TooLong { max: text.len() - 1 }));
}

#[test]
fn the_limit_holds_before_the_end_has_come() {
    let mut framer = Framer::new(100);
    framer.push(b"{\"a\":\"");
    assert_eq!(framer.next_frame(), Ok(None));
    framer.push(&[b'x'; 200]);
    assert_eq!(framer.next_frame(), Err(FrameError::TooLong { max: 100 }));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[\\PC\"\\\\{}\\[\\]\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[\"\\\\}{a-z]{0,5}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_split_yields_the_same_messages(
        values in prop::collection::vec((value(), "[ \t\r\n]{0,3}"), 0..6),
        cuts in prop::collection::vec(1usize..17, 1..40),
        pretty in any::<bool>(),
    ) {
        let wanted: Vec<Value> = values.iter().map(|(value, _)| json!({"params": value})).collect();
        let mut stream = Vec::new();
        for (value, (_, space)) in wanted.iter().zip(&values) {
            let text = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
            stream.extend(text.unwrap());
            stream.extend(space.bytes());
        }
        let mut framer = Framer::new(stream.len().max(1));
        let mut seen = Vec::new();
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            for frame in frames(&mut framer, head) {
                seen.push(serde_json::from_slice::<Value>(&frame).unwrap());
            }
            rest = tail;
        }
        prop_assert_eq!(seen, wanted);
        prop_assert_eq!(framer.pending(), 0);
    }

    #[test]
    fn no_bytes_make_it_panic_or_hold_more_than_it_was_given(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
    ) {
        let mut framer = Framer::new(64);
        'stream: for chunk in chunks {
            framer.push(&chunk);
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => prop_assert!(frame.len() <= 64),
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
            prop_assert!(framer.pending() <= 64);
        }
    }
}
