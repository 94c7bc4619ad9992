//! kubelet's pod-resources socket.
use std::{path::PathBuf, sync::mpsc, thread::JoinHandle};

use host_shim::kubelet::v1::{
    ContainerDevices, ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse,
    ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
    pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
};
use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

struct Service {
    pods: Vec<PodResources>,
    get: bool,
}

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        // With Get, nobody should have to read all pods.
        if self.get {
            return Err(Status::internal("List was called although Get answers"));
        }
        Ok(Response::new(ListPodResourcesResponse { pod_resources: self.pods.clone() }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        if !self.get {
            return Err(Status::unknown("PodResources API Get method disabled"));
        }
        let request = request.into_inner();
        let found = self
            .pods
            .iter()
            .find(|pod| pod.name == request.pod_name && pod.namespace == request.pod_namespace);
        Ok(Response::new(GetPodResourcesResponse { pod_resources: found.cloned() }))
    }
}

pub struct FakeKubelet {
    pub socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeKubelet {
    pub fn start(socket: PathBuf, pods: Vec<PodResources>, get: bool) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let path = socket.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(path).unwrap();
                tell.send(()).unwrap();
                let service = PodResourcesListerServer::new(Service { pods, get });
                let server = Server::builder().add_service(service);
                tokio::select! {
                    result = server.serve_with_incoming(UnixListenerStream::new(listener)) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        told.recv().unwrap();
        Self { socket, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A pod with devices, as kubelet lists it.
pub fn pod(namespace: &str, name: &str, devices: &[(&str, &[&str])]) -> PodResources {
    let device = |(resource, ids): &(&str, &[&str])| ContainerDevices {
        resource_name: (*resource).to_owned(),
        device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    };
    let container = ContainerResources { name: "main".into(), devices: devices.iter().map(device).collect() };
    PodResources { name: name.into(), namespace: namespace.into(), containers: vec![container] }
}
