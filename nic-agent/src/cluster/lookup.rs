//! Asks the API for one pod: kubelet is often faster than our watch.
//!
//! Failure: who cannot be asked in time refuses nobody for good: the claim is answered with `directory-unavailable`, which
//! the server's runtime tries again. How often a server can make us ask is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::core::Request;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

use super::client::Accesses;
use super::kinds::Pods;
use super::object::Seen;
use crate::claim::{PodRef, Refusal};
use crate::config::Served;
use crate::directory::{Directories, Directory, PodRecord};

/// For all of it: kubelet waits.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two questions.
const PACE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct Lookup {
    accesses: Accesses,
    directories: Directories,
    /// `node.name`.
    served: Arc<str>,
    found: mpsc::Sender<PodRecord>,
    /// When the next question may be asked.
    next: Arc<Mutex<Instant>>,
}

impl Lookup {
    pub fn new(
        accesses: Accesses,
        directories: Directories,
        served: Arc<str>,
        found: mpsc::Sender<PodRecord>,
    ) -> Self {
        Self { accesses, directories, served, found, next: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Returns when the directory knows the pod, or is known not to, with the pod as the API has it; `Err` when it is clear
    /// already that the claim is not believed.
    pub async fn ensure(&self, pod: &PodRef) -> Result<PodRef, Refusal> {
        let unavailable = |why: String| Refusal::DirectoryUnavailable { why };
        let deadline = Instant::now() + DEADLINE;
        let mut directories = self.directories.clone();
        let known = directories.wait_for(|it| matches!(it, Directory::Known(_)));
        match timeout_at(deadline, known).await {
            Ok(Ok(directory)) if holds(&directory, pod) => return Ok(directory.resolve(pod)),
            Ok(Ok(_)) => {}
            // What it says then is why.
            Ok(Err(_)) | Err(_) => return Ok(pod.clone()),
        }
        let shown = directories.wait_for(|it| holds(it, pod));
        let asked = tokio::select! {
            biased;
            shown = shown => return Ok(shown.map_or_else(|_| pod.clone(), |it| it.resolve(pod))),
            asked = timeout_at(deadline, self.ask(pod, deadline)) => asked,
        };
        let silent = || unavailable(format!("the Kubernetes API did not show pod {pod} within {DEADLINE:?}"));
        let Some(record) = asked.map_err(|_| silent())?.map_err(unavailable)? else {
            return Err(Refusal::UnknownPod { pod: pod.to_string(), uid: pod.uid.clone() });
        };
        let alone = BTreeMap::from([(record.uid.clone(), record.clone())]);
        let alone = Directory::Known(Arc::new(alone));
        // What the NicNode has of static pods, admission knows.
        alone.judge(&alone.resolve(pod), Served { node: &self.served, static_pods: true })?;
        let stopping = || unavailable("nic-agent is stopping".to_owned());
        self.found.send(record).await.map_err(|_| stopping())?;
        let mut directories = self.directories.clone();
        let shown = timeout_at(deadline, directories.wait_for(|it| holds(it, pod))).await;
        Ok(shown.map_err(|_| silent())?.map_err(|_| stopping())?.resolve(pod))
    }

    /// `None`: there is no pod of that name.
    async fn ask(&self, pod: &PodRef, deadline: Instant) -> Result<Option<PodRecord>, String> {
        self.wait_for_turn(deadline).await?;
        let access = self.accesses.borrow().clone()?;
        let client = access.client().map_err(|e| e.to_string())?;
        let path = format!("/api/v1/namespaces/{}/pods", pod.namespace);
        let request = Request::new(path).get(&pod.name, &kube::api::GetParams::default());
        let request = request.map_err(|e| kube_watch::chain(&e))?;
        match client.request::<Seen<Pods>>(request).await {
            Ok(seen) => match seen.read() {
                Ok((_, record)) => Ok(Some(record)),
                Err(e) => Err(format!("pod {pod} cannot be read: {e}")),
            },
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(e) => Err(format!("pod {pod} cannot be asked for: {}", kube_watch::Trouble::of(&e))),
        }
    }

    async fn wait_for_turn(&self, deadline: Instant) -> Result<(), String> {
        let turn = {
            let mut next = self.next.lock().await;
            let turn = (*next).max(Instant::now());
            if turn >= deadline {
                return Err("too many pods are asked for that the cluster has not shown".to_owned());
            }
            *next = turn + PACE;
            turn
        };
        tokio::time::sleep_until(turn).await;
        Ok(())
    }
}

fn holds(directory: &Directory, pod: &PodRef) -> bool {
    directory.get(&directory.resolve(pod).uid).is_some()
}
