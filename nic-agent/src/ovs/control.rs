//! `ovs-vswitchd`'s control socket, the one that `ovs-appctl` uses, for the one question that nothing else answers: do
//! the datapath's flows follow the OpenFlow tables as they are now?
//!
//! A bundle that is committed has changed the tables; megaflows that were made from the old ones stay in the datapath,
//! and in the eSwitch, until the revalidators have been round (`ofproto-dpif-upcall.c`). `revalidator/wait` returns when
//! a round ends, also one that was under way: it may have passed a flow before the tables changed. The next one has not,
//! so two are waited for. Source: `udpif_run`, `upcall_unixctl_dump_wait`; ovs-vswitchd(8).

use std::path::Path;
use std::time::Duration;

use super::unixctl::{ControlError, Unixctl};

/// Whose socket it is.
pub const DAEMON: &str = "ovs-vswitchd";

/// Returns once the datapath follows the tables as they were when this was called.
pub async fn revalidated(run_dir: &Path, deadline: Duration) -> Result<(), ControlError> {
    let ovs = Unixctl::new(run_dir, DAEMON);
    let rounds = async {
        ovs.call("revalidator/wait", &[]).await?;
        ovs.call("revalidator/wait", &[]).await.map(|_| ())
    };
    ovs.within(deadline, rounds).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovs::unixctl::testing::daemon;

    #[tokio::test]
    async fn two_rounds_are_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let call = serde_json::json!({"id": 0, "method": "revalidator/wait", "params": []});
        let server = daemon(dir.path(), (DAEMON, 4711), call, 2, r#"{"id":0,"result":"","error":null}"#);
        revalidated(dir.path(), Duration::from_secs(5)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), server).await.expect("two calls").unwrap();
    }

    #[tokio::test]
    async fn without_ovs_it_says_where_it_looked() {
        let dir = tempfile::tempdir().unwrap();
        let error = revalidated(dir.path(), Duration::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.contains("ovs-vswitchd.pid"), "{error}");
    }
}
