//! The reconcile loop without a NIC: the gRPC server, its handle, the intake and what it does to the ledger on a disk are the
//! agent's own; what a pass does besides, which needs a NIC, is left out, and takes as long as a pass takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nic_agent::admission::{self, Grounds};
use nic_agent::bucket::Rate;
use nic_agent::claim::Claim;
use nic_agent::config::Served;
use nic_agent::config::ZoneRange;
use nic_agent::directory::{Directory, PodRecord};
use nic_agent::durable::SystemDisk;
use nic_agent::ledger::Ledger;
use nic_agent::metrics::Metrics;
use nic_agent::network::Networks;
use nic_agent::published::{Entry, Published, State, Wiring};
use nic_agent::reconcile::batch;
use nic_agent::reconcile::handle::Handle;
use nic_agent::reconcile::intake::{self, Intake, Tickets};
use nic_agent::server::{Limits, Rates, Server};
use offload::ids::CtZone;
use proto::v1;
use proto::v1::nic_agent_client::NicAgentClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{Ca, HOST, attached, endpoint, node, quick, server_config};

const PASS: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(200);
pub const PODS: u16 = 200;

/// The reconcile loop without a NIC.
struct Loop {
    intake: Intake,
    tickets: Tickets,
    ledger: Ledger,
    path: std::path::PathBuf,
    publish: watch::Sender<Arc<Published>>,
    metrics: Metrics,
    writes: Arc<AtomicU64>,
    largest: Arc<AtomicU64>,
}

impl Loop {
    async fn run(mut self, pods: Directory) {
        loop {
            tokio::select! {
                is_asked = self.intake.ready() => if !is_asked { return },
                () = tokio::time::sleep(TICK) => {}
            }
            let taken = self.intake.take();
            self.metrics.abandoned.inc_by(taken.abandoned);
            self.largest.fetch_max(u64::try_from(taken.commands.len()).unwrap(), Ordering::SeqCst);
            let admit = |claim: &Claim, ledger: &Ledger| {
                let grounds = Grounds {
                    directory: &pods,
                    ledger,
                    served: SERVED,
                    networks: &Networks,
                    zones: ZoneRange::new(CtZone::new(61000).unwrap(), CtZone::new(61254).unwrap()).unwrap(),
                    budget: None,
                    management_port: None,
                    representor: &|_| Ok(()),
                    logical_port: &|claim| claim.pod.to_string(),
                };
                admission::admit(claim, &grounds)
            };
            let passes = self.publish.borrow().passes;
            let save = |ledger: &mut Ledger| ledger.save(&SystemDisk, &self.path);
            let settled =
                batch::settle(taken.commands, passes, &mut self.ledger, &mut self.tickets, admit, save);
            self.writes.store(self.ledger.generation(), Ordering::SeqCst);
            tokio::time::sleep(PASS).await;
            self.publish(passes + 1);
            for (reply, existed) in settled.detached {
                let _ = reply.send(Ok(existed));
            }
        }
    }

    /// Only the pod of VF 0 ever becomes ready.
    fn publish(&mut self, passes: u64) {
        let mut published = Published { passes, ..Published::default() };
        for attachment in self.ledger.attachments() {
            let (claim, port) = (attachment.claim().unwrap(), attachment.overlay().unwrap());
            let key = &claim.key.clone();
            let state = if claim.vf.vf == 0 {
                self.tickets.set_ready(&attachment.id());
                State::Ready(Arc::new(attached()))
            } else {
                State::Waiting("its port".to_owned())
            };
            let wiring = Wiring {
                zone: port.zone,
                logical_port: port.logical_port.clone(),
                binding: None,
                representor: None,
            };
            let token = self.tickets.token(key);
            let entry = Entry { claim, token, wiring, state, remarks: Vec::new(), problem: None };
            published.attachments.insert(key.clone(), entry);
        }
        self.publish.send_replace(Arc::new(published));
    }
}

pub const SERVED: Served<'static> = Served { node: "server1", static_pods: false };

pub fn pods() -> Directory {
    let pod = |of: u16| PodRecord {
        uid: format!("u{of}"),
        namespace: "default".to_owned(),
        name: format!("web-{of}"),
        node: "server1".to_owned(),
        host_network: false,
        mirror: false,
        static_uid: String::new(),
        phase: "Running".to_owned(),
        annotations: std::collections::BTreeMap::new(),
    };
    Directory::Known(Arc::new((0..PODS).map(|it| (format!("u{it}"), pod(it))).collect()))
}

pub fn request(pod: u16, try_: usize) -> v1::AttachRequest {
    v1::AttachRequest {
        sandbox: Some(v1::Sandbox { id: format!("s{pod}-{try_}"), interface: "eth0".to_owned() }),
        pod: Some(v1::Pod {
            namespace: "default".to_owned(),
            name: format!("web-{pod}"),
            uid: format!("u{pod}"),
        }),
        network: "ovn".to_owned(),
        vf: Some(v1::Vf { pci_address: "0000:03:00.2".to_owned(), pf: 0, vf: pod.into() }),
    }
}

pub fn without_budgets() -> Limits {
    let any = Rate { burst: u32::MAX, period: Duration::from_nanos(1) };
    Limits { rates: Rates { attach: any, detach: any, check: any, list: any, status: any }, ..quick() }
}

pub struct Bench {
    ca: Ca,
    address: std::net::SocketAddr,
    pub metrics: Metrics,
    pub published: watch::Receiver<Arc<Published>>,
    pub writes: Arc<AtomicU64>,
    pub largest: Arc<AtomicU64>,
    pub cancel: CancellationToken,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub fn start(limits: Limits) -> Self {
        let (ca, dir, metrics) = (Ca::new(), tempfile::tempdir().unwrap(), Metrics::new());
        ca.put_server(&dir);
        let config = server_config(&dir, vec!["127.0.0.1:0".parse().unwrap()]);
        let (requests, intake) = intake::channel();
        let (publish, published) = watch::channel(Arc::default());
        let handle = Handle::new(requests, published.clone(), config.attach_timeout, None, &metrics);
        let server = Server::bind_within(limits, &config, &node(), handle, metrics.clone()).unwrap();
        let address = server.local_addrs()[0];
        let cancel = CancellationToken::new();
        tokio::spawn(server.run(cancel.clone()));
        let (writes, largest) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let looping = Loop {
            tickets: intake.tickets([].into()),
            intake,
            ledger: Ledger::default(),
            path: dir.path().join("ledger.json"),
            publish,
            metrics: metrics.clone(),
            writes: writes.clone(),
            largest: largest.clone(),
        };
        tokio::spawn(looping.run(pods()));
        Self { ca, address, metrics, published, writes, largest, cancel, dir }
    }

    /// With a key of its own.
    pub async fn shim(&self) -> NicAgentClient<Channel> {
        let cert = self.ca.client(&[HOST]);
        NicAgentClient::new(endpoint(self.address, &self.ca.pem(), Some(&cert)).connect().await.unwrap())
    }

    pub fn counted(&self, line: &str) -> u64 {
        let text = self.metrics.encode(nic_agent::metrics::Format::Text).unwrap();
        text.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0)
    }
}
