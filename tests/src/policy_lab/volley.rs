//! Probes under way, and what is heard of them.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Seen;
use super::range::{Event, Key};

/// A probe that was fired.
struct Fired {
    index: usize,
    /// It should get through.
    wanted: bool,
    wave: usize,
}

pub(super) struct Volley {
    keys: HashMap<Key, Fired>,
    pub(super) seen: Vec<Seen>,
    wave: usize,
    /// Of those that were fired.
    pub(super) unsent: usize,
    /// Of those that should get through.
    pub(super) missing: usize,
    /// Of those of the newest wave.
    pub(super) missing_of_wave: usize,
    /// When something last happened to one of ours.
    pub(super) last: Instant,
}

impl Volley {
    pub(super) fn new(probes: usize) -> Self {
        let seen = vec![Seen::default(); probes];
        Self {
            keys: HashMap::new(),
            seen,
            wave: 0,
            unsent: 0,
            missing: 0,
            missing_of_wave: 0,
            last: Instant::now(),
        }
    }

    /// What is fired from now on is of another wave.
    pub(super) fn next_wave(&mut self) {
        self.wave += 1;
        self.missing_of_wave = 0;
    }

    pub(super) fn fire(&mut self, key: Key, index: usize, wanted: bool) {
        self.keys.insert(key, Fired { index, wanted, wave: self.wave });
        self.unsent += 1;
        self.missing += usize::from(wanted);
        self.missing_of_wave += usize::from(wanted);
        self.last = Instant::now();
    }

    /// Those that should get through and have not.
    pub(super) fn late(&self) -> HashSet<Key> {
        let is_late = |fired: &Fired| fired.wanted && self.seen[fired.index].is_wrong(true);
        self.keys.iter().filter(|(_, fired)| is_late(fired)).map(|(key, _)| *key).collect()
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
        let Some(fired) = self.keys.get(&key) else { return };
        let it = &mut self.seen[fired.index];
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
            let is_through = usize::from(fired.wanted && !it.is_wrong(true));
            self.missing -= is_through;
            if fired.wave == self.wave {
                self.missing_of_wave -= is_through;
            }
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

    #[test]
    fn a_wave_waits_for_its_own_and_the_volley_for_all() {
        let key = |id| Key { protocol: 6, source: [10, 0, 0, 1].into(), id };
        let through = |volley: &mut Volley, id| {
            for event in [Event::Arrived(key(id), 3), Event::Answered(key(id))] {
                volley.hear(&event);
            }
        };
        let mut volley = Volley::new(4);
        for (id, wanted) in [(0, true), (1, true), (2, false)] {
            volley.fire(key(id), id.into(), wanted);
        }
        through(&mut volley, 0);
        assert_eq!((volley.missing, volley.missing_of_wave), (1, 1));
        volley.next_wave();
        volley.fire(key(3), 3, true);
        through(&mut volley, 3);
        assert_eq!((volley.missing, volley.missing_of_wave), (1, 0));
        assert_eq!(volley.late(), [key(1)].into());
        through(&mut volley, 1);
        assert_eq!((volley.missing, volley.missing_of_wave), (0, 0));
        assert!(volley.late().is_empty());
    }
}
