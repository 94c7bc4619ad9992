//! A server that asks and does not wait: the loop's passes go on, its ledger is written so often as there are passes, and
//! who waits is answered.
//!
//! The gRPC server, its handle, the intake and what it does to the ledger on a disk are the agent's own; what a pass does
//! besides, which needs a NIC, is left out, and takes as long as a pass takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nic_agent::admission::{self, Grounds};
use nic_agent::claim::{Claim, Refusal};
use nic_agent::config::ZoneRange;
use nic_agent::directory::{Directory, PodRecord, Served};
use nic_agent::ledger::Ledger;
use nic_agent::reconcile::batch;
use nic_agent::reconcile::handle::Handle;
use nic_agent::reconcile::intake::{self, Intake, Tickets};
use nic_agent::reconcile::published::{Entry, Published, State, Wiring};
use nic_agent::server::{Limits, Server};
use offload::ids::{CtZone, VfId};
use proto::v1;
use proto::v1::nic_agent_client::NicAgentClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::common::{Ca, HOST, attached, endpoint, node, quick, reason, server_config};
use nic_agent::metrics::Metrics;

const PASS: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(200);
const PODS: u16 = 200;

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
                    zones: ZoneRange::new(CtZone::new(61000).unwrap(), CtZone::new(61254).unwrap()).unwrap(),
                    budget: None,
                    management_port: None,
                    representor: &|_| Ok(()),
                    logical_port: &|claim| claim.pod.to_string(),
                };
                admission::admit(claim, &grounds)
            };
            let passes = self.publish.borrow().passes;
            let save = |ledger: &mut Ledger| ledger.save(&self.path);
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
            let key = &attachment.claim.key;
            let state = if attachment.claim.vf.vf == 0 {
                self.tickets.set_ready(key);
                State::Ready(Arc::new(attached()))
            } else {
                State::Waiting("its port".to_owned())
            };
            let wiring = Wiring {
                zone: attachment.zone,
                logical_port: attachment.logical_port.clone(),
                binding: None,
                representor: None,
            };
            let token = self.tickets.token(key);
            let entry = Entry { claim: attachment.claim.clone(), token, wiring, state };
            published.attachments.insert(key.clone(), entry);
        }
        self.publish.send_replace(Arc::new(published));
    }
}

const SERVED: Served<'static> = Served { node: "server1", static_pods: false };

fn pods() -> Directory {
    let pod = |of: u16| PodRecord {
        uid: format!("u{of}"),
        namespace: "default".to_owned(),
        name: format!("web-{of}"),
        node: "server1".to_owned(),
        host_network: false,
        mirror: false,
        static_uid: String::new(),
        phase: "Running".to_owned(),
    };
    Directory::Known(Arc::new((0..PODS).map(|it| (format!("u{it}"), pod(it))).collect()))
}

fn request(pod: u16, try_: usize) -> v1::AttachRequest {
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

struct Bench {
    ca: Ca,
    address: std::net::SocketAddr,
    metrics: Metrics,
    published: watch::Receiver<Arc<Published>>,
    writes: Arc<AtomicU64>,
    largest: Arc<AtomicU64>,
    cancel: CancellationToken,
    dir: tempfile::TempDir,
}

impl Bench {
    fn start(limits: Limits) -> Self {
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
    async fn shim(&self) -> NicAgentClient<Channel> {
        let cert = self.ca.client(&[HOST]);
        NicAgentClient::new(endpoint(self.address, &self.ca.pem(), Some(&cert)).connect().await.unwrap())
    }

    fn counted(&self, line: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        text.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0)
    }
}

/// Until told to stop: Attach after Attach, each with 5 ms to be answered in, or dropped at once. How many.
async fn flood(mut shim: NicAgentClient<Channel>, lane: usize, stop: CancellationToken) -> u64 {
    let mut asked = 0;
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let pod = u16::try_from(1 + (lane * 31 + number) % usize::from(PODS - 1)).unwrap();
        let mut request = Request::new(request(pod, lane * 1_000_000 + number));
        request.set_timeout(Duration::from_millis(5));
        let attach = shim.attach(request);
        // Every other one is a stream that is reset.
        let patience = Duration::from_millis(if number % 2 == 0 { 1 } else { 50 });
        if let Ok(answer) = tokio::time::timeout(patience, attach).await {
            let status = answer.unwrap_err();
            // Too many resets end a connection, and the channel makes another.
            let is_broken = std::error::Error::source(&status).is_some();
            assert!(
                is_broken
                    || matches!(
                        status.code(),
                        Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
                    ),
                "{status:?}"
            );
        }
        asked += 1;
    }
    asked
}

/// What one shim with a bad loop does while another, with its own key, works.
async fn who_waits_is_answered(limits: Limits) -> (Bench, u64) {
    let bench = Bench::start(limits);
    let bad = bench.shim().await;
    let stop = CancellationToken::new();
    let lanes: Vec<_> = (0..8).map(|lane| tokio::spawn(flood(bad.clone(), lane, stop.clone()))).collect();

    let mut good = bench.shim().await;
    let mut published = bench.published.clone();
    for try_ in 0..20 {
        let key = Some(v1::Sandbox { id: format!("s0-{try_}"), interface: "eth0".to_owned() });
        let answer = good.attach(request(0, try_)).await.unwrap().into_inner();
        assert_eq!(answer.logical_port, attached().logical_port);
        good.check(v1::CheckRequest { sandbox: key.clone() }).await.unwrap();
        assert!(good.detach(v1::DetachRequest { sandbox: key }).await.unwrap().into_inner().existed);
        // Passes go on: this one was not kept from being made.
        let before = published.borrow_and_update().passes;
        published.wait_for(|it| it.passes > before).await.unwrap();
    }
    stop.cancel();
    let mut asked = 0;
    for lane in lanes {
        asked += lane.await.unwrap();
    }
    // Nothing of them stays.
    let gone = published.wait_for(|it| it.attachments.is_empty());
    tokio::time::timeout(Duration::from_mins(1), gone).await.unwrap().unwrap();
    (bench, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaches_that_nobody_waits_for_starve_nobody() {
    // Without budgets: what is bounded is bounded by the loop itself.
    let any = nic_agent::bucket::Rate { burst: u32::MAX, period: Duration::from_nanos(1) };
    let rates = nic_agent::server::Rates { attach: any, detach: any, check: any, list: any, status: any };
    let (bench, asked) = who_waits_is_answered(Limits { rates, ..quick() }).await;
    let (passes, writes) = (bench.published.borrow().passes, bench.writes.load(Ordering::SeqCst));
    let abandoned = bench.counted("nic_agent_requests_abandoned_total");
    println!(
        "asked {asked}, abandoned in the queue {abandoned}, passes {passes}, writes {writes}, largest batch {}",
        bench.largest.load(Ordering::SeqCst)
    );
    assert!(writes <= passes + 1, "one write for each batch: {writes} writes, {passes} passes");
    assert!(bench.largest.load(Ordering::SeqCst) <= u64::try_from(intake::AT_ONCE).unwrap());
    assert!(asked > passes, "the flood was none: {asked} requests, {passes} passes");
    assert!(abandoned > 0);
    bench.cancel.cancel();
    drop(bench.dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_asks_too_often_is_told_and_another_is_not() {
    let few = nic_agent::bucket::Rate { burst: 30, period: Duration::from_hours(1) };
    let rates = nic_agent::server::Rates { attach: few, ..nic_agent::server::Rates::default() };
    let (bench, asked) = who_waits_is_answered(Limits { rates, ..quick() }).await;
    let refused = "nic_agent_requests_total{method=\"Attach\",reason=\"too-many-requests\"}";
    println!("asked {asked}, refused {}", bench.counted(refused));
    assert!(bench.counted(refused) > 0);
    let mut last = bench.shim().await;
    for try_ in 100..130 {
        let _ = last.attach(request(0, try_)).await;
    }
    let status = last.attach(request(0, 200)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "too-many-requests"));
    assert!(status.message().contains("ask again"), "{status:?}");
    // The budget of one kind is not that of another.
    last.list(v1::ListRequest {}).await.unwrap();
    bench.cancel.cancel();
}

#[test]
fn pods_of_the_test_are_admissible() {
    let claim = |pod: u16| nic_agent::claim::PodRef {
        namespace: "default".to_owned(),
        name: format!("web-{pod}"),
        uid: format!("u{pod}"),
    };
    assert_eq!(pods().judge(&claim(PODS - 1), SERVED), Ok(()));
    assert!(matches!(pods().judge(&claim(PODS), SERVED), Err(Refusal::UnknownPod { .. })));
    assert!(nic_agent::attachment::of_ports(VfId { pf: 0, vf: PODS }).is_some());
}
