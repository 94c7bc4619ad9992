//! `ovs-vswitchd`'s control socket, the one that `ovs-appctl` uses, for the one question that nothing else answers, and
//! the one order that nothing else takes: do the datapath's flows follow the OpenFlow tables as they are now? And: forget
//! them, to make them anew, each with its next packet ([`forget_flows`]).
//!
//! A bundle that is committed has changed the tables; megaflows that were made from the old ones stay in the datapath,
//! and in the eSwitch, until the revalidators have been round (`ofproto-dpif-upcall.c`). `revalidator/wait` returns when
//! a round ends, also one that was under way: it may have passed a flow before the tables changed. The next one has not,
//! so two are waited for.
//!
//! Flows are forgotten by a limit of none of them for a round of the revalidators: what is above twice the limit they all
//! delete. A flow comes back as the tables say then, and the limit does by itself, to 1000 at least, with the end of the
//! round. Other ways are no good: `revalidator/purge` ends ovs-vswitchd when a handler is just installing a flow ("Invalid
//! ukey transition 6->5", seen with 3.5.0, twice in six); `dpctl/del-flow` leaves OVS believing for some rounds that the
//! flow is there, and all its packets go to ovs-vswitchd meanwhile; `dpctl/mod-flow` could bring back what the tables no
//! longer allow. Source: `udpif_run`, `upcall_unixctl_dump_wait`, `udpif_revalidator`, `revalidate`; ovs-vswitchd(8).

use std::path::Path;
use std::time::Duration;

use super::unixctl::{ControlError, Unixctl};

const FORGET: Duration = Duration::from_mins(1);

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

    #[test]
    fn the_limit_is_put_back() {
        let shown = "system@ovs-system:\n  flows         : (current 2) (avg 1) (max 3) (limit 12000)\n";
        assert_eq!(limit(shown), "12000");
        assert_eq!((limit(""), limit("(limit x)"), limit("(limit 7")), ("200000", "200000", "200000"));
    }

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
