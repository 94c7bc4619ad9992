//! What to do with a Lease that has been read. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// How long, how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// After so long without a renewal others may take it.
    pub duration: Duration,
    /// After so long without a renewal the leader stops. Shorter than `duration`.
    pub renew: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Timing {
    /// client-go's.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { duration: seconds(15), renew: seconds(10), retry: seconds(2) }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is another's.
    Wait,
    /// Write this: it makes us leader, or keeps us it.
    Write(Box<Lease>),
}

/// A candidate's memory.
#[derive(Debug)]
pub struct Elector {
    identity: String,
    timing: Timing,
    /// The Lease as it was seen last, and when it was first seen so.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Elector {
    pub fn new(identity: &str, timing: Timing) -> Self {
        Self { identity: identity.to_owned(), timing, seen: None }
    }

    pub const fn timing(&self) -> Timing {
        self.timing
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Takes the Lease as it is now.
    pub fn decide(&mut self, lease: Option<Lease>, now: Instant, wall: Timestamp) -> Verdict {
        let mut lease = lease.unwrap_or_default();
        let spec = lease.spec.take().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let ours = holder == self.identity;
        // As long as its holder says, which may be configured otherwise than we are.
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = seconds.map_or(self.timing.duration, Duration::from_secs);
        if !holder.is_empty() && !ours && now < since + duration {
            return Verdict::Wait;
        }
        let wall = MicroTime::from(wall);
        let transitions = spec.lease_transitions.unwrap_or_default();
        let new_holder =
            !ours && (spec.holder_identity.is_some() || lease.metadata.resource_version.is_some());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.duration.as_secs()).ok(),
            acquire_time: if ours { spec.acquire_time } else { Some(wall.clone()) },
            renew_time: Some(wall),
            lease_transitions: Some(if new_holder { transitions.saturating_add(1) } else { transitions }),
            ..LeaseSpec::default()
        });
        Verdict::Write(Box::new(lease))
    }

    /// The Lease without us, if it is ours.
    pub fn released(&self, mut lease: Lease, wall: Timestamp) -> Option<Lease> {
        let spec =
            lease.spec.take().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))?;
        let wall = MicroTime::from(wall);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            acquire_time: Some(wall.clone()),
            renew_time: Some(wall),
            lease_transitions: spec.lease_transitions,
            ..LeaseSpec::default()
        });
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(verdict: Verdict) -> Lease {
        match verdict {
            Verdict::Write(lease) => *lease,
            Verdict::Wait => panic!("waits"),
        }
    }

    fn spec(lease: &Lease) -> (&str, i32) {
        let spec = lease.spec.as_ref().unwrap();
        (spec.holder_identity.as_deref().unwrap(), spec.lease_transitions.unwrap())
    }

    /// As an API server gives it back.
    fn stored(mut lease: Lease, version: &str) -> Lease {
        lease.metadata.resource_version = Some(version.into());
        lease
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_s_lease_is_taken_and_renewed_without_a_transition() {
        let (start, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut a = Elector::new("a", Timing::default());
        let lease = stored(written(a.decide(None, start, wall)), "1");
        assert_eq!(spec(&lease), ("a", 0));
        let later = Timestamp::from_second(2).unwrap();
        let renewed = written(a.decide(Some(lease.clone()), start + seconds(2), later));
        assert_eq!(spec(&renewed), ("a", 0));
        let (old, new) = (lease.spec.unwrap(), renewed.spec.unwrap());
        assert_eq!(old.acquire_time, new.acquire_time);
        assert!(old.renew_time < new.renew_time);
        // The version goes along: of two who write at once, one is refused.
        assert_eq!(renewed.metadata.resource_version.as_deref(), Some("1"));
    }

    #[test]
    fn another_s_lease_is_taken_when_it_has_not_changed_for_its_duration_by_our_own_clock() {
        let start = Instant::now();
        // Its times are far ahead of ours, or behind: nobody looks.
        for wall in [Timestamp::from_second(4_000_000_000).unwrap(), Timestamp::UNIX_EPOCH] {
            let (mut a, mut b) = (Elector::new("a", Timing::default()), Elector::new("b", Timing::default()));
            let first = stored(written(a.decide(None, start, wall)), "1");
            let at = |s| start + seconds(s);
            assert_eq!(b.decide(Some(first.clone()), at(100), wall), Verdict::Wait);
            assert_eq!(b.decide(Some(first.clone()), at(114), wall), Verdict::Wait);
            // Renewed: the time begins anew.
            let later = wall - k8s_openapi::jiff::SignedDuration::from_secs(-2);
            let second = stored(written(a.decide(Some(first), at(114), later)), "2");
            assert_eq!(b.decide(Some(second.clone()), at(115), wall), Verdict::Wait);
            assert_eq!(b.decide(Some(second.clone()), at(129), wall), Verdict::Wait);
            let taken = written(b.decide(Some(second), at(130), wall));
            assert_eq!(spec(&taken), ("b", 1));
            assert_eq!(a.decide(Some(stored(taken, "3")), at(131), wall), Verdict::Wait);
        }
    }

    #[test]
    fn a_lease_that_was_given_up_is_taken_at_once() {
        let (start, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let (mut a, mut b) = (Elector::new("a", Timing::default()), Elector::new("b", Timing::default()));
        let lease = stored(written(a.decide(None, start, wall)), "1");
        assert_eq!(b.decide(Some(lease.clone()), start, wall), Verdict::Wait);
        assert_eq!(b.released(lease.clone(), wall), None);
        let released = a.released(lease, wall).unwrap();
        assert_eq!(spec(&written(b.decide(Some(released), start, wall))), ("b", 1));
    }

    #[test]
    fn the_leader_stops_before_another_begins() {
        let timing = Timing::default();
        assert!(timing.renew < timing.duration && timing.retry < timing.renew / 2);
    }
}
