//! An API server for tests, on loopback with TLS: lists by pages, streaming lists, watches with bookmarks, 410, errors and
//! disconnections as they are asked for. It knows what Kubernetes' documentation of these says, and nothing of our client.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub mod mutation;

#[derive(Default)]
struct Store {
    /// By plural, then by namespace/name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// Plural, version, type, object.
    events: Vec<(String, u64, &'static str, Value)>,
    version: u64,
    /// Watches from before are answered with 410.
    oldest: u64,
    /// What every request is answered with.
    refuse: Option<u16>,
    /// Kinds that it does not have, by plural.
    absent: Vec<String>,
    /// What a streaming list is answered with.
    no_streaming: Option<u16>,
    /// Of a page, whatever is asked for.
    page: usize,
    token: String,
    /// With what it is asked for: metadata alone?
    requests: Vec<(String, bool)>,
    cuts: u64,
    /// Watches say nothing new.
    hidden: bool,
}

/// One CA and one server. Dropping it closes the door.
pub struct FakeApi {
    store: Arc<Mutex<Store>>,
    moved: watch::Sender<u64>,
    pub address: SocketAddr,
    ca: String,
    serving: tokio::task::JoinHandle<()>,
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn certificate(expired: bool) -> (String, rustls::ServerConfig) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.clone().self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    if expired {
        server.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = server.signed_by(&server_key, &issuer).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], server_key.into())
            .unwrap();
    (ca, config)
}

impl FakeApi {
    pub async fn start() -> Self {
        Self::with_certificate(false).await
    }

    pub async fn with_certificate(expired: bool) -> Self {
        let (ca, config) = certificate(expired);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = Store { version: 100, page: 500, token: "secret".to_owned(), ..Store::default() };
        let store = Arc::new(Mutex::new(store));
        let (moved, _) = watch::channel(0);
        let router = Router::new().fallback(answer).with_state((store.clone(), moved.clone()));
        let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let serving = tokio::spawn(async move { axum::serve(tls, router).await.unwrap() });
        Self { store, moved, address, ca, serving }
    }

    /// Writes a kubeconfig and its CA into the directory.
    pub fn kubeconfig(&self, dir: &Path, token: &str) -> PathBuf {
        std::fs::write(dir.join("ca.pem"), &self.ca).unwrap();
        let path = dir.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://{}", self.address), "certificate-authority": "ca.pem"}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    fn with<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let result = change(&mut self.store.lock().unwrap());
        self.moved.send_modify(|it| *it += 1);
        result
    }

    pub fn put(&self, plural: &str, mut object: Value) {
        self.with(|store| {
            store.version += 1;
            object["metadata"]["resourceVersion"] = store.version.to_string().into();
            let known = store.objects.entry(plural.to_owned()).or_default();
            let before = known.insert(key(&object), object.clone());
            let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
            store.events.push((plural.to_owned(), store.version, what, object));
        });
    }

    pub fn delete(&self, plural: &str, key: &str) {
        self.with(|store| {
            store.version += 1;
            let mut object = store.objects.get_mut(plural).unwrap().remove(key).unwrap();
            object["metadata"]["resourceVersion"] = store.version.to_string().into();
            store.events.push((plural.to_owned(), store.version, "DELETED", object));
        });
    }

    /// Ends the watches, and refuses what comes after.
    pub fn refuse(&self, status: Option<u16>) {
        self.with(|store| (store.refuse, store.cuts) = (status, store.cuts + 1));
    }

    pub fn without_streaming(&self, code: u16, page: usize) {
        self.with(|store| (store.no_streaming, store.page) = (Some(code), page));
    }

    /// Ends the watches, and has these kinds no more, and all others.
    pub fn without_kinds(&self, plurals: &[&str]) {
        let plurals = plurals.iter().map(|it| (*it).to_owned()).collect();
        self.with(|store| (store.absent, store.cuts) = (plurals, store.cuts + 1));
    }

    pub fn only_token(&self, token: &str) {
        self.with(|store| (store.token, store.cuts) = (token.to_owned(), store.cuts + 1));
    }

    /// Nobody remembers what was before.
    pub fn compact(&self) {
        self.with(|store| {
            store.version += 1;
            store.oldest = store.version;
        });
    }

    pub fn hide_events(&self) {
        self.with(|store| store.hidden = true);
    }

    /// The version of the last change of this kind.
    pub fn newest(&self, plural: &str) -> u64 {
        let is_it = |(of, ..): &&(String, u64, &str, Value)| of == plural;
        self.with(|store| store.events.iter().rev().find(is_it).map_or(0, |(_, version, ..)| *version))
    }

    pub fn requests(&self) -> Vec<String> {
        self.with(|store| store.requests.iter().map(|(uri, _)| uri.clone()).collect())
    }

    /// Of this kind, and whether nothing but metadata was asked for.
    pub fn requests_of(&self, plural: &str) -> Vec<(String, bool)> {
        let is_it =
            |uri: &str| uri.split('?').next().is_some_and(|path| path.ends_with(&format!("/{plural}")));
        self.with(|store| store.requests.iter().filter(|(uri, _)| is_it(uri)).cloned().collect())
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.serving.abort();
        // Connections outlive the listener: they are asked to go.
        self.refuse(Some(503));
    }
}

fn key(object: &Value) -> String {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Test",
        "message": format!("refused with {code}")})
}

fn refused(code: u16) -> Response {
    let close = [(header::CONNECTION, "close")];
    (StatusCode::from_u16(code).unwrap(), close, status(code).to_string()).into_response()
}

type Shared = (Arc<Mutex<Store>>, watch::Sender<u64>);

async fn answer(State((store, moved)): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let pairs = uri.query().unwrap_or_default().split('&');
    let query: BTreeMap<&str, &str> = pairs.filter_map(|it| it.split_once('=')).collect();
    let parts: Vec<&str> = uri.path().split('/').filter(|it| !it.is_empty()).collect();
    let is = |key: &str| query.get(key) == Some(&"true");
    {
        let mut store = store.lock().unwrap();
        let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
        store.requests.push((uri.to_string(), accept.contains("as=PartialObjectMetadata")));
        if let Some(code) = store.refuse {
            return refused(code);
        }
        if headers.get("authorization").is_none_or(|it| *it != format!("Bearer {}", store.token)) {
            return refused(401);
        }
        if parts.last().is_some_and(|plural| store.absent.iter().any(|it| it == plural)) {
            return refused(404);
        }
        if let Some(code) = store.no_streaming.filter(|it| *it != 500 && is("sendInitialEvents")) {
            return refused(code);
        }
        if let ["api", "v1", "namespaces", namespace, "pods", name] = parts[..] {
            let pods = store.objects.get("pods");
            return match pods.and_then(|it| it.get(&format!("{namespace}/{name}"))) {
                Some(pod) => pod.to_string().into_response(),
                None => refused(404),
            };
        }
    }
    let plural = (*parts.last().unwrap()).to_owned();
    if is("watch") {
        let from = query.get("resourceVersion").and_then(|it| it.parse().ok()).unwrap_or(0);
        let (send, mut lines) = mpsc::channel(16);
        let cuts = store.lock().unwrap().cuts;
        tokio::spawn(stream(store, moved.subscribe(), plural, from, is("sendInitialEvents"), cuts, send));
        let stream = futures::stream::poll_fn(move |context| lines.poll_recv(context));
        return Body::from_stream(futures::StreamExt::map(stream, Ok::<Bytes, io::Error>)).into_response();
    }
    let store = store.lock().unwrap();
    let all = store.objects.get(&plural);
    let start: usize = query.get("continue").and_then(|it| it.parse().ok()).unwrap_or(0);
    let items: Vec<&Value> = all.into_iter().flat_map(BTreeMap::values).skip(start).collect();
    let more = if items.len() > store.page { (start + store.page).to_string() } else { String::new() };
    let items = items.get(..store.page).unwrap_or(&items);
    json!({"kind": "List", "apiVersion": "v1", "items": items,
        "metadata": {"resourceVersion": store.version.to_string(), "continue": more}})
    .to_string()
    .into_response()
}

async fn stream(
    store: Arc<Mutex<Store>>,
    mut moved: watch::Receiver<u64>,
    plural: String,
    mut from: u64,
    initial: bool,
    cuts: u64,
    send: mpsc::Sender<Bytes>,
) {
    let line =
        |what: &str, object: &Value| Bytes::from(format!("{}\n", json!({"type": what, "object": object})));
    let mut first = Vec::new();
    {
        let store = store.lock().unwrap();
        if let Some(code) = store.no_streaming.filter(|_| initial) {
            first.push(line("ERROR", &status(code)));
        } else if initial {
            let all = store.objects.get(&plural).into_iter().flat_map(BTreeMap::values);
            first.extend(all.map(|it| line("ADDED", it)));
            let end = json!({"kind": "Any", "apiVersion": "v1", "metadata": {
                "resourceVersion": store.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"}}});
            first.push(line("BOOKMARK", &end));
            from = store.version;
        } else if from < store.oldest {
            first.push(line("ERROR", &status(410)));
        }
    }
    loop {
        for line in first.drain(..) {
            if send.send(line).await.is_err() {
                return;
            }
        }
        {
            let store = store.lock().unwrap();
            if store.cuts != cuts {
                return;
            }
            let after = from;
            let new = |of: &str, version: u64| of == plural && version > after && !store.hidden;
            for (_, version, what, object) in
                store.events.iter().filter(|(of, version, ..)| new(of, *version))
            {
                first.push(line(what, object));
                from = *version;
            }
        }
        if first.is_empty() && moved.changed().await.is_err() {
            return;
        }
    }
}
