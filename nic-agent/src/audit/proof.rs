//! Asks Open vSwitch for the proof that its datapath follows the tables, for the newest version of them, until it has it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::news;
use crate::ovs::control::Switch;

/// For each of its answers. A switch that is busy takes seconds for a round; one that is stopped is asked again.
pub const PATIENCE: Duration = Duration::from_mins(1);
pub const RETRY: Duration = Duration::from_secs(1);

/// What was shown last.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// Tables of this version, and all before: the datapath follows them. 0: nothing was shown.
    pub version: u64,
    /// Since then.
    pub at: Option<Instant>,
}

/// `wanted` is the version that is in the tables.
pub async fn run(
    switch: Switch,
    mut wanted: watch::Receiver<u64>,
    proven: watch::Sender<Proof>,
    cancel: CancellationToken,
) {
    let work = async {
        let mut failing = false;
        loop {
            // What is in the tables before it is begun is what it proves.
            let version = *wanted.borrow_and_update();
            if version <= proven.borrow().version {
                news::changed(&mut wanted).await;
                continue;
            }
            match switch.datapath_follows(PATIENCE).await {
                Ok(()) => {
                    debug!(version, "the datapath follows the tables");
                    proven.send_replace(Proof { version, at: Some(Instant::now()) });
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        warn!(%error, "not shown that the datapath follows the tables; asking again");
                    }
                    failing = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
}
