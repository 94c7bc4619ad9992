//! Server 1's credential in the hands of whoever is root there.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Api, PATIENCE, Refused};
use tests::json::lay_over;
use tests::{until, vm};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/host1";

/// What becomes of a lie at the API server.
#[derive(Clone, Copy)]
pub enum Fate {
    /// Whatever our admission policies are.
    Refused(&'static str),
    /// By this policy of ours, and else taken.
    Guarded(&'static str),
    Taken,
}

pub struct Liar {
    pub api: Api,
    admin: &'static Api,
    /// Our admission policies are there.
    pub guarded: bool,
    refused: Cell<usize>,
    taken: Cell<usize>,
    wrong: RefCell<Vec<String>>,
    stop: Arc<AtomicBool>,
    lease: Option<JoinHandle<()>>,
}

impl Liar {
    /// Its lease is renewed, so that the node stays ready.
    pub fn start(admin: &'static Api, guarded: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let lease = std::thread::spawn(move || {
            let api = Api::kubelet("host1");
            while !stopped.load(Ordering::Relaxed) {
                let now = vm(&["date", "--utc", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).ok();
                // What does not get through is tried again.
                let _ = api.try_patch(LEASE, &json!({"spec": {"renewTime": now.trim()}}));
                for _ in 0..20 {
                    if !stopped.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(250));
                    }
                }
            }
        });
        Self {
            api: Api::kubelet("host1"),
            admin,
            guarded,
            refused: Cell::new(0),
            taken: Cell::new(0),
            wrong: RefCell::default(),
            stop,
            lease: Some(lease),
        }
    }

    /// All of them had the fate that they should have.
    #[track_caller]
    pub fn was_judged_right(&self) {
        assert_eq!(*self.wrong.borrow(), Vec::<String>::new());
    }

    pub fn refused(&self) -> usize {
        self.refused.get()
    }

    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Was it taken? Returns the object.
    pub fn judge(&self, what: &str, fate: Fate, tried: Result<Value, Refused>) -> Option<Value> {
        let wanted = match fate {
            Fate::Refused(by) => Some(by),
            Fate::Guarded(by) => self.guarded.then_some(by),
            Fate::Taken => None,
        };
        match (tried, wanted) {
            (Ok(object), None) => {
                println!("  {what}: taken");
                self.taken.set(self.taken.get() + 1);
                Some(object)
            }
            (Err(e), Some(by)) if e.message.contains(by) => {
                println!("  {what}: {} {}", e.code, e.message);
                self.refused.set(self.refused.get() + 1);
                None
            }
            (tried, wanted) => {
                println!("  {what}: NOT AS IT SHOULD BE, {wanted:?}: {tried:?}");
                self.wrong.borrow_mut().push(what.to_owned());
                tried.ok()
            }
        }
    }

    /// The whole object with this laid over it, as kubelet writes a status.
    pub fn puts(&self, object: &str, change: &Value) -> Result<Value, Refused> {
        until(&format!("{object} is written"), PATIENCE, || {
            let mut there = self.admin.get(object).map_err(|e| e.message)?;
            lay_over(&mut there, change);
            match self.api.try_replace(&format!("{object}/status"), &there) {
                Err(e) if e.code == 409 || e.code == 0 => Err(e.message),
                other => Ok(other),
            }
        })
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.lease.take() {
            let _ = thread.join();
        }
        // Of a run that failed: they would hold up whatever comes next.
        for path in ["/api/v1/nodes/host1", "/api/v1/namespaces/bank/pods/own"] {
            let _ = self.admin.try_patch(path, &json!({"metadata": {"finalizers": null}}));
        }
    }
}
