//! A NIC agent that answers what the test tells it to.
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use proto::v1::{
    self,
    nic_agent_server::{NicAgent, NicAgentServer},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

use super::{certs::Certs, lingering::Lingering};

/// What the agent knows and is to answer.
#[derive(Default)]
pub struct Script {
    /// Answers to the next calls of Attach; when there are none left, `attachment`.
    pub attach: VecDeque<Status>,
    pub attachment: v1::AttachResponse,
    /// Answers by PCI address, before `attachment`.
    pub by_vf: BTreeMap<String, v1::AttachResponse>,
    pub detach: VecDeque<Status>,
    pub status: v1::StatusResponse,
    pub held: BTreeMap<(String, String), v1::AttachRequest>,
    /// What the last Check of each said.
    pub problems: BTreeMap<(String, String), String>,
    /// What happens while the next call of this method is under way.
    pub during: BTreeMap<&'static str, Box<dyn FnOnce() + Send>>,
    /// The calls that came, as `Attach 0/3` or `Detach id:eth0`.
    pub calls: Vec<String>,
}

impl Script {
    fn answer(&self, request: &v1::AttachRequest) -> v1::AttachResponse {
        let pci = request.vf.as_ref().map(|vf| vf.pci_address.clone()).unwrap_or_default();
        self.by_vf.get(&pci).unwrap_or(&self.attachment).clone()
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<Script>>);

impl Service {
    async fn meanwhile(&self, method: &'static str) {
        let work = self.0.lock().unwrap().during.remove(method);
        if let Some(work) = work {
            tokio::task::spawn_blocking(work).await.unwrap();
        }
    }
}

fn key(sandbox: Option<v1::Sandbox>) -> (String, String) {
    let sandbox = sandbox.unwrap();
    (sandbox.id, sandbox.interface)
}

#[tonic::async_trait]
impl NicAgent for Service {
    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"), "the shim must say how long it waits");
        let request = request.into_inner();
        self.meanwhile("Attach").await;
        let vf = request.vf.clone().unwrap();
        let mut script = self.0.lock().unwrap();
        script.calls.push(format!("Attach {}/{}", vf.pf, vf.vf));
        if let Some(status) = script.attach.pop_front() {
            return Err(status);
        }
        script.held.insert(key(request.sandbox.clone()), request.clone());
        Ok(Response::new(script.answer(&request)))
    }

    async fn detach(
        &self,
        request: Request<v1::DetachRequest>,
    ) -> Result<Response<v1::DetachResponse>, Status> {
        let key = key(request.into_inner().sandbox);
        let mut script = self.0.lock().unwrap();
        script.calls.push(format!("Detach {}:{}", key.0, key.1));
        if let Some(status) = script.detach.pop_front() {
            return Err(status);
        }
        let existed = script.held.remove(&key).is_some();
        Ok(Response::new(v1::DetachResponse { existed }))
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        let key = key(request.sandbox);
        script.problems.insert(key.clone(), request.problem);
        match script.held.get(&key) {
            Some(request) => {
                Ok(Response::new(v1::CheckResponse { attachment: Some(script.answer(request)) }))
            }
            None => Err(Status::not_found("no such attachment")),
        }
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        self.meanwhile("List").await;
        let script = self.0.lock().unwrap();
        let items = script.held.values().map(|request| v1::list_response::Item {
            sandbox: request.sandbox.clone(),
            pod: request.pod.clone(),
            vf: request.vf.clone(),
            network: request.network.clone(),
        });
        Ok(Response::new(v1::ListResponse { items: items.collect() }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(self.0.lock().unwrap().status.clone()))
    }
}

/// The agent, on a thread of its own, in a network namespace if one is given.
pub struct FakeAgent {
    pub address: SocketAddr,
    pub script: Arc<Mutex<Script>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeAgent {
    pub fn start(certs: &Certs, netns: Option<PathBuf>, script: Script) -> Self {
        Self::start_at(certs, netns, Arc::new(Mutex::new(script)), "127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(
        certs: &Certs,
        netns: Option<PathBuf>,
        script: Arc<Mutex<Script>>,
        address: SocketAddr,
    ) -> Self {
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&certs.server.0, &certs.server.1))
            .client_ca_root(Certificate::from_pem(&certs.ca));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let service = Service(script.clone());
        let thread = std::thread::spawn(move || {
            if let Some(netns) = netns {
                let file = std::fs::File::open(netns).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let server =
                    Server::builder().tls_config(tls).unwrap().add_service(NicAgentServer::new(service));
                let incoming = TcpListenerStream::new(listener).map(|it| it.map(Lingering::new));
                tokio::select! {
                    result = server.serve_with_incoming(incoming) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv().unwrap();
        Self { address, script, stop: Some(stop), thread: Some(thread) }
    }

    pub fn calls(&self) -> Vec<String> {
        self.script.lock().unwrap().calls.clone()
    }

    pub fn held(&self) -> Vec<(String, String)> {
        self.script.lock().unwrap().held.keys().cloned().collect()
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A refusal as nic-agent words it.
pub fn refusal(code: tonic::Code, reason: &'static str, message: &str) -> Status {
    proto::refusal(code, reason, message)
}
