//! The task between the reconcile loop, the listener, Open vSwitch's proof, and the audits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use offload::netlink::conntrack::{Conntrack, Release};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Progress;
use super::drain;
use super::listener::{self, Heard};
use super::loads::Loads;
use super::look::{Cut, look};
use super::progress::{Book, PodProgress, ToDrain, ToRelease, Told};
use super::proof::Proof;
use super::zones::Zones;
use crate::marks::Marks;
use crate::metrics::{CauseLabel, Metrics};
use crate::news;
use crate::ovs::control::Switch;

const RETRY: Duration = Duration::from_secs(1);
/// Between two looks for what the hardware holds, when one fails.
const PAUSE: Duration = Duration::from_millis(100);
const LOG_EVERY: Duration = Duration::from_secs(1);
/// News that is only that more was cut: a pass of the reconcile loop for each batch would be the flood's doing.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What it follows.
pub struct Inputs {
    pub zones: watch::Receiver<Arc<Zones>>,
    /// The names of the rules that connections were admitted by.
    pub marks: watch::Receiver<Marks>,
    pub proofs: watch::Receiver<Proof>,
    pub heard: mpsc::Receiver<Heard>,
    /// Connections that a pod may have.
    pub limits: watch::Receiver<u32>,
}

/// What it tells.
pub struct Outputs {
    pub prove: watch::Sender<u64>,
    pub report: watch::Sender<Arc<Progress>>,
    pub loads: watch::Sender<Loads>,
}

pub struct Worker {
    zones: watch::Receiver<Arc<Zones>>,
    marks: watch::Receiver<Marks>,
    prove: watch::Sender<u64>,
    proofs: watch::Receiver<Proof>,
    heard: mpsc::Receiver<Heard>,
    report: watch::Sender<Arc<Progress>>,
    limits: watch::Receiver<u32>,
    loads: watch::Sender<Loads>,
    metrics: Metrics,
    book: Book,
    switch: Switch,
    failing: bool,
    /// What was found and is not in the log yet, by pod, and whether the pod was settled: who floods must not fill the log.
    unlogged: BTreeMap<String, (bool, Cut)>,
    logged: Instant,
    published: Instant,
}

type Released = (ToRelease, Result<Release, String>);

impl Worker {
    pub fn new(inputs: Inputs, outputs: Outputs, switch: Switch, metrics: Metrics) -> Self {
        let Inputs { zones, marks, proofs, heard, limits } = inputs;
        let Outputs { prove, report, loads } = outputs;
        Self {
            zones,
            marks,
            prove,
            proofs,
            heard,
            report,
            limits,
            loads,
            metrics,
            book: Book::default(),
            switch,
            failing: false,
            unlogged: BTreeMap::new(),
            logged: Instant::now(),
            published: Instant::now(),
        }
    }

    pub async fn run(mut self, cancel: CancellationToken) {
        // One wait for the hardware at a time: each is a row of dumps.
        let mut releases: JoinSet<Released> = JoinSet::new();
        let mut drains: JoinSet<ToDrain> = JoinSet::new();
        loop {
            if releases.is_empty()
                && let Some(wanted) = self.book.next_release()
            {
                releases.spawn_blocking(move || {
                    let release = wait_until_released(&wanted);
                    (wanted, release)
                });
            }
            if drains.is_empty()
                && let Some(wanted) = self.book.next_drain(Instant::now())
            {
                drains.spawn(drain::until_drained(self.switch.clone(), wanted));
            }
            self.publish();
            if self.logged.elapsed() >= LOG_EVERY {
                self.log();
            }
            let due = self.book.due(Instant::now()).map(|(at, _)| tokio::time::Instant::from_std(at));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = news::changed(&mut self.zones) => self.follow(),
                () = news::changed(&mut self.proofs) => {
                    let proof = self.proofs.borrow_and_update().clone();
                    self.book.prove(proof, Instant::now());
                }
                () = news::changed(&mut self.limits) => {
                    let limit = *self.limits.borrow_and_update();
                    self.book.set_limit(limit);
                }
                Some(done) = releases.join_next() => match done {
                    Ok((wanted, release)) => self.released(&wanted, release),
                    Err(error) => warn!(%error, "waiting for the hardware ended"),
                },
                Some(done) = drains.join_next() => match done {
                    Ok(wanted) => self.drained(&wanted),
                    Err(error) => warn!(%error, "waiting for Open vSwitch's queues ended"),
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = self.audit() => {}
                    }
                }
                // Last: who floods makes that there is always something to hear. An audit leaves time for it.
                Some(heard) = self.heard.recv() => self.hear(heard),
            }
        }
    }

    fn follow(&mut self) {
        let zones = self.zones.borrow_and_update().clone();
        self.book.follow(&zones, Instant::now());
        if let Some(version) = self.book.unproven() {
            self.prove.send_if_modified(|wanted| {
                let is_newer = version > *wanted;
                *wanted = version.max(*wanted);
                is_newer
            });
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Lost => {
                self.metrics.conntrack_events_lost.inc();
                self.book.want_all();
            }
            Heard::Began(began) => self.book.began(began),
            Heard::Cut(cut) => {
                let told = self.book.heard(cut, Instant::now());
                self.tell(told, "event");
            }
        }
    }

    /// As much as can wait at once; returns what is left to hear.
    fn hear_what_waits(&mut self) -> Vec<Heard> {
        let waiting: Vec<Heard> =
            std::iter::from_fn(|| self.heard.try_recv().ok()).take(listener::WAITING).collect();
        let (lost, heard): (Vec<Heard>, Vec<Heard>) =
            waiting.into_iter().partition(|heard| matches!(heard, Heard::Lost));
        for heard in heard {
            self.hear(heard);
        }
        lost
    }

    async fn audit(&mut self) {
        let now = Instant::now();
        let Some((_, scope)) = self.book.due(now) else { return };
        // The newest rules: those that came while something else was under way count.
        if self.zones.has_changed().unwrap_or(false) {
            self.follow();
        }
        let (zones, answers) = (self.zones.borrow().clone(), self.book.answers(now));
        let newest = self.zones.clone();
        self.book.look();
        let audit =
            tokio::task::spawn_blocking(move || look(&zones, || newest.borrow().clone(), &scope, &answers));
        match audit.await.map_err(|e| e.to_string()).and_then(|look| look.map_err(|e| e.to_string())) {
            Ok(look) => {
                if let (Some(error), false) = (&look.refused, self.failing) {
                    warn!(%error, "not every denied connection can be deleted; trying again");
                }
                self.failing = look.refused.is_some();
                self.metrics.audit_seconds.observe(look.took.as_secs_f64());
                let judged: u64 = look.connections.values().copied().map(u64::from).sum();
                self.metrics.audited.set(i64::try_from(judged).unwrap_or(i64::MAX));
                debug!(full = look.is_full, judged, took_ms = look.took.as_millis(), "audit");
                // What the listener has cut meanwhile, the audit did not find. Where events were lost, they may have been
                // lost behind its back: that asks for another one.
                let lost = self.hear_what_waits();
                let told = self.book.looked(look, Instant::now());
                self.tell(told, "audit");
                for lost in lost {
                    self.hear(lost);
                }
            }
            Err(error) => {
                if !self.failing {
                    warn!(error, "connections cannot be audited; trying again");
                }
                self.failing = true;
                self.book.failed(Instant::now(), RETRY);
            }
        }
    }

    fn released(&mut self, wanted: &ToRelease, release: Result<Release, String>) {
        let release = release.unwrap_or_else(|error| {
            warn!(error, "not seen whether the hardware has let go");
            Release::Unproven { after: wanted.deleted.at.elapsed(), held: wanted.deleted.deleted }
        });
        self.hear_all_that_waits();
        let told = self.book.released(wanted, release, Instant::now());
        self.tell(told, "");
    }

    fn drained(&mut self, wanted: &ToDrain) {
        self.hear_all_that_waits();
        let told = self.book.drained(wanted, Instant::now());
        self.tell(told, "");
    }

    /// What the listener has cut since was not waited for.
    fn hear_all_that_waits(&mut self) {
        for lost in self.hear_what_waits() {
            self.hear(lost);
        }
    }

    /// `by` is what found it.
    fn tell(&mut self, told: Vec<Told>, by: &'static str) {
        for told in told {
            match told {
                Told::Found { pod, late, cut } => self.found(pod, late, cut, by),
                Told::Settled { pod, cut, took, released } => {
                    self.log();
                    info!(
                        pod,
                        connections = cut,
                        took_ms = took.as_millis(),
                        released,
                        "connections cut that policy no longer allows"
                    );
                    self.metrics.tighten_seconds.observe(took.as_secs_f64());
                }
            }
        }
    }

    fn found(&mut self, pod: String, late: bool, cut: Cut, by: &'static str) {
        let cause = match (late, by) {
            (_, "event") => "began-denied",
            (true, _) => "settled",
            (false, _) => "policy",
        };
        self.count(cause, cut.denied);
        self.count("answer", cut.answers.len());
        debug!(pod, late, by, connections = cut.count(), "denied connections cut");
        let (was_late, unlogged) = self.unlogged.entry(pod).or_default();
        *was_late |= late;
        unlogged.merge(cut);
    }

    fn log(&mut self) {
        self.logged = Instant::now();
        for (pod, (late, cut)) in std::mem::take(&mut self.unlogged) {
            // Without the kernel's time stamps (nf_conntrack_timestamp) only a complete audit bounds it.
            let oldest_ms = cut.oldest.map(|began| age(began).as_millis());
            let (connections, answers) = (cut.denied, cut.answers.len());
            let admitted_by = admitted_by(&cut.marks, &self.marks.borrow());
            if late {
                warn!(
                    pod,
                    connections,
                    answers,
                    oldest_ms,
                    admitted_by,
                    "a settled pod had connections that its policy denies; cut"
                );
            } else {
                info!(
                    pod,
                    connections, answers, oldest_ms, admitted_by, "connections that policy denies cut"
                );
            }
        }
    }

    fn count(&self, cause: &'static str, connections: usize) {
        if connections > 0 {
            let counter = self.metrics.connections_cut.get_or_create(&CauseLabel { cause });
            counter.inc_by(u64::try_from(connections).unwrap_or(u64::MAX));
        }
    }

    fn publish(&mut self) {
        let loads = self.book.loads();
        self.loads.send_if_modified(|before| {
            let is_news = !before.are_as_full(loads);
            if *before != *loads {
                before.clone_from(loads);
            }
            is_news
        });
        let progress: Progress = self.book.progress().collect();
        let may_wait = self.published.elapsed() < COUNT_EVERY;
        let is_news = self.report.send_if_modified(|before| {
            let is_news = **before != progress && !(may_wait && differ_in_counts_only(before, &progress));
            if is_news {
                *before = Arc::new(progress);
            }
            is_news
        });
        if is_news {
            self.published = Instant::now();
        }
    }
}

fn differ_in_counts_only(a: &Progress, b: &Progress) -> bool {
    let pairs = || a.iter().zip(b);
    a.len() == b.len()
        && pairs().all(|((a, _), (b, _))| a == b)
        && pairs().all(|((_, a), (_, b))| PodProgress { cut: b.cut, ..a.clone() } == *b)
}

/// The rule that admitted most of them.
fn admitted_by(marks: &BTreeMap<u32, usize>, names: &Marks) -> Option<String> {
    let (mark, _) = marks.iter().max_by_key(|(_, connections)| **connections)?;
    names.text(*mark)
}

/// Of what began then, since the Unix epoch.
fn age(began: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(began)
}

fn wait_until_released(wanted: &ToRelease) -> Result<Release, String> {
    let look = || Conntrack::open()?.wait_until_released(wanted.deleted, wanted.patience);
    until_seen_or_over(wanted, look).map_err(|error| error.to_string())
}

/// An error says nothing of the hardware: before its sweeps are over, it is asked again.
fn until_seen_or_over<E>(
    wanted: &ToRelease,
    mut look: impl FnMut() -> Result<Release, E>,
) -> Result<Release, E> {
    loop {
        match look() {
            Err(_) if wanted.deleted.at.elapsed() < wanted.patience => std::thread::sleep(PAUSE),
            seen => return seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use offload::netlink::conntrack::Deleted;

    use super::super::progress::Stage;
    use super::*;
    use crate::attachment::AttachmentId;
    use crate::claim::SandboxKey;

    #[test]
    fn what_waits_is_counts_never_a_stage_or_a_pod() {
        let key = |sandbox: &str| {
            AttachmentId::from(SandboxKey { sandbox: sandbox.to_owned(), interface: "eth0".to_owned() })
        };
        let pod =
            PodProgress { version: 1, stage: Stage::Unaudited, since: Instant::now(), cut: 3, held: None };
        let of = |pod: &PodProgress| Progress::from([(key("a"), pod.clone()), (key("b"), pod.clone())]);
        let before = of(&pod);
        assert!(differ_in_counts_only(&before, &of(&PodProgress { cut: 4, ..pod.clone() })));
        assert!(!differ_in_counts_only(&before, &of(&PodProgress { stage: Stage::Settled, ..pod.clone() })));
        assert!(!differ_in_counts_only(&before, &of(&PodProgress { version: 2, ..pod.clone() })));
        assert!(!differ_in_counts_only(&before, &Progress::from([(key("a"), pod.clone())])));
        assert!(!differ_in_counts_only(
            &before,
            &Progress::from([key("a"), key("c")].map(|it| (it, pod.clone())))
        ));
    }

    #[test]
    fn a_look_that_fails_does_not_stand_for_sweeps_that_are_not_over() {
        let of = |patience| {
            let deleted = Deleted { deleted: 1, gone: 0, at: Instant::now() };
            ToRelease { zones: BTreeMap::new(), deleted, patience }
        };
        let after = Duration::from_secs(1);
        let mut looks = vec![Ok(Release::Complete { after }), Err("busy"), Err("busy")];
        let seen = until_seen_or_over(&of(Duration::from_hours(1)), || looks.pop().unwrap());
        assert_eq!(seen, Ok(Release::Complete { after }));
        assert_eq!(until_seen_or_over(&of(Duration::ZERO), || Err("busy")), Err("busy"));
    }
}
