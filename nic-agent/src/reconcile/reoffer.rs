//! When OVS is to offer its flows to the hardware anew, as a pure function of what was seen and when.
//!
//! OVS offers a flow once, when it is made. One that is refused, as the table was full, runs in software for as long as
//! traffic keeps it alive, also when there is room again; and of flows that the hardware has lost OVS knows nothing.
//! Nothing passes that should not: software has all rules, and OVS's flows do not overlap. But the load of the hardware
//! is on the processor. Flows that OVS has forgotten are made, and offered, anew with the next packet
//! ([`crate::ovs::control::forget_flows`]); nothing else makes it do so that could not put back what a policy has just taken.
//!
//! That costs an upcall for each flow, so it is rare while it does not help: from [`FIRST`] on twice as long after each
//! time, [`LONGEST`] at most. An eighth of that when there is room: the hardware takes a copy of what it had refused, or
//! what is new was taken, and nothing that is new refused.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use offload::flower::ChainIndex;
use offload::ids::IfIndex;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(10);
const WITH_ROOM: u32 = 8;

/// A TC filter's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterId {
    pub ifindex: IfIndex,
    pub chain: ChainIndex,
    pub pref: u16,
    pub handle: u32,
}

/// Those of OVS's flows that say something of the hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flows {
    pub accepted: BTreeSet<FilterId>,
    /// Although this hardware could have taken them.
    pub refused: BTreeSet<FilterId>,
    /// Taken, and not there any more.
    pub lost: BTreeSet<FilterId>,
    /// Asked anew, the hardware takes one of those that it has refused.
    pub room: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Refused,
    Lost,
}

impl Cause {
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug)]
pub struct Reoffer {
    wait: Duration,
    /// Of the last time, or when there was first cause.
    since: Option<Instant>,
    /// Since when there is no cause.
    calm: Option<Instant>,
    room: bool,
    before: Option<(Instant, Flows)>,
}

impl Default for Reoffer {
    fn default() -> Self {
        Self { wait: FIRST, since: None, calm: None, room: false, before: None }
    }
}

impl Reoffer {
    /// Why, if it is to be done now.
    pub fn look(&mut self, flows: &Flows, now: Instant) -> Option<Cause> {
        self.look_for_room(flows, now);
        let cause = match (flows.lost.is_empty(), flows.refused.is_empty()) {
            (false, _) => Cause::Lost,
            (true, false) => Cause::Refused,
            (true, true) => {
                // Just after it was done there are hardly any flows, and so no cause.
                let calm = *self.calm.get_or_insert(now);
                if now.duration_since(calm) >= self.wait {
                    (self.wait, self.since) = (FIRST, None);
                }
                return None;
            }
        };
        self.calm = None;
        let wait = if self.room || flows.room { (self.wait / WITH_ROOM).max(FIRST) } else { self.wait };
        let is_due = match self.since {
            Some(since) => now.duration_since(since) >= wait,
            // A loss was watched for a while before it is called one.
            None => cause == Cause::Lost,
        };
        if !is_due {
            self.since.get_or_insert(now);
            return None;
        }
        self.since = Some(now);
        self.wait = (self.wait * 2).min(LONGEST);
        self.room = false;
        self.before = None;
        Some(cause)
    }

    /// Over a while: where flows come and go, one that was taken says little.
    fn look_for_room(&mut self, flows: &Flows, now: Instant) {
        if let Some((at, before)) = &self.before {
            if now.duration_since(*at) < FIRST {
                return;
            }
            self.room =
                !flows.accepted.is_subset(&before.accepted) && flows.refused.is_subset(&before.refused);
        }
        self.before = Some((now, flows.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(handles: std::ops::Range<u32>) -> BTreeSet<FilterId> {
        let id = |handle| FilterId { ifindex: IfIndex(1), chain: ChainIndex(0), pref: 2, handle };
        handles.map(id).collect()
    }

    fn flows(accepted: u32, refused: u32, lost: u32) -> Flows {
        Flows {
            accepted: ids(0..accepted),
            refused: ids(1000..1000 + refused),
            lost: ids(0..lost),
            room: false,
        }
    }

    /// Seconds at which it was done, looking each second.
    fn done(reoffer: &mut Reoffer, from: Instant, seconds: u64, flows: impl Fn(u64) -> Flows) -> Vec<u64> {
        let at = |second| from + Duration::from_secs(second);
        (0..seconds).filter(|it| reoffer.look(&flows(*it), at(*it)).is_some()).collect()
    }

    #[test]
    fn what_does_not_help_becomes_rare() {
        let full = done(&mut Reoffer::default(), Instant::now(), 3000, |_| flows(5, 5, 0));
        assert_eq!(full, [10, 30, 70, 150, 310, 630, 1230, 1830, 2430]);
        // Also when, each time it was done, there is nothing for a moment.
        let gaps = done(&mut Reoffer::default(), Instant::now(), 300, |second| {
            if second % 20 < 3 { flows(0, 0, 0) } else { flows(5, 5, 0) }
        });
        assert_eq!(gaps, [13, 33, 73, 153]);
    }

    #[test]
    fn a_loss_does_not_wait_but_the_next_one_does() {
        let lost = done(&mut Reoffer::default(), Instant::now(), 100, |_| flows(5, 0, 5));
        assert_eq!(lost, [0, 20, 60]);
    }

    #[test]
    fn room_makes_it_soon() {
        let (mut reoffer, began) = (Reoffer::default(), Instant::now());
        assert_eq!(done(&mut reoffer, began, 320, |_| flows(5, 5, 0)).last(), Some(&310));
        // Else it would be at 630: something was taken that was not there before, and nothing new refused.
        let later = began + Duration::from_secs(320);
        let after = done(&mut reoffer, later, 100, |second| flows(if second < 15 { 5 } else { 6 }, 5, 0));
        assert_eq!(after.first(), Some(&30));
        // A full table in which flows come and go is no room.
        let churn = |second: u64| {
            let second = u32::try_from(second).unwrap();
            Flows {
                accepted: ids(second..second + 5),
                refused: ids(1000 + second..1005 + second),
                ..Flows::default()
            }
        };
        assert_eq!(done(&mut Reoffer::default(), began, 300, churn), [10, 30, 70, 150]);
    }

    #[test]
    fn an_answer_makes_it_soon_but_not_often() {
        let (mut reoffer, began) = (Reoffer::default(), Instant::now());
        assert_eq!(done(&mut reoffer, began, 320, |_| flows(5, 5, 0)).last(), Some(&310));
        let room = |_| Flows { room: true, ..flows(5, 5, 0) };
        let later = began + Duration::from_secs(400);
        assert_eq!(done(&mut reoffer, later, 320, room), [0, 75, 150, 225, 300]);
    }

    #[test]
    fn calm_forgets() {
        let (mut reoffer, began) = (Reoffer::default(), Instant::now());
        assert_eq!(done(&mut reoffer, began, 80, |_| flows(5, 5, 0)), [10, 30, 70]);
        let later = began + Duration::from_secs(80);
        assert_eq!(done(&mut reoffer, later, 90, |_| flows(5, 0, 0)), [0; 0]);
        let again = later + Duration::from_secs(90);
        assert_eq!(done(&mut reoffer, again, 20, |_| flows(5, 5, 0)), [10]);
    }
}
