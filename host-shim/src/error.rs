//! CNI errors: what a runtime reads on stdout when a command failed.
//!
//! Every module has an error of its own; each becomes a [`CniError`] here, once, at the edge. The codes below 100 are
//! those of the CNI specification 1.1.0 (section "Error"), the others are ours and documented in `host-shim.8`.
use std::fmt;

use serde_json::{Value, json};

use crate::{
    agent::AgentError, args::ArgsError, config::ConfigError, device::DeviceError, kubelet::KubeletError,
    link::LinkError, netns::NetnsError, result::PrevResultError, state::StateError, version::CniVersion,
    vf::VfError,
};

/// Why a command failed, as a number that runtimes know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    IncompatibleVersion = 1,
    /// What `runtimeConfig` asks for and we do not do; mistakes in our own fields are `InvalidConfig`.
    UnsupportedField = 2,
    /// The runtime need not clean up.
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    TryAgainLater = 11,
    /// STATUS: an ADD could not be served now.
    NotAvailable = 50,
    /// STATUS: nor may the pods that are there be well connected. Never sent: the NIC's data path outlives its agent.
    LimitedConnectivity = 51,
    /// The NIC said no.
    Refused = 100,
    /// The VF is not what it should be.
    Device = 101,
    /// The kernel refused a change of a link, an address or a route.
    Link = 102,
    /// CHECK: something is not as ADD left it.
    Mismatch = 103,
}

/// A CNI error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    pub code: Code,
    pub msg: String,
    pub details: String,
}

impl CniError {
    pub fn new(code: Code, msg: impl fmt::Display) -> Self {
        Self { code, msg: msg.to_string(), details: String::new() }
    }

    #[must_use]
    pub fn with_details(mut self, details: impl fmt::Display) -> Self {
        let details = details.to_string();
        if !details.is_empty() {
            self.details =
                if self.details.is_empty() { details } else { format!("{}; {details}", self.details) };
        }
        self
    }

    /// The JSON that goes to stdout.
    pub fn to_json(&self, version: CniVersion) -> Value {
        let mut value = json!({ "cniVersion": version.as_str(), "code": self.code as u32, "msg": self.msg });
        if !self.details.is_empty()
            && let Some(map) = value.as_object_mut()
        {
            map.insert("details".into(), self.details.clone().into());
        }
        value
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.msg, self.code as u32)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl std::error::Error for CniError {}

impl From<ArgsError> for CniError {
    fn from(error: ArgsError) -> Self {
        Self::new(Code::InvalidEnvironment, error)
    }
}

impl From<ConfigError> for CniError {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Json(_) => Code::Decode,
            ConfigError::Version { .. } => Code::IncompatibleVersion,
            ConfigError::Field { .. } => Code::InvalidConfig,
            ConfigError::Unsupported { .. } => Code::UnsupportedField,
        };
        Self::new(code, error)
    }
}

impl From<PrevResultError> for CniError {
    fn from(error: PrevResultError) -> Self {
        Self::new(Code::Decode, error)
    }
}

impl From<DeviceError> for CniError {
    fn from(error: DeviceError) -> Self {
        Self::new(Code::Device, error)
    }
}

impl From<KubeletError> for CniError {
    fn from(error: KubeletError) -> Self {
        let code = match error {
            KubeletError::Unreachable { .. } => Code::TryAgainLater,
            KubeletError::NoDevice { .. } | KubeletError::AllUsed { .. } | KubeletError::NotPci { .. } => {
                Code::Device
            }
        };
        Self::new(code, error)
    }
}

impl From<NetnsError> for CniError {
    fn from(error: NetnsError) -> Self {
        Self::new(Code::Io, error)
    }
}

impl From<LinkError> for CniError {
    fn from(error: LinkError) -> Self {
        Self::new(Code::Link, error)
    }
}

impl From<VfError> for CniError {
    fn from(error: VfError) -> Self {
        match error {
            VfError::Netns(error) => error.into(),
            VfError::Link(error) => error.into(),
            other => Self::new(Code::Device, other),
        }
    }
}

impl From<StateError> for CniError {
    fn from(error: StateError) -> Self {
        Self::new(Code::Io, error)
    }
}

impl From<AgentError> for CniError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Refused { ref reason, code, .. } => {
                let details = if reason.is_empty() {
                    format!("gRPC {code:?}")
                } else {
                    format!("reason {reason}, gRPC {code:?}")
                };
                Self::new(Code::Refused, &error).with_details(details)
            }
            AgentError::Unreachable { .. } | AgentError::Late { .. } => Self::new(Code::TryAgainLater, error),
            AgentError::Credential { .. } => Self::new(Code::Io, error),
            AgentError::Endpoint { .. } => Self::new(Code::InvalidConfig, error),
            AgentError::Tls { .. } => Self::new(Code::Refused, error),
            AgentError::Answer(_) => Self::new(Code::Decode, error),
        }
    }
}
