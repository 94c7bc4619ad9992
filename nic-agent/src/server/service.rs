//! The five methods, and `grpc.health.v1` beside them: who, whether well-formed, then [`Attachments`], each within its deadline.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::nic_agent_server::NicAgent;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tracing::warn;

use super::budget::{Budgets, Method};
use super::identity::{HostIdentity, Peer};
use super::shims::Shims;
use super::{answer, deadline, form};
use crate::claim::{Attachments, Refusal};
use crate::log::Throttle;
use crate::metrics::{Metrics, StageLabel};

/// Reason of a client that is not the host that this NIC serves.
const WRONG_IDENTITY: &str = "wrong-identity";

pub(super) struct Service<A> {
    attachments: Arc<A>,
    identity: HostIdentity,
    shims: watch::Receiver<Shims>,
    attach_timeout: Duration,
    budgets: Budgets,
    metrics: Metrics,
    throttle: Throttle,
}

impl<A> fmt::Debug for Service<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl<A: Attachments> Service<A> {
    pub(super) fn new(
        attachments: Arc<A>,
        identity: HostIdentity,
        shims: watch::Receiver<Shims>,
        attach_timeout: Duration,
        budgets: Budgets,
        metrics: Metrics,
    ) -> Self {
        let throttle = Throttle::new(metrics.lines_withheld.clone());
        Self { attachments, identity, shims, attach_timeout, budgets, metrics, throttle }
    }

    /// Runs one request of the host that we serve and turns its result into the answer.
    async fn handle<Q, P, R, F>(
        &self,
        method: Method,
        request: Request<Q>,
        work: F,
    ) -> Result<Response<P>, Status>
    where
        R: Future<Output = Result<P, Refusal>>,
        F: FnOnce(Q) -> R,
    {
        self.authorise(method, request.extensions().get())?;
        let method = method.name();
        let limit = deadline::of(request.metadata(), self.attach_timeout);
        let work = work(request.into_inner());
        let late =
            || Refusal::NotReady { stage: format!("{method} did not end within {} ms", limit.as_millis()) };
        let result = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()));
        match result {
            Ok(answer) => {
                self.metrics.request(method, "ok");
                Ok(Response::new(answer))
            }
            Err(refusal) => {
                let reason = refusal.reason();
                self.metrics.request(method, reason);
                if let Some(withheld) = self.throttle.admit() {
                    warn!(method, reason, error = %refusal, withheld, "request refused");
                }
                Err(answer::refusal(&refusal))
            }
        }
    }

    /// Is it the host that we serve, by a key that may speak for it, and not too often?
    fn authorise(&self, method: Method, peer: Option<&Peer>) -> Result<(), Status> {
        if let Some(peer) = peer.filter(|peer| peer.is_our_host) {
            let refused = self.shims.borrow().refuse(peer.key);
            if let Some((reason, why)) = refused {
                return Err(self.refuse(method, peer, Code::PermissionDenied, reason, why));
            }
            let now = Instant::now().into_std();
            if let Err(why) = self.budgets.take(peer.key, method, now) {
                let reason = proto::TOO_MANY_REQUESTS;
                return Err(self.refuse(method, peer, Code::ResourceExhausted, reason, why));
            }
            self.metrics.host_asked();
            return Ok(());
        }
        let method = method.name();
        self.metrics.request(method, WRONG_IDENTITY);
        let names = peer.map(|peer| peer.names.join(", ")).unwrap_or_default();
        let address = peer.map(|peer| peer.address.to_string()).unwrap_or_default();
        let wanted = self.identity.as_str();
        if let Some(withheld) = self.throttle.admit() {
            warn!(method, reason = WRONG_IDENTITY, address, names, wanted, withheld, "request refused");
        }
        let message = format!("the client certificate names [{names}]; this NIC serves {wanted}");
        Err(answer::status(Code::PermissionDenied, WRONG_IDENTITY, message))
    }

    fn refuse(&self, method: Method, peer: &Peer, code: Code, reason: &'static str, why: String) -> Status {
        let method = method.name();
        self.metrics.request(method, reason);
        if let Some(withheld) = self.throttle.admit() {
            warn!(method, reason, address = %peer.address, error = why, withheld, "request refused");
        }
        answer::status(code, reason, why)
    }
}

#[tonic::async_trait]
impl<A: Attachments> NicAgent for Service<A> {
    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        let started = Instant::now();
        let answer = self
            .handle(Method::Attach, request, async |message| {
                let claim = form::claim(message)?;
                self.attachments.attach(claim).await.map(answer::attached)
            })
            .await;
        if answer.is_ok() {
            let stage = self.metrics.attach_seconds.get_or_create_owned(&StageLabel { stage: "total" });
            stage.observe(started.elapsed().as_secs_f64());
        }
        answer
    }

    async fn detach(
        &self,
        request: Request<v1::DetachRequest>,
    ) -> Result<Response<v1::DetachResponse>, Status> {
        self.handle(Method::Detach, request, async |message| {
            let key = form::sandbox(message.sandbox)?;
            self.attachments.detach(key).await.map(|existed| v1::DetachResponse { existed })
        })
        .await
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        self.handle(Method::Check, request, async |message| {
            let key = form::sandbox(message.sandbox)?;
            let problem = form::problem(message.problem)?;
            let attached = self.attachments.check(key, problem).await?;
            Ok(v1::CheckResponse { attachment: Some(answer::attached(attached)) })
        })
        .await
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        self.handle(Method::List, request, async |_| {
            let items = self.attachments.list().await.into_iter().map(answer::item).collect();
            Ok(v1::ListResponse { items })
        })
        .await
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        self.handle(Method::Status, request, async |_| {
            let reason = self.attachments.status().await.err();
            let ready = reason.is_none();
            let version = env!("CARGO_PKG_VERSION").to_owned();
            Ok(v1::StatusResponse { ready, reason: reason.unwrap_or_default(), version })
        })
        .await
    }
}

/// Names that health is asked of: the server as a whole, and the one service that it has.
const HEALTHS: [&str; 2] = ["", "drawbridge.nic.v1.NicAgent"];

/// For programs that know no more than this: who speaks and how often is bounded as with Status.
#[tonic::async_trait]
impl<A: Attachments> Health for Service<A> {
    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let is_known = HEALTHS.contains(&request.get_ref().service.as_str());
        let ready =
            self.handle(Method::Status, request, async |_| Ok(self.attachments.status().await.is_ok()));
        let ready = ready.await?.into_inner();
        if !is_known {
            return Err(answer::status(
                Code::NotFound,
                "unknown-service",
                "ask for drawbridge.nic.v1.NicAgent".to_owned(),
            ));
        }
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    /// A stream that a hostile host holds open gives it nothing that Check does not.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.authorise(Method::Status, request.extensions().get())?;
        Err(answer::status(Code::Unimplemented, "unknown-method", "ask Check, from time to time".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::{Attached, Claim, SandboxKey};
    use crate::server::Rates;

    /// Never done with anything.
    struct Never;

    impl Attachments for Never {
        async fn attach(&self, _: Claim) -> Result<Attached, Refusal> {
            std::future::pending().await
        }

        async fn detach(&self, _: SandboxKey) -> Result<bool, Refusal> {
            std::future::pending().await
        }

        async fn check(&self, _: SandboxKey, _: Option<String>) -> Result<Attached, Refusal> {
            std::future::pending().await
        }

        async fn list(&self) -> Vec<Claim> {
            std::future::pending().await
        }

        async fn status(&self) -> Result<(), String> {
            std::future::pending().await
        }
    }

    /// How long a request takes that says `grpc-timeout`, and what it is answered.
    async fn asked(timeout: Option<&str>, is_our_host: bool) -> (Duration, Code, String) {
        let identity = HostIdentity::new("server1").unwrap();
        let shims = watch::channel(Shims::default()).1;
        let budgets = Budgets::new(Rates::default());
        let service =
            Service::new(Arc::new(Never), identity, shims, Duration::from_mins(1), budgets, Metrics::new());
        let sandbox = v1::Sandbox { id: "a".to_owned(), interface: "eth0".to_owned() };
        let mut request = Request::new(v1::DetachRequest { sandbox: Some(sandbox) });
        let address = "192.0.2.1:1".parse().unwrap();
        request.extensions_mut().insert(Peer { address, names: Arc::new([]), is_our_host, key: None });
        if let Some(timeout) = timeout {
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let started = Instant::now();
        let status = service.detach(request).await.unwrap_err();
        let reason = proto::reason(&status).unwrap();
        (started.elapsed(), status.code(), reason)
    }

    #[tokio::test(start_paused = true)]
    async fn the_shorter_deadline_ends_a_request() {
        for (timeout, took) in
            [(None, 60_000), (Some("10S"), 9500), (Some("200m"), 100), (Some("2H"), 60_000)]
        {
            let (elapsed, code, reason) = asked(timeout, true).await;
            assert_eq!((code, reason.as_str()), (Code::DeadlineExceeded, "not-ready"));
            assert_eq!(elapsed.as_millis() / 10, took / 10, "{timeout:?}");
        }
    }

    #[tokio::test]
    async fn a_request_without_a_known_peer_is_refused() {
        let (_, code, reason) = asked(None, false).await;
        assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "wrong-identity"));
    }
}
