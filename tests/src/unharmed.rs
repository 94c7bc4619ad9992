//! A tenant whose policy is changed again and again and whose connections go on, while nothing else happens and while
//! others attack: how long a change takes is printed, what is lost is held against what the quiet run loses.

use std::time::Duration;

use crate::nic::Nic;
use crate::traffic::Report;

/// The machine is emulated, and others compute on it: it loses packets of its own. What an attack loses, each try of it
/// loses.
const ATTEMPTS: usize = 3;

/// What was seen while something went on.
pub struct Seen {
    /// From a change to "in force", in order of size.
    changes: Vec<Duration>,
    sent: u32,
    lost: u32,
}

impl Seen {
    pub fn new(mut changes: Vec<Duration>, connections: &[Report]) -> Self {
        changes.sort_unstable();
        let sent = connections.iter().map(|it| it.sent).sum();
        let lost = connections.iter().map(Report::lost).sum();
        Self { changes, sent, lost }
    }

    pub fn tell(&self, what: &str) {
        let seconds = |at: usize| self.changes[at].as_secs_f64();
        let (median, worst) = (seconds(self.changes.len() / 2), seconds(self.changes.len() - 1));
        println!(
            "{what}: a change of policy is in force after {median:.2} s (median), {worst:.2} s (worst of {}); \
             {} of {} packets were not answered",
            self.changes.len(),
            self.lost,
            self.sent
        );
    }
}

/// The same as when nothing happens, but for what is told; and the agent goes on. Returns what the attack does.
#[track_caller]
pub fn unharmed<T>(nic: Nic, quiet: &Seen, what: &str, mut attack: impl FnMut() -> (Seen, T)) -> T {
    let pid = nic.pid("agent");
    for attempt in 1.. {
        let (seen, of_it) = attack();
        seen.tell(what);
        assert_eq!(nic.pid("agent"), pid, "the agent was ended");
        nic.ask("/healthz").unwrap_or_else(|why| panic!("{what}: {why}"));
        if seen.lost <= quiet.lost {
            return of_it;
        }
        assert!(attempt < ATTEMPTS, "{what}: {} lost, {} in the quiet run", seen.lost, quiet.lost);
    }
    unreachable!()
}
