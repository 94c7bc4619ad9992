//! The agent's side: what the newest preflight says, looked at again and again, as the unit runs when it is due.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::boot;
use super::file::{self, Unusable};
use super::report::{Line, Report, State};

/// A few kilobytes of a file in memory.
const POLL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5_000 });

/// What is known.
pub type Preflight = Result<Arc<Report>, Unusable>;

/// Follows the file until cancelled. The first look is over when this returns.
pub fn start(
    path: PathBuf,
    cancel: CancellationToken,
) -> (watch::Receiver<Preflight>, impl Future<Output = ()> + Send + 'static) {
    let look = move || file::read(&path, boot::current().as_deref()).map(Arc::new);
    let first = look();
    tell(&first);
    let (publish, preflight) = watch::channel(first);
    let follow = async move {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            let look = look.clone();
            // Of a panic in it nothing is known but that there is no report.
            let Ok(now) = tokio::task::spawn_blocking(look).await else { continue };
            publish.send_if_modified(|known| {
                let is_new = !same(known, &now);
                if is_new {
                    tell(&now);
                }
                *known = now;
                is_new
            });
        }
    };
    (preflight, follow)
}

/// But for the time at which it was made.
fn same(one: &Preflight, other: &Preflight) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one.boot_id == other.boot_id && one.checks == other.checks,
        (one, other) => one == other,
    }
}

fn tell(preflight: &Preflight) {
    let names = |report: &Report, state| -> Vec<String> { report.of(state).map(Line::name).collect() };
    match preflight {
        Ok(report) if report.has_failed() => {
            let failed = names(report, State::Failed).join(", ");
            warn!(failed, "preflight: the NIC is not as it should be");
        }
        Ok(report) => {
            let (warnings, unknown) = (names(report, State::Warning), names(report, State::Unknown));
            info!(warnings = warnings.join(", "), unknown = unknown.join(", "), "preflight: nothing failed");
        }
        Err(why) => info!(%why, "preflight: no report"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State, time: &str) -> Report {
        let checks = vec![Line::new("page-size", "", state, "found", "wanted", "remedy")];
        Report { version: 1, boot_id: boot::current(), time: time.into(), checks }
    }

    #[tokio::test]
    async fn a_new_report_and_a_lost_one_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("preflight.json");
        let cancel = CancellationToken::new();
        let (mut preflight, follow) = start(path.clone(), cancel.clone());
        assert_eq!(*preflight.borrow(), Err(Unusable::NotRun));
        let follow = tokio::spawn(follow);
        let mut see = async |wanted: &dyn Fn(&Preflight) -> bool| {
            let seen = preflight.wait_for(|it| wanted(it));
            drop(tokio::time::timeout(Duration::from_secs(20), seen).await.expect("in time").unwrap());
        };
        for state in [State::Failed, State::Passed] {
            file::write(&path, &report(state, "t1")).unwrap();
            see(&|it| it.as_ref().is_ok_and(|it| it.checks[0].state == state)).await;
        }
        std::fs::write(&path, "{").unwrap();
        see(&|it| matches!(it, Err(Unusable::Unreadable(_)))).await;
        let other = Report { boot_id: Some("0".repeat(32)), ..report(State::Passed, "t1") };
        file::write(&path, &other).unwrap();
        see(&|it| *it == Err(Unusable::OtherBoot)).await;
        std::fs::remove_file(&path).unwrap();
        see(&|it| *it == Err(Unusable::NotRun)).await;
        cancel.cancel();
        follow.await.unwrap();
    }

    #[test]
    fn the_time_alone_is_no_news() {
        let of = |state, time| -> Preflight { Ok(Arc::new(report(state, time))) };
        assert!(same(&of(State::Passed, "t1"), &of(State::Passed, "t2")));
        assert!(!same(&of(State::Passed, "t1"), &of(State::Failed, "t1")));
        assert!(!same(&of(State::Passed, "t1"), &Err(Unusable::NotRun)));
        assert!(same(&Err(Unusable::NotRun), &Err(Unusable::NotRun)));
    }
}
