//! Follows the one NicNode that is this NIC's.

use std::sync::Arc;

use drawbridge_api::NicNode;
use futures::StreamExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use tokio::sync::watch;
use tracing::{info, warn};

/// What the API has under our name.
#[derive(Debug, Clone, Default)]
pub enum Own {
    /// Not asked yet, or never answered.
    #[default]
    Unknown,
    Absent,
    Known(Arc<NicNode>),
}

/// Until dropped. Losing the API leaves what was last seen.
pub async fn follow(client: Client, name: &str, publish: &watch::Sender<Own>) {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(Api::<NicNode>::all(client), only).default_backoff();
    let mut events = std::pin::pin!(events);
    let (mut listed, mut failing) = (None, false);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed = None,
            Ok(watcher::Event::InitApply(node)) => listed = Some(node),
            Ok(watcher::Event::InitDone) => {
                failing = false;
                say(publish, listed.take(), name);
            }
            Ok(watcher::Event::Apply(node)) => {
                failing = false;
                say(publish, Some(node), name);
            }
            Ok(watcher::Event::Delete(_)) => say(publish, None, name),
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(name, error = %error, "NicNode cannot be followed, what it last said stays in force");
                }
            }
        }
    }
}

fn say(publish: &watch::Sender<Own>, node: Option<NicNode>, name: &str) {
    publish.send_if_modified(|current| {
        let new = match (node, &*current) {
            (None, Own::Absent) => return false,
            (None, _) => {
                warn!(
                    name,
                    "the cluster has no NicNode of this name: make one, the file is in force meanwhile"
                );
                Own::Absent
            }
            (Some(node), Own::Known(old)) if old.meta().resource_version == node.meta().resource_version => {
                return false;
            }
            (Some(node), Own::Known(_)) => Own::Known(Arc::new(node)),
            (Some(node), _) => {
                info!(name, "NicNode found");
                Own::Known(Arc::new(node))
            }
        };
        *current = new;
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_once_of_each_state() {
        let (publish, mut told) = watch::channel(Own::Unknown);
        let node = |version: &str| {
            let text = format!(
                r#"{{"apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode",
                    "metadata": {{"name": "n", "resourceVersion": "{version}"}},
                    "spec": {{"node": "n", "profile": {{"kind": "KubeOVN"}},
                        "ovn": {{"remotes": ["tcp:a:1"], "encapsulation": {{"types": ["Geneve"]}}}}}}}}"#
            );
            serde_json::from_str::<NicNode>(&text).unwrap()
        };
        let mut said = |node: Option<NicNode>| {
            say(&publish, node, "n");
            let news = told.has_changed().unwrap();
            (news, told.borrow_and_update().clone())
        };
        assert!(matches!(said(None), (true, Own::Absent)));
        assert!(matches!(said(None), (false, Own::Absent)));
        assert!(matches!(said(Some(node("1"))), (true, Own::Known(_))));
        assert!(matches!(said(Some(node("1"))), (false, _)));
        assert!(
            matches!(said(Some(node("2"))), (true, Own::Known(it)) if it.meta().resource_version.as_deref() == Some("2"))
        );
        assert!(matches!(said(None), (true, Own::Absent)));
    }
}
