//! A TCP wire to a server: keeps what went over it, and can be cut and mended.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ovsdb_session::Remote;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq)]
pub enum Direction {
    ToServer,
    ToClient,
}

pub enum Target {
    Unix(PathBuf),
    Tcp(u16),
}

pub struct Wire {
    pub port: u16,
    whole: watch::Sender<bool>,
    seen: watch::Receiver<(String, String)>,
    task: tokio::task::JoinHandle<()>,
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

impl Wire {
    pub async fn to(target: Target) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (whole, mut cut) = watch::channel(true);
        let (record, seen) = watch::channel((String::new(), String::new()));
        let record = Arc::new(Mutex::new(record));
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // While it is cut, whoever calls is hung up on.
                if !*cut.borrow_and_update() {
                    continue;
                }
                let server: Box<dyn Both> = match &target {
                    Target::Unix(path) => match UnixStream::connect(path).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                    Target::Tcp(port) => match tokio::net::TcpStream::connect(("127.0.0.1", *port)).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = tokio::io::split(server);
                let mut cut = cut.clone();
                let record = Arc::clone(&record);
                tokio::spawn(async move {
                    tokio::select! {
                        () = copy(client_read, server_write, &record, Direction::ToServer) => {}
                        () = copy(server_read, client_write, &record, Direction::ToClient) => {}
                        _ = cut.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { port, whole, seen, task }
    }

    pub fn remote(&self) -> Remote {
        Remote::Tcp { host: "127.0.0.1".into(), port: self.port }
    }

    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// All that went one way so far.
    pub fn seen(&self, direction: Direction) -> String {
        let seen = self.seen.borrow();
        if direction == Direction::ToServer { seen.0.clone() } else { seen.1.clone() }
    }

    /// Waits until a text has gone by so many times.
    pub async fn see(&self, direction: Direction, text: &str, times: usize) {
        let mut seen = self.seen.clone();
        let enough = |seen: &(String, String)| {
            let side = if direction == Direction::ToServer { &seen.0 } else { &seen.1 };
            side.matches(text).count() >= times
        };
        super::soon(text, seen.wait_for(enough)).await.unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    record: &Mutex<watch::Sender<(String, String)>>,
    direction: Direction,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        record.lock().unwrap().send_modify(|seen| {
            if direction == Direction::ToServer { seen.0.push_str(&text) } else { seen.1.push_str(&text) }
        });
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
