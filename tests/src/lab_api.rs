//! The lab's cluster as an administrator asks it, from inside the VM. Paths are the API's own: `/api/v1/nodes/host1`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::vm;
use crate::nic::NICS;
use crate::wait::until;

/// Two kubelets in software emulation take their time.
pub const PATIENCE: Duration = Duration::from_mins(4);

/// What the API server refused.
#[derive(Debug)]
pub struct Refused {
    /// HTTP's, 0 when there was no answer.
    pub code: u64,
    pub message: String,
}

fn ask(path: &str, arguments: &[&str]) -> Result<Value, Refused> {
    let said = vm(&[&["/lab/api", path], arguments].concat());
    let answer: Value = serde_json::from_str(&said.stdout)
        .map_err(|e| Refused { code: 0, message: format!("{e}: {said:?}") })?;
    if answer["kind"] == "Status" && answer["status"] == "Failure" {
        let message = answer["message"].as_str().unwrap_or_default().to_owned();
        return Err(Refused { code: answer["code"].as_u64().unwrap_or_default(), message });
    }
    Ok(answer)
}

/// An object, or a list.
pub fn get(path: &str) -> Result<Value, Refused> {
    ask(path, &[])
}

/// The items of a list.
#[track_caller]
pub fn list(path: &str) -> Vec<Value> {
    let list = get(path).unwrap_or_else(|e| panic!("{path}: {e:?}"));
    list["items"].as_array().cloned().unwrap_or_else(|| panic!("{path}: {list}"))
}

pub fn try_create(collection: &str, object: &Value) -> Result<Value, Refused> {
    ask(collection, &["--header", "Content-Type: application/json", "--data", &object.to_string()])
}

#[track_caller]
pub fn create(collection: &str, object: &Value) -> Value {
    try_create(collection, object).unwrap_or_else(|e| panic!("{collection}: {e:?}: {object}"))
}

/// A merge patch.
#[track_caller]
pub fn patch(path: &str, patch: &Value) -> Value {
    let header = "Content-Type: application/merge-patch+json";
    let arguments = ["--request", "PATCH", "--header", header, "--data", &patch.to_string()];
    ask(path, &arguments).unwrap_or_else(|e| panic!("{path}: {e:?}: {patch}"))
}

/// What is not there is deleted already.
#[track_caller]
pub fn delete(path: &str) {
    match ask(path, &["--request", "DELETE"]) {
        Err(e) if e.code != 404 => panic!("{path}: {e:?}"),
        _ => {}
    }
}

/// A namespace of a test: when dropped it is gone, with all that is in it, on the NICs, too.
#[derive(Debug)]
pub struct Namespace {
    name: &'static str,
    before: BTreeMap<String, std::collections::BTreeSet<String>>,
}

fn edge_ports() -> BTreeMap<String, std::collections::BTreeSet<String>> {
    NICS.iter().map(|nic| (nic.place(), nic.ports().remove("br-edge").unwrap_or_default())).collect()
}

impl Namespace {
    #[track_caller]
    pub fn create(name: &'static str) -> Self {
        let before = edge_ports();
        // Of a run that failed, it may still be on its way out.
        until(&format!("{name} is made"), PATIENCE, || {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            try_create("/api/v1/namespaces", &object).map_err(|e| e.message)
        });
        Self { name, before }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let path = format!("/api/v1/namespaces/{}", self.name);
        delete(&path);
        if std::thread::panicking() {
            return;
        }
        until(&format!("{} is gone", self.name), PATIENCE, || match get(&path) {
            Err(e) if e.code == 404 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        until("the NICs have no port of its pods", PATIENCE, || {
            let now = edge_ports();
            if now == self.before { Ok(()) } else { Err(format!("{now:?}, before {:?}", self.before)) }
        });
    }
}
