//! What the host is answered: attachments, and refusals as gRPC statuses.

use proto::v1;
use tonic::codegen::http;
use tonic::{Code, Status};

use crate::claim::{Attached, Claim, Refusal, SandboxKey};
use crate::metrics::Metrics;

/// A list of candidates may be long; a client's header list is not, and a message stands in it twice: by itself and among the
/// details.
const LONGEST_MESSAGE: usize = 1024;

/// Where a status has its details.
const DETAILS: &str = "grpc-status-details-bin";

/// Only what is worth the same request again is UNAVAILABLE: the shim repeats nothing else.
pub(super) fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Malformed { .. } => Code::InvalidArgument,
        Refusal::UnknownPod { .. }
        | Refusal::WrongPod { .. }
        | Refusal::WrongNode { .. }
        | Refusal::HostNetwork { .. }
        | Refusal::MirrorPod { .. }
        | Refusal::OtherMirror { .. }
        | Refusal::Finished { .. } => Code::PermissionDenied,
        Refusal::VfHeld { .. }
        | Refusal::ManagementPort { .. }
        | Refusal::SandboxInUse { .. }
        | Refusal::LogicalPortHeld { .. } => Code::AlreadyExists,
        Refusal::NoSuchVf { .. } | Refusal::NotAttached { .. } => Code::NotFound,
        Refusal::SandboxReplayed { .. } => Code::FailedPrecondition,
        Refusal::NoZone { .. } | Refusal::BudgetUsed { .. } => Code::ResourceExhausted,
        Refusal::NotReady { .. } => Code::DeadlineExceeded,
        Refusal::DirectoryUnavailable { .. } | Refusal::Internal(_) => Code::Unavailable,
    }
}

pub(super) fn refusal(refusal: &Refusal) -> Status {
    status(code(refusal), refusal.reason(), refusal.to_string())
}

/// A status that carries its reason for machines too.
pub(super) fn status(code: Code, reason: &'static str, mut message: String) -> Status {
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    proto::refusal(code, reason, message)
}

/// Requests that tonic itself refuses (oversize, undecodable, unknown method, late) get a reason as ours do.
pub(super) fn with_reason<B>(mut response: http::Response<B>, metrics: &Metrics) -> http::Response<B> {
    let headers = response.headers_mut();
    let status = if headers.contains_key(DETAILS) { None } else { Status::from_header_map(headers) };
    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
        let reason = match status.code() {
            Code::OutOfRange => "oversize",
            Code::Unimplemented => "unknown-method",
            Code::Cancelled | Code::DeadlineExceeded => "timeout",
            _ => "undecodable",
        };
        // The code and the message are those that stand there; only a message that is no header's value fails.
        let _ = self::status(status.code(), reason, status.message().to_owned()).add_header(headers);
        metrics.request("other", reason);
    }
    response
}

fn sandbox(key: SandboxKey) -> v1::Sandbox {
    v1::Sandbox { id: key.sandbox, interface: key.interface }
}

pub(super) fn attached(attached: Attached) -> v1::AttachResponse {
    let gateway = |gateway: Option<std::net::IpAddr>| gateway.map(|ip| ip.to_string()).unwrap_or_default();
    let address =
        |(prefix, via): (ipnet::IpNet, _)| v1::Address { address: prefix.to_string(), gateway: gateway(via) };
    let route = |(destination, via): (ipnet::IpNet, _)| v1::Route {
        destination: destination.to_string(),
        gateway: gateway(via),
    };
    v1::AttachResponse {
        mac: attached.mac.to_string(),
        mtu: attached.mtu,
        addresses: attached.addresses.into_iter().map(address).collect(),
        routes: attached.routes.into_iter().map(route).collect(),
        logical_port: attached.logical_port,
    }
}

pub(super) fn item(claim: Claim) -> v1::list_response::Item {
    let Claim { key, pod, network, pci_address, vf } = claim;
    v1::list_response::Item {
        sandbox: Some(sandbox(key)),
        pod: Some(v1::Pod { namespace: pod.namespace, name: pod.name, uid: pod.uid }),
        vf: Some(v1::Vf { pci_address, pf: vf.pf.into(), vf: vf.vf.into() }),
        network,
    }
}
