//! When OVS is to offer its flows to the hardware anew, as a pure function of what was seen and when.
//!
//! OVS offers a flow once, when it is made. One that is refused, as the table was full, runs in software for as long as
//! traffic keeps it alive, also when there is room again; and of flows that the hardware has lost OVS knows nothing.
//! Nothing passes that should not: software has all rules, and OVS's flows do not overlap. But the load of the hardware
//! is on the processor. Flows that OVS has forgotten are made, and offered, anew with the next packet
//! ([`crate::ovs::control::forget_flows`]); nothing else makes it do so that could not put back what a policy has just taken.
//!
//! That costs an upcall for each flow of all tenants, so it is rare while it does not help: from [`FIRST`] on twice as
//! long after each time, [`LONGEST`] at most. An eighth of that when there is room: the hardware takes a copy of what it
//! had refused, or what is new was taken, and nothing that is new refused.
//!
//! A tenant can fill the table and leave it again, as often as it likes. So calm makes the wait shorter only by half, and
//! only when it lasts for [`LONGEST`]; and whatever the cause, and however much room there is, [`EVER`] bounds it all.

use std::time::{Duration, Instant};

use crate::bucket::{Rate, TokenBucket};
use crate::kernel::view::Flows;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(10);
const WITH_ROOM: u32 = 8;
/// 22 times in any hour, 12 when it goes on.
const EVER: Rate = Rate { burst: 10, period: Duration::from_mins(5) };

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
    /// Of the last time.
    done: Option<Instant>,
    /// Since when there is cause, but for moments without.
    cause: Option<Instant>,
    /// Since when there is none; it begins anew each time that it has made the wait shorter.
    calm: Option<Instant>,
    room: bool,
    before: Option<(Instant, Flows)>,
    ever: Option<TokenBucket>,
}

impl Default for Reoffer {
    fn default() -> Self {
        Self { wait: FIRST, done: None, cause: None, calm: None, room: false, before: None, ever: None }
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
                self.be_calm(now);
                return None;
            }
        };
        self.calm = None;
        let lasts = now.duration_since(*self.cause.get_or_insert(now));
        let wait = if self.room || flows.room { (self.wait / WITH_ROOM).max(FIRST) } else { self.wait };
        // A loss was watched for a while before it is called one.
        let is_due = (cause == Cause::Lost || lasts >= FIRST)
            && self.done.is_none_or(|done| now.duration_since(done) >= wait)
            && self.ever.get_or_insert_with(|| TokenBucket::new(EVER, now)).take(now);
        if !is_due {
            return None;
        }
        self.done = Some(now);
        self.wait = (self.wait * 2).min(LONGEST);
        self.room = false;
        self.before = None;
        Some(cause)
    }

    /// Just after it was done there are hardly any flows, and so no cause.
    fn be_calm(&mut self, now: Instant) {
        let calm = now.duration_since(*self.calm.get_or_insert(now));
        if calm >= FIRST {
            self.cause = None;
        }
        if calm >= LONGEST {
            self.wait = (self.wait / 2).max(FIRST);
            self.calm = Some(now);
        }
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
    use std::collections::BTreeSet;

    use offload::flower::ChainIndex;
    use offload::ids::IfIndex;
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::view::FilterId;

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
    fn calm_forgets_by_halves() {
        let (mut reoffer, began) = (Reoffer::default(), Instant::now());
        assert_eq!(done(&mut reoffer, began, 700, |_| flows(5, 5, 0)), [10, 30, 70, 150, 310, 630]);
        // After one long calm it is 5 minutes, not 10 seconds, to the time after the next.
        let later = began + Duration::from_secs(700);
        assert_eq!(done(&mut reoffer, later, 700, |_| flows(5, 0, 0)), [0; 0]);
        let again = later + Duration::from_secs(700);
        assert_eq!(done(&mut reoffer, again, 1000, |_| flows(5, 5, 0)), [10, 610]);
        // After more than an hour it is as it was at first.
        let later = again + Duration::from_secs(1000);
        assert_eq!(done(&mut reoffer, later, 4300, |_| flows(5, 0, 0)), [0; 0]);
        let again = later + Duration::from_secs(4300);
        assert_eq!(done(&mut reoffer, again, 100, |_| flows(5, 5, 0)), [10, 30, 70]);
    }

    /// As a tenant would do it that fills the table, waits until all are offered anew, and leaves it.
    #[test]
    fn pulses_are_no_fresh_starts() {
        for calm in [11, 30, 100, 300] {
            let (mut reoffer, began) = (Reoffer::default(), Instant::now());
            let mut quiet_until = 0;
            let mut times = Vec::new();
            for second in 0..7200_u64 {
                let flows = if second < quiet_until { flows(5, 0, 0) } else { flows(5, 5, 0) };
                if reoffer.look(&flows, began + Duration::from_secs(second)).is_some() {
                    times.push(second);
                    quiet_until = second + calm;
                }
            }
            let (first, second): (Vec<u64>, Vec<u64>) = times.iter().partition(|it| **it < 3600);
            assert!(first.len() <= 10 && second.len() <= 6, "calm of {calm} s: {times:?}");
        }
    }

    proptest! {
        /// Whatever there is to see: no hour has more of it than [`EVER`] grants.
        #[test]
        fn an_hour_is_bounded(
            phases in proptest::collection::vec((1..400_u64, 0..3_u32, 0..3_u32, any::<bool>()), 1..100)
        ) {
            let (mut reoffer, began) = (Reoffer::default(), Instant::now());
            let (mut second, mut times) = (0, Vec::new());
            for (seconds, refused, lost, room) in phases {
                for _ in 0..seconds {
                    let flows = Flows { room: room && refused > 0, ..flows(5, refused, lost) };
                    if reoffer.look(&flows, began + Duration::from_secs(second)).is_some() {
                        times.push(second);
                    }
                    second += 1;
                }
            }
            for first in &times {
                let in_hour = times.iter().filter(|it| (*first..first + 3600).contains(it)).count();
                prop_assert!(in_hour <= 22, "{times:?}");
            }
        }
    }
}
