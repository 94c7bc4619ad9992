//! A namespace that goes with its test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Api, PATIENCE};
use crate::nic::NICS;
use crate::wait::until;

/// A namespace of a test: when dropped it is gone, with all that is in it, on the NICs, too.
pub struct Namespace {
    api: &'static Api,
    name: &'static str,
    before: BTreeMap<String, BTreeSet<String>>,
}

fn edge_ports() -> BTreeMap<String, BTreeSet<String>> {
    NICS.iter().map(|nic| (nic.place(), nic.ports().remove("br-edge").unwrap_or_default())).collect()
}

impl Namespace {
    #[track_caller]
    pub fn create(api: &'static Api, name: &'static str) -> Self {
        let before = edge_ports();
        // Of a run that failed, it may still be on its way out.
        until(&format!("{name} is made"), PATIENCE, || {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            api.try_create("/api/v1/namespaces", &object).map_err(|e| e.message)
        });
        Self { api, name, before }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let path = format!("/api/v1/namespaces/{}", self.name);
        self.api.delete(&path);
        if std::thread::panicking() {
            return;
        }
        until(&format!("{} is gone", self.name), PATIENCE, || match self.api.get(&path) {
            Err(e) if e.code == 404 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        until("the NICs have no port of its pods", PATIENCE, || {
            // Those of a test before, which failed, may have gone meanwhile.
            let now = edge_ports();
            let is_left = |(nic, ports): (&String, &BTreeSet<String>)| !ports.is_subset(&self.before[nic]);
            if now.iter().any(is_left) { Err(format!("{now:?}, before {:?}", self.before)) } else { Ok(()) }
        });
    }
}
