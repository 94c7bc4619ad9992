//! Open vSwitch's database, and the versions of its daemon and of OVN's.

use std::path::Path;
use std::time::Duration;

use crate::config::Remote;
use crate::ovs::daemons;
use crate::ovs::link::OvsLink;
use crate::ovs::unixctl::Unixctl;
use crate::ovs::view::OvsView;
use crate::preflight::Fact;

/// Its socket is the NIC's own.
const CONNECT: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5_000 });

/// As it is, whole.
pub async fn database(remote: Remote) -> Fact<OvsView> {
    let mut link = OvsLink::start(remote);
    let look = async {
        loop {
            if let Ok(view) = link.view() {
                return view;
            }
            link.changed().await;
        }
    };
    if let Ok(view) = tokio::time::timeout(CONNECT, look).await {
        return Ok(view);
    }
    link.view().map_err(|why| format!("Open vSwitch not connected: {why}"))
}

pub async fn version(run_dir: &Path, daemon: &'static str) -> Fact<String> {
    daemons::version(&Unixctl::new(run_dir, daemon)).await.map_err(|e| e.to_string())
}
