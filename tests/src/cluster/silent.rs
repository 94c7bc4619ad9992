//! A server of which kubelet says nothing, so that somebody else may speak for it.

use super::{Api, PATIENCE};
use crate::command::daemon;
use crate::wait::until;

const NODE: &str = "/api/v1/nodes/host1";

/// Server 1 without its kubelet, which comes back when dropped.
pub struct Silent {
    api: &'static Api,
}

impl Silent {
    #[track_caller]
    pub fn new(api: &'static Api) -> Self {
        daemon("host1", "kubelet", "stop");
        Self { api }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let before = self.api.get(NODE);
        daemon("host1", "kubelet", "start");
        if std::thread::panicking() {
            return;
        }
        let before = before.expect("the node")["status"]["conditions"].clone();
        until("kubelet is back, with its VFs", PATIENCE, || {
            let node = self.api.get(NODE).map_err(|e| e.message)?;
            let all = node["status"]["conditions"].as_array().into_iter().flatten();
            let ready = all.clone().find(|it| it["type"] == "Ready").cloned().unwrap_or_default();
            let before = before.as_array().into_iter().flatten().find(|it| it["type"] == "Ready");
            let is_new = before.is_none_or(|it| it["lastHeartbeatTime"] != ready["lastHeartbeatTime"]);
            let vfs = node["status"]["allocatable"]["drawbridge.dev/vf"].as_str().unwrap_or("0");
            if ready["status"] == "True" && is_new && vfs != "0" {
                Ok(())
            } else {
                Err(node["status"].to_string())
            }
        });
    }
}
