//! Probes under way, and what is heard of them.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Seen;
use super::range::{Event, Key};

pub(super) struct Volley {
    /// Index, and whether it should get through.
    keys: HashMap<Key, (usize, bool)>,
    pub(super) seen: Vec<Seen>,
    /// Of those that were fired.
    pub(super) unsent: usize,
    /// Of those that should get through.
    pub(super) missing: usize,
    /// When something last happened to one of ours.
    pub(super) last: Instant,
}

impl Volley {
    pub(super) fn new(probes: usize) -> Self {
        let seen = vec![Seen::default(); probes];
        Self { keys: HashMap::new(), seen, unsent: 0, missing: 0, last: Instant::now() }
    }

    pub(super) fn fire(&mut self, key: Key, index: usize, wanted: bool) {
        self.keys.insert(key, (index, wanted));
        self.unsent += 1;
        self.missing += usize::from(wanted);
        self.last = Instant::now();
    }

    #[track_caller]
    pub(super) fn follow(&mut self, events: &Receiver<Event>, is_done: impl Fn(&Self) -> bool) {
        while !is_done(self) {
            match events.recv_timeout(Duration::from_millis(10)) {
                Ok(event) => self.hear(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the stations are gone"),
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        let key = match event {
            Event::Sent(key) | Event::Arrived(key, _) | Event::Answered(key) => *key,
            Event::Broken(why) => panic!("{why}"),
        };
        // Others are stragglers of an earlier volley.
        let Some((index, wanted)) = self.keys.get(&key) else { return };
        let it = &mut self.seen[*index];
        let before = *it;
        match event {
            Event::Sent(_) => {
                self.unsent -= 1;
                self.last = Instant::now();
            }
            Event::Arrived(_, at) => it.arrived = Some(*at),
            _ => it.answered = true,
        }
        // What is sent again, and arrives again, is nothing new.
        if *it != before {
            self.last = Instant::now();
            self.missing -= usize::from(*wanted && !it.is_wrong(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_probe_is_through_once_it_has_arrived_and_was_answered() {
        let key = |id| Key { protocol: 6, source: [10, 0, 0, 1].into(), id };
        let mut volley = Volley::new(2);
        volley.fire(key(1), 0, true);
        volley.fire(key(2), 1, false);
        assert_eq!((volley.unsent, volley.missing), (2, 1));
        let (send, events) = channel();
        for event in [
            Event::Sent(key(1)),
            Event::Sent(key(2)),
            Event::Answered(key(1)),
            Event::Answered(key(9)),
            Event::Arrived(key(1), 3),
            Event::Arrived(key(1), 3),
        ] {
            send.send(event).unwrap();
        }
        volley.follow(&events, |it| it.unsent == 0 && it.missing == 0);
        assert_eq!(volley.seen, [Seen { arrived: Some(3), answered: true }, Seen::default()]);
    }
}
