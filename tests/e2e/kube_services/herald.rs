//! Answers that name who gave them, and those who ask.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use tests::cluster::KubePod;
use tests::netns;
use tests::patience;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long an answer is waited for: the VM is emulated and shares its processor.
const PATIENCE: Duration = Duration::from_secs(20);
/// A datagram may get lost there.
const DATAGRAMS: usize = 6;

/// In a pod, until dropped: TCP says the name, then echoes; UDP answers each datagram with the name.
pub struct Herald {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Herald {
    #[track_caller]
    pub fn start(pod: &KubePod, name: &'static str, port: u16) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (serving, is_serving) = std::sync::mpsc::channel();
        let thread = netns::spawn(&pod.place(), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(async {
                let listener = TcpListener::bind(("::", port)).await.expect("a free port");
                let socket = tokio::net::UdpSocket::bind(("::", port)).await.expect("a free port");
                tokio::spawn(accept(listener, name));
                tokio::spawn(async move {
                    let mut word = [0; 64];
                    loop {
                        if let Ok((_, from)) = socket.recv_from(&mut word).await {
                            // Who has gone meanwhile needs no answer.
                            let _ = socket.send_to(name.as_bytes(), from).await;
                        }
                    }
                });
                serving.send(()).expect("the starter waits");
                let _ = stopped.await;
            });
        });
        is_serving.recv().expect("the herald starts");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

async fn accept(listener: TcpListener, name: &'static str) {
    loop {
        if let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(format!("{name}\n").as_bytes()).await?;
                let mut word = [0; 64];
                loop {
                    match stream.read(&mut word).await? {
                        0 => return io::Result::Ok(()),
                        length => stream.write_all(&word[..length]).await?,
                    }
                }
            });
        }
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Tcp,
    Udp,
}

/// An established connection, and whom it is with.
pub struct Line {
    stream: BufReader<TcpStream>,
    pub with: String,
}

impl Line {
    /// From the network namespace that the caller is in.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, patience(PATIENCE))?;
        stream.set_read_timeout(Some(patience(PATIENCE)))?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let mut with = String::new();
        stream.read_line(&mut with)?;
        Ok(Self { stream, with: with.trim().to_owned() })
    }

    /// Something there and back.
    pub fn talk(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(b"well?")?;
        self.stream.read_exact(&mut [0; 5])
    }
}

/// A socket that keeps its port: to a switch that knows its flow, all of its datagrams are one.
#[derive(Debug)]
pub struct Caller(UdpSocket);

impl Caller {
    /// From the network namespace that the caller is in.
    pub fn new(to: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience(PATIENCE / 10)))?;
        Ok(Self(socket))
    }

    /// One datagram, and who answers it.
    pub fn call(&self) -> io::Result<String> {
        let mut word = [0; 64];
        let length = self.0.send(b"who?").and_then(|_| self.0.recv(&mut word))?;
        Ok(String::from_utf8_lossy(word.get(..length).unwrap_or_default()).into_owned())
    }
}

/// Who answers a new connection; from the network namespace that the caller is in.
pub fn ask(to: SocketAddr, by: By) -> io::Result<String> {
    match by {
        By::Tcp => {
            let mut line = Line::open(to)?;
            line.talk()?;
            Ok(line.with)
        }
        By::Udp => {
            let mut last = io::Error::from(io::ErrorKind::TimedOut);
            for _ in 0..DATAGRAMS {
                match Caller::new(to)?.call() {
                    Ok(name) => return Ok(name),
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Err(e),
                    Err(e) => last = e,
                }
            }
            Err(last)
        }
    }
}
