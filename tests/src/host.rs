//! A server that lies: it speaks to its NIC's agent without host-shim, with whatever certificate and claim it likes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::v1::nic_agent_client::NicAgentClient;
use proto::v1::{AttachRequest, AttachResponse, DetachRequest, Pod, Sandbox, Vf};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::netns;

/// Where the lab keeps its certificates, in the VM.
const PKI: &str = "/share/pki";

/// Who it says it is.
#[derive(Debug, Clone, Copy)]
pub struct Liar<'a> {
    /// Where it sits: `host1`.
    pub place: &'a str,
    /// Name of its certificate in the lab's PKI, if it shows one.
    pub certificate: Option<&'a str>,
}

/// What an attach said.
#[derive(Debug)]
pub struct Refused {
    pub code: Code,
    /// That of `ErrorInfo`, as it is called here (`unknown-pod`), empty if there is none.
    pub reason: String,
    pub message: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            reason: proto::reason(&status).unwrap_or_default(),
            message: status.message().to_owned(),
        }
    }
}

/// A claim about a pod that is all right but for what a test changes.
pub fn claim(pod: &crate::Pod) -> AttachRequest {
    AttachRequest {
        sandbox: Some(Sandbox { id: pod.container.clone(), interface: "eth0".to_owned() }),
        pod: Some(Pod { namespace: "default".to_owned(), name: pod.name.clone(), uid: pod.uid.clone() }),
        network: "drawbridge".to_owned(),
        vf: Some(Vf { pci_address: "1001:03:00.1".to_owned(), pf: 0, vf: u32::from(pod.vf) }),
    }
}

impl Liar<'_> {
    fn read(name: &str) -> String {
        let path = format!("{PKI}/{name}");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    async fn channel(&self) -> Result<Channel, Refused> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(Self::read("ca.crt")))
            .domain_name("nic-agent");
        if let Some(name) = self.certificate {
            let (cert, key) = (Self::read(&format!("{name}.crt")), Self::read(&format!("{name}.key")));
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Endpoint::from_static("https://192.168.100.2:8443").tls_config(tls).expect("TLS");
        endpoint.connect().await.map_err(|e| Refused {
            code: Code::Unavailable,
            reason: "connection".to_owned(),
            message: format!("{e:?}"),
        })
    }

    /// Runs a call in the server's network, on a runtime of its own.
    fn call<T: Send>(
        &self,
        work: impl AsyncFnOnce(NicAgentClient<Channel>) -> Result<T, Status> + Send,
    ) -> Result<T, Refused> {
        netns::within(self.place, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(async {
                let channel = self.channel().await?;
                work(NicAgentClient::new(channel)).await.map_err(Refused::from)
            })
        })
    }

    pub fn attach(&self, request: AttachRequest) -> Result<AttachResponse, Refused> {
        self.call(async |mut client| Ok(client.attach(request).await?.into_inner()))
    }

    /// Attach after Attach, each for a sandbox of its own and with so much time for the answer, until told to stop. What they
    /// were answered, by the code's name, or by the reason where one is given.
    pub fn attach_in_vain(
        &self,
        claim: &AttachRequest,
        time: Duration,
        stop: &AtomicBool,
    ) -> BTreeMap<String, usize> {
        let asked = self.call(async |mut client| {
            let mut answers = BTreeMap::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut claim = claim.clone();
                write!(claim.sandbox.as_mut().expect("a sandbox").id, "-{number}").expect("a string");
                let mut request = Request::new(claim);
                request.set_timeout(time);
                let answer = match client.attach(request).await.map_err(Refused::from) {
                    Ok(_) => "attached".to_owned(),
                    Err(refused) if refused.reason.is_empty() => format!("{:?}", refused.code),
                    Err(refused) => refused.reason,
                };
                *answers.entry(answer).or_default() += 1;
            }
            Ok(answers)
        });
        asked.expect("a connection")
    }

    pub fn detach(&self, sandbox: Sandbox) -> Result<bool, Refused> {
        let request = DetachRequest { sandbox: Some(sandbox) };
        self.call(async |mut client| Ok(client.detach(request).await?.into_inner().existed))
    }
}
