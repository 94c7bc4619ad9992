//! The lab's cluster, in the VM: its API server as an administrator asks it, and pods that real kubelets run.
//!
//! One connection that stays: under emulation, a kubectl or curl for each request would take longer than all else.

mod namespace;
mod pods;
mod silent;
mod waiting;

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::client::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::params::{DeleteParams, GetParams, Patch, PatchParams, PostParams, WatchParams};
use kube::core::{Request, WatchEvent};
use serde_json::Value;
use tokio::runtime::Runtime;

pub use namespace::Namespace;
pub use pods::{KubePod, Namespaces, Wanted, process};
pub use silent::Silent;
pub use waiting::{Versions, heard, in_force};

use crate::wait::until;

/// Two kubelets in software emulation take their time.
pub const PATIENCE: Duration = Duration::from_mins(4);

const ADMIN: &str = "/share/kubernetes/admin.conf";

/// What the API server refused, or why it was not asked.
#[derive(Debug)]
pub struct Refused {
    /// HTTP's, 0 when there was no answer.
    pub code: u16,
    pub message: String,
}

impl From<kube::Error> for Refused {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self { code: status.code, message: status.message },
            other => Self { code: 0, message: other.to_string() },
        }
    }
}

pub struct Api {
    runtime: Runtime,
    client: Client,
}

/// What the machine outside of the VM is to do with a program of the control plane: `stop`, `start`.
#[track_caller]
pub fn control_plane(verb: &str, program: &str) {
    let (new, request) = ("/share/kubernetes/request.new", "/share/kubernetes/request");
    fs::write(new, format!("{verb} {program}\n")).expect("a request");
    fs::rename(new, request).expect("a request");
    until(&format!("{verb} {program}"), PATIENCE, || {
        if Path::new(request).exists() { Err("not done yet".to_owned()) } else { Ok(()) }
    });
}

/// The collection, and the object's name.
fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or_else(|| panic!("no path: {path}"))
}

/// Of an object.
#[track_caller]
pub fn version(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no resourceVersion: {object}"))
}

impl Api {
    /// Everything is allowed to it.
    #[track_caller]
    pub fn admin() -> Self {
        Self::with(ADMIN)
    }

    /// With the credential that a node's kubelet has.
    #[track_caller]
    pub fn kubelet(node: &str) -> Self {
        Self::with(&format!("/share/kubernetes/{node}.conf"))
    }

    #[track_caller]
    fn with(kubeconfig: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("tokio");
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("usable");
            Client::try_from(config).expect("a client")
        });
        Self { runtime, client }
    }

    fn ask(
        &self,
        request: Result<tonic::codegen::http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, Refused> {
        let request = request.expect("a request");
        Ok(self.runtime.block_on(self.client.request::<Value>(request))?)
    }

    /// An object, or a list.
    pub fn get(&self, path: &str) -> Result<Value, Refused> {
        let (collection, name) = parts(path);
        self.ask(Request::new(collection).get(name, &GetParams::default()))
    }

    /// The items of a list.
    #[track_caller]
    pub fn list(&self, path: &str) -> Vec<Value> {
        let list = self.get(path).unwrap_or_else(|e| panic!("{path}: {e:?}"));
        list["items"].as_array().cloned().unwrap_or_else(|| panic!("{path}: {list}"))
    }

    pub fn try_create(&self, collection: &str, object: &Value) -> Result<Value, Refused> {
        self.ask(Request::new(collection).create(&PostParams::default(), object.to_string().into_bytes()))
    }

    #[track_caller]
    pub fn create(&self, collection: &str, object: &Value) -> Value {
        self.try_create(collection, object).unwrap_or_else(|e| panic!("{collection}: {e:?}: {object}"))
    }

    /// A merge patch.
    pub fn try_patch(&self, path: &str, patch: &Value) -> Result<Value, Refused> {
        let (collection, name) = parts(path);
        self.ask(Request::new(collection).patch(name, &PatchParams::default(), &Patch::Merge(patch)))
    }

    /// The same.
    #[track_caller]
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.try_patch(path, patch).unwrap_or_else(|e| panic!("{path}: {e:?}: {patch}"))
    }

    /// Puts this in the object's place.
    pub fn try_replace(&self, path: &str, object: &Value) -> Result<Value, Refused> {
        let (collection, name) = parts(path);
        let text = object.to_string().into_bytes();
        self.ask(Request::new(collection).replace(name, &PostParams::default(), text))
    }

    /// The same, whatever the object's version is.
    #[track_caller]
    pub fn replace(&self, path: &str, object: &Value) -> Value {
        self.try_replace(path, object).unwrap_or_else(|e| panic!("{path}: {e:?}: {object}"))
    }

    /// What is not there is deleted already.
    pub fn try_delete(&self, path: &str) -> Result<(), Refused> {
        let (collection, name) = parts(path);
        match self.ask(Request::new(collection).delete(name, &DeleteParams::default())) {
            Err(e) if e.code != 404 => Err(e),
            _ => Ok(()),
        }
    }

    /// The same.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        self.try_delete(path).unwrap_or_else(|e| panic!("{path}: {e:?}"));
    }

    /// Returns the version at which it was gone.
    #[track_caller]
    pub fn deleted(&self, path: &str) -> u64 {
        let before = self.get(path).unwrap_or_else(|e| panic!("{path}: {e:?}"));
        self.delete(path);
        let (collection, name) = parts(path);
        let from = before["metadata"]["resourceVersion"].as_str().expect("a version");
        // The API server ends a watch whose client is slow, or when it likes: the next begins where this one did.
        let watch = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(60);
        until(&format!("{path} is gone"), Duration::from_mins(1), || {
            let request = Request::new(collection).watch(&watch, from).expect("a request");
            self.runtime.block_on(async {
                let events = self.client.request_events::<Value>(request).await.map_err(|e| e.to_string())?;
                let mut events = std::pin::pin!(events);
                while let Some(event) = events.try_next().await.map_err(|e| e.to_string())? {
                    match event {
                        WatchEvent::Deleted(last) => return Ok(version(&last)),
                        WatchEvent::Error(why) => return Err(format!("the watch failed: {why}")),
                        _ => {}
                    }
                }
                Err("the watch ended".to_owned())
            })
        })
    }
}
