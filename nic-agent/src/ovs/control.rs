//! `ovs-vswitchd`'s control socket, the one that `ovs-appctl` uses, for the one question that nothing else answers, and
//! the one order that nothing else takes: do the datapath's flows follow the OpenFlow tables as they are now? And: forget
//! them, to make them again, each with its next packet ([`forget_flows`]).
//!
//! A bundle that is committed has changed the tables. Two things go on by the old ones for a while, the longer the busier
//! the machine is: a handler translates up to 64 upcalls, each by the tables of that moment, and executes them together at
//! the end (`recv_upcalls`, `handle_upcalls`), which sends packets, installs flows and commits connections; and megaflows
//! stay in the datapath, and in the eSwitch, until the revalidators have been round. [`Switch::datapath_follows`] is a proof that
//! both are over. The steps, with the functions' names (`ofproto-dpif.c`, `ofproto-dpif-upcall.c`, `unixctl.c`, OVS 3.5):
//!
//! 1. OVS has answered the bundle's commit, so `ofproto_run()` had committed it. Its main loop runs `type_run()`, then
//!    `ofproto_run()`, then `unixctl_server_run()`.
//! 2. A command is answered: by `unixctl_server_run()` of the iteration that committed, or of a later one.
//! 3. A command on a *new* connection is answered. `unixctl_server_run()` accepts before it answers, and this connection was
//!    made after the answer of 2: so it was accepted in a later iteration, in which `type_run()` ran after the commit.
//!    That has seen `need_revalidate`, and `xlate_txn_commit()` in it has waited (`ovsrcu_synchronize()`) until each handler
//!    has quiesced, which a handler does between two batches: what was translated before is executed. Then
//!    `udpif_revalidate()` has moved `reval_seq`.
//! 4. `revalidator/wait` is answered when a round ends, be it one that began before `reval_seq` moved.
//! 5. A second one: the round that ends now began after 4, and it held every flow against the new tables, or deleted it.
//!    (`type_run()` answers waits *before* it moves `reval_seq`: without 2 and 3 both could be of rounds before.)
//!
//! All by one process: one that was started meanwhile proves nothing of its predecessor's flows. What it does not prove:
//! `revalidate()` skips a flow that a handler holds locked at that moment. The audit of connections ([`crate::audit`])
//! covers that, and does not depend on when OVS did what.
//!
//! What waits in the kernel for a handler is in no handler's hands yet: [`super::queues`] tells of that. Once it was out of
//! there, [`Switch::handlers_finish`] shows that the handlers are done with it. That is steps 1 to 3 with a bundle which
//! changes nothing: it adds a flow that no packet meets and deletes it, and OVS does all the same what it does after a
//! change (`complete_operation()` sets `need_revalidate`).
//!
//! Flows are forgotten by a limit of none of them for a round of the revalidators: what is above twice the limit they all
//! delete. A flow comes back as the tables say then, and the limit does by itself, to 1000 at least, with the end of the
//! round. Other ways are no good: `revalidator/purge` ends ovs-vswitchd when a handler is just installing a flow ("Invalid
//! ukey transition 6->5", seen with 3.5.0, twice in six); `dpctl/del-flow` leaves OVS believing for some rounds that the
//! flow is there, and all its packets go to ovs-vswitchd meanwhile; `dpctl/mod-flow` could bring back what the tables no
//! longer allow. Source: `upcall_unixctl_dump_wait`, `udpif_revalidator`, `revalidate`; ovs-vswitchd(8).

use std::path::{Path, PathBuf};
use std::time::Duration;

use offload::openflow::{Cookie, Flow, FlowMod, Match, TableId};

use super::unixctl::{ControlError, Unixctl};
use crate::openflow::{self, Session};

const FORGET: Duration = Duration::from_mins(1);

/// Whose socket it is.
pub const DAEMON: &str = "ovs-vswitchd";

/// For the OpenFlow session of a bundle that changes nothing.
const CONNECT: Duration = Duration::from_secs(10);
/// No packet comes here.
const UNUSED: TableId = TableId(250);

/// Open vSwitch on this NIC.
#[derive(Debug, Clone)]
pub struct Switch {
    pub run_dir: PathBuf,
    /// One of its bridges; any will do.
    pub bridge: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("bridge {bridge}: {source}")]
    OpenFlow { bridge: String, source: openflow::Error },
}

impl Switch {
    /// Returns once the datapath follows the tables as they were when this was called: what OVS had committed by then.
    /// However long that takes, up to `patience` for each answer.
    pub async fn datapath_follows(&self, patience: Duration) -> Result<(), ControlError> {
        let methods = ["version", "version", "revalidator/wait", "revalidator/wait"];
        self.answers(&methods, patience, std::future::ready(Ok(()))).await
    }

    /// Returns once each packet that a handler had taken when this was called has been sent on its way, or dropped.
    pub async fn handlers_finish(&self, patience: Duration) -> Result<(), SwitchError> {
        self.answers(&["version", "version"], patience, self.change_nothing()).await
    }

    async fn change_nothing(&self) -> Result<(), SwitchError> {
        let nothing = Flow {
            table: UNUSED,
            priority: 0,
            cookie: Cookie(0),
            matches: Match::default(),
            actions: Vec::new(),
        };
        let bundle = [FlowMod::Add(nothing.clone()), FlowMod::DeleteStrict(nothing.key())];
        let failed = |source| SwitchError::OpenFlow { bridge: self.bridge.clone(), source };
        let socket = self.run_dir.join(format!("{}.mgmt", self.bridge));
        let session = Session::connect(&socket, CONNECT).await.map_err(failed)?;
        let applied = session.apply(&bundle).await;
        session.close().await;
        applied.map_err(failed)
    }

    /// To these commands, after that, all by one process.
    async fn answers<E: From<ControlError>>(
        &self,
        methods: &[&str],
        patience: Duration,
        first: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let ovs = Unixctl::new(&self.run_dir, DAEMON);
        let proven_by = ovs.pid().await?;
        first.await?;
        for method in methods {
            ovs.within(patience, ovs.call(method, &[])).await?;
        }
        let now = ovs.pid().await?;
        if now == proven_by {
            Ok(())
        } else {
            Err(ControlError::Restarted { daemon: DAEMON, before: proven_by, now }.into())
        }
    }
}

/// Has all flows of the datapath, and of the hardware, deleted. A big table takes seconds.
pub async fn forget_flows(run_dir: &Path) -> Result<(), ControlError> {
    let ovs = Unixctl::new(run_dir, DAEMON);
    let orders = async {
        let shown = ovs.call("upcall/show", &[]).await?;
        // When a round has just ended, the next one, which has to see the limit from its beginning, has not begun.
        ovs.call("revalidator/wait", &[]).await?;
        ovs.call("upcall/set-flow-limit", &["0"]).await?;
        let round = ovs.call("revalidator/wait", &[]).await;
        ovs.call("upcall/set-flow-limit", &[limit(&shown)]).await?;
        round.map(|_| ())
    };
    ovs.within(FORGET, orders).await
}

/// As `upcall/show` tells it; what OVS begins with, if it does not. It is never above what is configured for long.
fn limit(shown: &str) -> &str {
    let after = shown.split_once("(limit ").map(|(_, after)| after);
    let number = after.and_then(|it| it.split_once(')')).map(|(number, _)| number);
    number.filter(|it| it.parse::<u32>().is_ok()).unwrap_or("200000")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovs::unixctl::testing::daemon;

    fn switch(run_dir: &Path) -> Switch {
        Switch { run_dir: run_dir.to_owned(), bridge: "br-edge".to_owned() }
    }

    #[test]
    fn the_limit_is_put_back() {
        let shown = "system@ovs-system:\n  flows         : (current 2) (avg 1) (max 3) (limit 12000)\n";
        assert_eq!(limit(shown), "12000");
        assert_eq!((limit(""), limit("(limit x)"), limit("(limit 7")), ("200000", "200000", "200000"));
    }

    #[tokio::test]
    async fn the_steps_of_the_proof_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let calls = ["version", "version", "revalidator/wait", "revalidator/wait"];
        let server =
            daemon(dir.path(), (DAEMON, 4711), &calls.map(call), r#"{"id":0,"result":"","error":null}"#);
        switch(dir.path()).datapath_follows(Duration::from_secs(5)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), server).await.expect("four connections").unwrap();
    }

    fn call(method: &str) -> serde_json::Value {
        serde_json::json!({"id": 0, "method": method, "params": []})
    }

    #[tokio::test]
    async fn what_another_process_says_is_no_proof() {
        let dir = tempfile::tempdir().unwrap();
        let answer = r#"{"id":0,"result":"","error":null}"#;
        let first = daemon(dir.path(), (DAEMON, 4711), &["version", "version"].map(call), answer);
        let ovs = switch(dir.path());
        let proof = tokio::spawn(async move { ovs.datapath_follows(Duration::from_secs(5)).await });
        first.await.unwrap();
        // Its socket is gone with it, or the next one has written its own number already.
        let second = daemon(dir.path(), (DAEMON, 4712), &["revalidator/wait"; 2].map(call), answer);
        let said = proof.await.unwrap().unwrap_err();
        assert!(matches!(said, ControlError::Restarted { .. } | ControlError::Io { .. }), "{said}");
        second.abort();
    }

    #[tokio::test]
    async fn without_ovs_it_says_where_it_looked() {
        let dir = tempfile::tempdir().unwrap();
        let ovs = switch(dir.path());
        let patience = Duration::from_secs(1);
        let errors = [
            ovs.datapath_follows(patience).await.unwrap_err().to_string(),
            ovs.handlers_finish(patience).await.unwrap_err().to_string(),
        ];
        assert!(errors.iter().all(|it| it.contains("ovs-vswitchd.pid")), "{errors:?}");
    }

    #[tokio::test]
    async fn without_the_bridge_nothing_is_shown_of_the_handlers() {
        let dir = tempfile::tempdir().unwrap();
        let server = daemon(dir.path(), (DAEMON, 4711), &[], "");
        let error = switch(dir.path()).handlers_finish(Duration::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.contains("br-edge.mgmt"), "{error}");
        server.await.unwrap();
    }
}
