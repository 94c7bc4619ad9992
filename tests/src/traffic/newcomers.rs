//! New connections, one after the other, each from a port of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::JoinSet;

use super::Report;
use crate::netns::{self, Located};
use crate::patience::patience;

/// How long one waits for its answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A datagram, and its echo.
    Udp,
    /// A handshake.
    Tcp,
}

/// Connections that are begun at a steady rate until this is stopped.
pub struct Newcomers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Newcomers {
    pub fn start(pod: &impl Located, address: &str, port: u16, by: By, interval: Duration) -> Self {
        let to = SocketAddr::new(address.parse().expect("an address"), port);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = netns::spawn(&pod.place(), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(run(to, by, interval, &stopped))
        });
        Self { stop, thread }
    }

    /// Sends no more. Of several, so that they wait for their last answers together.
    pub fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the last answers and reports; gaps are not measured.
    pub fn stop(self) -> Report {
        self.halt();
        self.thread.join().expect("the newcomers' thread")
    }
}

async fn run(to: SocketAddr, by: By, interval: Duration, stop: &AtomicBool) -> Report {
    let answered = Arc::new(AtomicU32::new(0));
    let (mut begun, mut all) = (0u32, JoinSet::new());
    let mut tick = tokio::time::interval(interval);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let (number, answered) = (begun, answered.clone());
        all.spawn(async move {
            if matches!(tokio::time::timeout(patience(PATIENCE), one(to, by, number)).await, Ok(Ok(()))) {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        begun += 1;
        while all.try_join_next().is_some() {}
    }
    while all.join_next().await.is_some() {}
    Report {
        sent: begun,
        answered: answered.load(Ordering::Relaxed),
        unanswered: None,
        longest_gap: Duration::ZERO,
    }
}

async fn one(to: SocketAddr, by: By, number: u32) -> std::io::Result<()> {
    match by {
        By::Udp => {
            let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(to).await?;
            let sent = number.to_be_bytes();
            socket.send(&sent).await?;
            let mut buffer = [0; 64];
            while socket.recv(&mut buffer).await? != sent.len() || buffer[..sent.len()] != sent {}
            Ok(())
        }
        By::Tcp => {
            let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // Gone at once: thousands of these must not wait in TIME_WAIT.
            socket.set_zero_linger()?;
            socket.connect(to).await.map(drop)
        }
    }
}
