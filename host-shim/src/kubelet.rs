//! kubelet's pod-resources socket: which devices a pod was given.
//!
//! `Get` asks for one pod and is young (a feature gate of kubelet's); where it is off or unknown, `List` is read. kubelet
//! has allocated a pod's devices before it asks for the sandbox, so an answer without a device is final.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::{args::Pod, device::PciAddress};

/// The messages, generated from `proto/podresources.proto`.
pub mod v1 {
    #![allow(clippy::all, clippy::pedantic, missing_docs)]
    tonic::include_proto!("v1");
}

use v1::{
    GetPodResourcesRequest, ListPodResourcesRequest, PodResources,
    pod_resources_lister_client::PodResourcesListerClient,
};

/// No device for this pod.
#[derive(Debug, Error)]
pub enum KubeletError {
    #[error("kubelet's pod-resources socket {socket} does not answer: {problem}; see podResourcesSocket")]
    Unreachable { socket: PathBuf, problem: String },
    #[error(
        "kubelet gave pod {pod} no device of {resource}; request it in the pod's resources (limits: {resource}: 1), or \
         configure the resourceName that the device plugin offers"
    )]
    NoDevice { pod: String, resource: String },
    #[error(
        "all {count} devices of {resource} that pod {pod} has are used by its other interfaces; request one more"
    )]
    AllUsed { pod: String, resource: String, count: usize },
    #[error(
        "device {id:?} of {resource} is not a PCI address: resourceName must be a resource of SR-IOV VFs"
    )]
    NotPci { id: String, resource: String },
}

/// As kubelet itself limits its clients' patience (podresources.DefaultTimeout is 10 s in its own client).
const PATIENCE: Duration = Duration::from_secs(10);
/// Multus' limit, too: List of a full node.
const ANSWER_MAX: usize = 16 << 20;

/// The PCI addresses of `resource` that kubelet gave to the pod, in kubelet's order.
pub async fn devices(socket: &Path, pod: &Pod, resource: &str) -> Result<Vec<PciAddress>, KubeletError> {
    let unreachable = |problem: String| KubeletError::Unreachable { socket: socket.to_owned(), problem };
    let found = timeout(PATIENCE, find(socket, pod))
        .await
        .map_err(|_| unreachable("no answer within 10 s".into()))?
        .map_err(unreachable)?;
    let mut devices = Vec::new();
    for container in found.iter().flat_map(|pod| &pod.containers) {
        for given in container.devices.iter().filter(|given| given.resource_name == resource) {
            for id in &given.device_ids {
                let not_pci = |_| KubeletError::NotPci { id: id.clone(), resource: resource.to_owned() };
                let address: PciAddress = id.parse().map_err(not_pci)?;
                // A device with several NUMA nodes is listed once for each.
                if !devices.contains(&address) {
                    devices.push(address);
                }
            }
        }
    }
    if devices.is_empty() {
        return Err(KubeletError::NoDevice { pod: full_name(pod), resource: resource.to_owned() });
    }
    Ok(devices)
}

/// The first of `devices` that none of the pod's other interfaces uses.
pub fn choose(
    devices: &[PciAddress],
    used: &[PciAddress],
    pod: &Pod,
    resource: &str,
) -> Result<PciAddress, KubeletError> {
    devices.iter().find(|device| !used.contains(device)).copied().ok_or_else(|| KubeletError::AllUsed {
        pod: full_name(pod),
        resource: resource.to_owned(),
        count: devices.len(),
    })
}

async fn find(socket: &Path, pod: &Pod) -> Result<Option<PodResources>, String> {
    let channel: Channel = Endpoint::from_shared(format!("unix://{}", socket.display()))
        .map_err(|error| error.to_string())?
        .connect()
        .await
        .map_err(|error| crate::agent::chain(&error))?;
    let mut client = PodResourcesListerClient::new(channel).max_decoding_message_size(ANSWER_MAX);
    let request = GetPodResourcesRequest { pod_name: pod.name.clone(), pod_namespace: pod.namespace.clone() };
    // Off, it answers with an error of no particular code; and what Get does not find, List does not either, but that
    // costs little.
    if let Ok(answer) = client.get(request).await
        && let Some(found) = answer.into_inner().pod_resources
    {
        return Ok(Some(found));
    }
    let answer =
        client.list(ListPodResourcesRequest {}).await.map_err(|status| status.message().to_owned())?;
    let mut pods = answer.into_inner().pod_resources.into_iter();
    Ok(pods.find(|found| found.name == pod.name && found.namespace == pod.namespace))
}

fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}
