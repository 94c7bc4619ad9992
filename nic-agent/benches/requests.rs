//! What a server's requests cost its NIC's agent, against how many they are: Attach after Attach that nobody waits for, without
//! budgets and with the default ones; and how long somebody else waits meanwhile.
//!
//! A line's peer is the same with half as many: twice as much is linear. Time is what the thread of the server and the loop has
//! had of a processor; those who ask have another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/server/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use nic_agent::server::Limits;
use nix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle, Runtime};
use tonic::Request;

use common::looping::{Bench, PODS, request, without_budgets};
use common::quick;

const SIZES: [usize; 5] = [500, 1000, 2000, 4000, 8000];
/// At the same time, each on a connection of its own.
const LANES: usize = 4;
/// What nobody can be answered in.
const TIME: Duration = Duration::from_millis(5);

/// The agent, on a thread of its own, until it is dropped.
struct Agent {
    bench: Bench,
    runtime: Handle,
}

impl Agent {
    fn start(limits: Limits) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let handle = runtime.handle().clone();
            runtime.block_on(async {
                let bench = Bench::start(limits);
                let cancel = bench.cancel.clone();
                tell.send(Self { bench, runtime: handle }).unwrap();
                cancel.cancelled().await;
            });
        });
        told.recv().unwrap()
    }

    /// What its thread has had of a processor.
    async fn worked(&self) -> Duration {
        let clock = async { Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap()) };
        self.runtime.spawn(clock).await.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.bench.cancel.cancel();
    }
}

struct Cost {
    worked: Duration,
    refused: u64,
    /// Of the ledger.
    writes: u64,
    /// For an Attach that somebody waits for, with another key: the median.
    waited: Duration,
}

async fn ask(agent: &Agent, lane: usize, count: usize) {
    let mut shim = agent.bench.shim().await;
    for number in 0..count {
        let pod = u16::try_from(1 + (lane * 31 + number) % usize::from(PODS - 1)).unwrap();
        let mut request = Request::new(request(pod, lane * 1_000_000 + number));
        request.set_timeout(TIME);
        let _ = shim.attach(request).await;
    }
}

async fn wait(agent: &Agent, until: &tokio::sync::watch::Receiver<bool>) -> Duration {
    let mut shim = agent.bench.shim().await;
    let mut waited = Vec::new();
    while waited.len() < 3 || !*until.borrow() {
        let key = waited.len() + 1;
        let began = Instant::now();
        shim.attach(request(0, key)).await.unwrap();
        waited.push(began.elapsed());
        let sandbox = request(0, key).sandbox;
        shim.detach(proto::v1::DetachRequest { sandbox }).await.unwrap();
    }
    waited.sort_unstable();
    waited[waited.len() / 2]
}

fn measure(runtime: &Runtime, limits: Limits, count: usize) -> Cost {
    let agent = Agent::start(limits);
    runtime.block_on(async {
        let before = agent.worked().await;
        let (over, is_over) = tokio::sync::watch::channel(false);
        let asking = async {
            let lanes = (0..LANES).map(|lane| ask(&agent, lane, count / LANES));
            futures::future::join_all(lanes).await;
            over.send_replace(true);
        };
        let ((), waited) = tokio::join!(asking, wait(&agent, &is_over));
        let refused = "drawbridge_nic_agent_requests_total{method=\"Attach\",reason=\"too-many-requests\"}";
        Cost {
            worked: agent.worked().await.saturating_sub(before),
            refused: agent.bench.counted(refused),
            writes: agent.bench.writes.load(std::sync::atomic::Ordering::SeqCst),
            waited,
        }
    })
}

fn line(what: &str, runtime: &Runtime, limits: &dyn Fn() -> Limits) {
    let mut half: Option<f64> = None;
    for count in SIZES {
        let cost = measure(runtime, limits(), count);
        let worked = cost.worked.as_secs_f64() * 1e3;
        let (peer, ratio) = half.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |half| (format!("{half:.0} ms"), format!("{:.2}", worked / half)),
        );
        println!(
            "bench\t{count} Attach {what} ({} refused, {} writes of the ledger, another waits {:.0} ms), beside half of them\t{worked:.0} ms\t{peer}\t{ratio}\t-",
            cost.refused,
            cost.writes,
            cost.waited.as_secs_f64() * 1e3,
        );
        half = Some(worked);
    }
}

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    line("that nobody waits for, without budgets", &runtime, &without_budgets);
    line("that nobody waits for, default budgets", &runtime, &quick);
}
