//! Waits until whatever is in Open vSwitch's queues has passed.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use super::progress::ToDrain;
use super::proof::{PATIENCE, RETRY};
use crate::ovs::control::Switch;
use crate::ovs::queues::{self, Waiting};

/// Between two looks at the queues. A switch that keeps up empties them all the time.
const LOOK: Duration = Duration::from_millis(20);
/// They are not empty at most of the looks: the next ones come less often.
const LOOK_LATER: Duration = Duration::from_millis(100);
const MANY: u32 = 100;

/// However long that takes. What is put into the queues after it began is no part of it.
pub async fn until_drained(switch: Switch, wanted: ToDrain) -> ToDrain {
    until_empty().await;
    let mut failing = false;
    // What came out last is in a handler's hands.
    while let Err(error) = switch.handlers_finish(PATIENCE).await {
        if !failing {
            warn!(%error, "not shown that Open vSwitch is done with the packets of its queues; asking again");
        }
        failing = true;
        sleep(RETRY).await;
    }
    debug!(took_ms = wanted.from.elapsed().as_millis(), "the queues have been empty");
    wanted
}

/// Each of those in which something waits now was seen empty, or is gone.
async fn until_empty() {
    let mut waiting: Option<Waiting> = None;
    let (mut failing, mut looks) = (false, 0_u32);
    while waiting.as_ref().is_none_or(|it| !it.is_empty()) {
        if looks > 0 {
            sleep(if looks < MANY { LOOK } else { LOOK_LATER }).await;
        }
        looks = looks.saturating_add(1);
        match queues::waiting().await {
            Ok(now) => waiting = Some(waiting.map_or(now.clone(), |it| &it & &now)),
            Err(error) => {
                if !failing {
                    warn!(%error, "not seen what waits for Open vSwitch; looking again");
                }
                failing = true;
                sleep(RETRY).await;
            }
        }
    }
}
