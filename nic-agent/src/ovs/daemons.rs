//! Which Open vSwitch and which OVN run on this NIC, as `ovs-vswitchd` and `ovn-controller` say themselves.
//!
//! Each is asked at the start and once a minute, so that an upgrade shows. Nothing waits for the answers, and nothing but
//! the NicNode's status depends on them.
//!
//! Failure: what a daemon said last holds while it does not answer; before its first answer its version is not known.
//! That is logged once for each time: whether OVS and OVN are well is said elsewhere.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::control;
use super::unixctl::{ControlError, Unixctl};
use crate::config::Config;
use crate::jitter::jittered;

/// While ovn-controller computes, it answers nobody.
const PATIENCE: Duration = Duration::from_secs(20);

/// Versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Daemons {
    pub ovs: Option<String>,
    pub ovn: Option<String>,
}

/// From one question to the next.
#[derive(Debug, Clone, Copy)]
struct Pauses {
    answered: Duration,
    unanswered: Duration,
}

const PAUSES: Pauses = Pauses { answered: Duration::from_mins(1), unanswered: Duration::from_secs(10) };

/// The future ends when cancelled.
pub fn start(
    config: &Config,
    cancel: CancellationToken,
) -> (watch::Receiver<Daemons>, impl Future<Output = ()> + use<>) {
    let (said, daemons) = watch::channel(Daemons::default());
    let ovs = Unixctl::new(&config.ovs.run_dir, control::DAEMON);
    let ovn = Unixctl::new(&config.ovn.run_dir, "ovn-controller");
    let follow = async move {
        let ovs = follow(&ovs, PAUSES, &said, |it| &mut it.ovs);
        let ovn = follow(&ovn, PAUSES, &said, |it| &mut it.ovn);
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = async { tokio::join!(ovs, ovn) } => {}
        }
    };
    (daemons, follow)
}

/// Until dropped.
async fn follow(
    daemon: &Unixctl,
    pauses: Pauses,
    said: &watch::Sender<Daemons>,
    slot: impl Fn(&mut Daemons) -> &mut Option<String>,
) {
    let mut failing = false;
    loop {
        let pause = match version(daemon).await {
            Ok(version) => {
                failing = false;
                said.send_if_modified(|it| {
                    let known = slot(it);
                    let is_new = known.as_ref() != Some(&version);
                    if is_new {
                        debug!(daemon = daemon.daemon(), version, "version learned");
                        *known = Some(version);
                    }
                    is_new
                });
                pauses.answered
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    info!(daemon = daemon.daemon(), error = %error, "version not learned");
                }
                pauses.unanswered
            }
        };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Asks it.
pub async fn version(daemon: &Unixctl) -> Result<String, ControlError> {
    let said = daemon.within(PATIENCE, daemon.call("version", &[])).await?;
    let read = read(daemon.daemon(), &said).map(ToOwned::to_owned);
    read.ok_or_else(|| ControlError::Answer {
        daemon: daemon.daemon(),
        what: format!("{said:?} is no version"),
    })
}

/// As `ovs_get_program_version` writes it: "ovs-vswitchd (Open vSwitch) 3.5.0", "ovn-controller 25.03.0" and lines on
/// libraries.
fn read<'a>(daemon: &str, said: &'a str) -> Option<&'a str> {
    let rest = said.lines().next()?.strip_prefix(daemon)?.strip_prefix(' ')?;
    rest.split(' ').next_back().filter(|it| it.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovs::unixctl::testing;

    const OVN: &str = "ovn-controller";

    #[test]
    fn versions_are_read() {
        for (daemon, said, version) in [
            ("ovs-vswitchd", "ovs-vswitchd (Open vSwitch) 3.5.0\n", Some("3.5.0")),
            (
                "ovs-vswitchd",
                "ovs-vswitchd (Open vSwitch) 3.3.0-2.el9fdp\nDPDK 23.11.0\n",
                Some("3.3.0-2.el9fdp"),
            ),
            (OVN, "ovn-controller 25.03.0\nOpen vSwitch Library 3.5.0\n", Some("25.03.0")),
            (OVN, "ovn-controller-vtep 25.03.0\n", None),
            (OVN, "ovn-controller\n25.03.0\n", None),
            (OVN, "ovn-controller (Open vSwitch)\n", None),
            (OVN, "25.03.0", None),
            (OVN, "", None),
        ] {
            assert_eq!(read(daemon, said), version, "{said:?}");
        }
    }

    #[tokio::test]
    async fn an_upgrade_shows_and_what_was_said_last_holds() {
        let dir = tempfile::tempdir().unwrap();
        let soon = Duration::from_millis(1);
        let pauses = Pauses { answered: soon, unanswered: soon };
        let daemon = Unixctl::new(dir.path(), OVN);
        let (said, mut known) = watch::channel(Daemons::default());
        let following = async { follow(&daemon, pauses, &said, |it| &mut it.ovn).await };
        let upgrading = async {
            for (pid, answer, version) in [
                (7, r#"{"id":0,"result":"ovn-controller 25.03.0\n","error":null}"#, "25.03.0"),
                (8, r#"{"id":0,"result":"ovn-controller 25.09.1\n","error":null}"#, "25.09.1"),
            ] {
                let call = serde_json::json!({"id": 0, "method": "version", "params": []});
                testing::daemon(dir.path(), (OVN, pid), &[call.clone(), call], answer).await.unwrap();
                let now = known.wait_for(|it| it.ovn.as_deref() == Some(version)).await.unwrap().clone();
                assert_eq!(now, Daemons { ovs: None, ovn: Some(version.to_owned()) });
            }
            // It is gone, and has been looked for in vain.
            tokio::time::sleep(soon * 50).await;
            assert_eq!(known.borrow().ovn.as_deref(), Some("25.09.1"));
        };
        tokio::select! {
            () = following => unreachable!(),
            done = tokio::time::timeout(PATIENCE, upgrading) => done.expect("both versions"),
        }
    }
}
