//! The agent on the NIC, as its client.
//!
//! A lost connection and UNAVAILABLE are tried again, on each of the configured addresses in turn, until the caller's
//! patience ends; every call is idempotent. A refusal is final: the NIC has decided. So is a certificate that one side
//! does not accept, which no waiting mends.
use std::{error::Error as StdError, fmt::Display, fs, io, path::PathBuf, time::Duration};

use proto::v1::{self, nic_agent_client::NicAgentClient};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    args::{Pod, Sandbox},
    attachment::{Attachment, AttachmentError},
    config::AgentAccess,
    device::Vf,
};

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, Error)]
pub enum AgentError {
    #[error("the NIC refused to {op}: {message}")]
    Refused { op: String, code: Code, reason: String, message: String },
    #[error("the NIC's agent at {agents} could not be reached within {seconds} s to {op}: {last}")]
    Unreachable { op: String, agents: String, seconds: u64, last: String },
    #[error("the NIC could not {op} within {seconds} s: {last}")]
    Late { op: String, seconds: u64, last: String },
    #[error(
        "no TLS session with the NIC's agent at {agent}: {problem}; see tls and serverName in the configuration"
    )]
    Tls { agent: String, problem: String },
    #[error("cannot read {path}: {source}; see tls in the configuration")]
    Credential { path: PathBuf, source: io::Error },
    #[error("agent {agent}: {problem}")]
    Endpoint { agent: String, problem: String },
    #[error("the NIC's answer cannot be used: {0}")]
    Answer(#[from] AttachmentError),
}

impl AgentError {
    /// May the agent have done what it was asked all the same?
    pub fn undecided(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Late { .. } | Self::Answer(_))
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(5);
/// The agent is told to answer this much before we give up, so that its reason reaches us.
const MARGIN: Duration = Duration::from_secs(1);
/// An agent's answer is small; a NIC that went mad must not fill the host's memory.
const ANSWER_MAX: usize = 4 << 20;

/// A way to the agent.
#[derive(Debug)]
pub struct Agent {
    endpoints: Vec<(String, Endpoint)>,
}

/// What one try came to.
enum Failure {
    Final(AgentError),
    /// Nobody answered.
    Lost(String),
    /// The agent answered that it cannot do it yet.
    NotYet(String),
}

impl Agent {
    pub fn new(access: &AgentAccess) -> Result<Self, AgentError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| AgentError::Credential { path: path.clone(), source })
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&access.tls.ca)?))
            .identity(Identity::from_pem(read(&access.tls.cert)?, read(&access.tls.key)?))
            .domain_name(&access.server_name);
        let endpoint = |agent: &String| {
            let error = |error: tonic::transport::Error| AgentError::Endpoint {
                agent: agent.clone(),
                problem: format!(
                    "{}; are ca, cert and key of tls PEM files that belong together?",
                    chain(&error)
                ),
            };
            let endpoint = Endpoint::from_shared(format!("https://{agent}")).map_err(error)?;
            let endpoint = endpoint.connect_timeout(CONNECT).tls_config(tls.clone()).map_err(error)?;
            Ok::<_, AgentError>((agent.clone(), endpoint))
        };
        Ok(Self { endpoints: access.agents.iter().map(endpoint).collect::<Result<_, _>>()? })
    }

    pub async fn attach(
        &self,
        sandbox: &Sandbox,
        pod: &Pod,
        network: &str,
        vf: Vf,
        patience: Duration,
    ) -> Result<Attachment, AgentError> {
        let request = v1::AttachRequest {
            sandbox: Some(to_proto(sandbox)),
            pod: Some(v1::Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            }),
            network: network.to_owned(),
            vf: Some(v1::Vf { pci_address: vf.address.to_string(), pf: vf.pf.into(), vf: vf.index }),
        };
        let op = format!("attach VF {} of PF {} to pod {}/{}", vf.index, vf.pf, pod.namespace, pod.name);
        let answer = self
            .call(op, patience, request, async |mut client, request| client.attach(request).await)
            .await?;
        Ok(Attachment::try_from(answer)?)
    }

    /// True when there was something to detach.
    pub async fn detach(&self, sandbox: &Sandbox, patience: Duration) -> Result<bool, AgentError> {
        let request = v1::DetachRequest { sandbox: Some(to_proto(sandbox)) };
        let op = format!("detach {} of sandbox {}", sandbox.interface, sandbox.id);
        match self.call(op, patience, request, async |mut client, request| client.detach(request).await).await
        {
            Ok(answer) => Ok(answer.existed),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `problem`: what keeps the interface from being in the pod as it should; the NIC cannot see that.
    pub async fn check(
        &self,
        sandbox: &Sandbox,
        problem: Option<&str>,
        patience: Duration,
    ) -> Result<Attachment, AgentError> {
        let problem = problem.map(reportable).unwrap_or_default();
        let request = v1::CheckRequest { sandbox: Some(to_proto(sandbox)), problem };
        let op = format!("confirm {} of sandbox {}", sandbox.interface, sandbox.id);
        let answer =
            self.call(op, patience, request, async |mut client, request| client.check(request).await).await?;
        let attachment = answer.attachment.ok_or(AttachmentError::Absent)?;
        Ok(Attachment::try_from(attachment)?)
    }

    pub async fn list(&self, patience: Duration) -> Result<Vec<v1::list_response::Item>, AgentError> {
        let op = "list its attachments".to_owned();
        let request = v1::ListRequest {};
        Ok(self
            .call(op, patience, request, async |mut client, request| client.list(request).await)
            .await?
            .items)
    }

    pub async fn status(&self, patience: Duration) -> Result<v1::StatusResponse, AgentError> {
        let request = v1::StatusRequest {};
        let op = "say how it is".to_owned();
        self.call(op, patience, request, async |mut client, request| client.status(request).await).await
    }

    /// Calls until there is an answer, a refusal, or no patience left.
    async fn call<Q: Clone, A>(
        &self,
        op: String,
        patience: Duration,
        request: Q,
        call: impl AsyncFn(NicAgentClient<Channel>, Request<Q>) -> Result<tonic::Response<A>, Status>,
    ) -> Result<A, AgentError> {
        let deadline = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        let mut last = Failure::Lost("no try was made".into());
        for (agent, endpoint) in self.endpoints.iter().cycle() {
            let one = async {
                let channel = endpoint.connect().await.map_err(|error| judge_transport(agent, &error))?;
                let client = NicAgentClient::new(channel).max_decoding_message_size(ANSWER_MAX);
                let mut request = Request::new(request.clone());
                request.set_timeout(
                    deadline.saturating_duration_since(Instant::now()).saturating_sub(MARGIN).max(MARGIN),
                );
                call(client, request).await.map_err(|status| judge_status(agent, &op, &status))
            };
            match timeout_at(deadline, one).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(Failure::Final(error))) => return Err(error),
                // The agent's own word says more than the loss of a connection that came after it.
                Ok(Err(Failure::Lost(_))) if matches!(last, Failure::NotYet(_)) => {}
                Ok(Err(failure)) => last = failure,
                Err(_) if matches!(&last, Failure::Lost(text) if text == "no try was made") => {
                    last = Failure::Lost("it did not answer".into());
                }
                Err(_) => {}
            }
            if Instant::now() + pause >= deadline {
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // What is left of a configured number of seconds, said as that number.
        let seconds = (patience + Duration::from_millis(500)).as_secs();
        Err(match last {
            Failure::Final(error) => error,
            Failure::NotYet(last) => AgentError::Late { op, seconds, last },
            Failure::Lost(last) => AgentError::Unreachable { op, agents: self.names(), seconds, last },
        })
    }

    fn names(&self) -> String {
        self.endpoints.iter().map(|(agent, _)| agent.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Within what the contract takes.
fn reportable(problem: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    let text: String = problem.chars().map(printable).take(proto::PROBLEM_MAX).collect();
    if text.trim().is_empty() {
        "a problem that cannot be printed".to_owned()
    } else {
        text.trim().to_owned()
    }
}

fn to_proto(sandbox: &Sandbox) -> v1::Sandbox {
    v1::Sandbox { id: sandbox.id.clone(), interface: sandbox.interface.clone() }
}

fn judge_transport(agent: &str, error: &(dyn StdError + 'static)) -> Failure {
    let problem = chain(error);
    if is_tls(error) {
        Failure::Final(AgentError::Tls { agent: agent.to_owned(), problem })
    } else {
        Failure::Lost(problem)
    }
}

fn judge_status(agent: &str, op: &str, status: &Status) -> Failure {
    // A status with a source was made on our side: the connection broke, or our deadline passed.
    if let Some(source) = status.source() {
        return judge_transport(agent, source);
    }
    let said =
        if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() };
    let reason = proto::reason(status);
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => Failure::NotYet(said),
        // Of all that can be exhausted only this comes back by waiting.
        Code::ResourceExhausted if reason.as_deref() == Some(proto::TOO_MANY_REQUESTS) => {
            Failure::NotYet(said)
        }
        code => {
            let reason = reason.unwrap_or_default();
            Failure::Final(AgentError::Refused { op: op.to_owned(), code, reason, message: said })
        }
    }
}

/// rustls' errors travel as `io::Error` of kind `InvalidData` (tokio-rustls); a broken connection never is one.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    sources(error).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    })
}

fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// An error with all its causes, each said once.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for error in sources(error) {
        let part = error.to_string();
        if !text.contains(&part) {
            push(&mut text, &part);
        }
    }
    text
}

fn push(text: &mut String, part: &dyn Display) {
    if !text.is_empty() {
        text.push_str(": ");
    }
    text.push_str(&part.to_string());
}

#[cfg(test)]
mod tests;
