//! The network configuration: what the runtime gives on stdin.
//!
//! Our own keys are checked strictly, and every error names the key, what is wrong and what to write instead. Keys that
//! are not ours are left alone: runtimes and other plugins of a chain add theirs.
use std::{path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

mod capabilities;

use crate::{args::Sandbox, device::PciAddress, version::CniVersion};

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("the network configuration on stdin is not JSON: {0}")]
    Json(#[source] serde_json::Error),
    #[error(
        "cniVersion {found:?} is not spoken by host-shim; write one of 0.4.0, 1.0.0, 1.1.0 (STATUS and GC need 1.1.0)"
    )]
    Version { found: String },
    #[error("{field}: {problem}; {remedy}")]
    Field { field: &'static str, problem: String, remedy: &'static str },
    #[error(
        "runtimeConfig.{key} = {value}: host-shim does not support it; {remedy}, or take {key:?} out of the plugin's \
         capabilities in the network configuration"
    )]
    Unsupported { key: String, value: String, remedy: &'static str },
}

/// The files of our side of mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// How the agent is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentAccess {
    /// `host:port`; more than one are ways to the same agent, tried in turn.
    pub agents: Vec<String>,
    /// Whom the agent's certificate must name.
    pub server_name: String,
    pub tls: Tls,
}

/// A configuration that was checked.
#[derive(Debug)]
pub struct Config {
    pub version: CniVersion,
    /// The network's name.
    pub name: String,
    pub access: AgentAccess,
    /// How long ADD waits for the agent.
    pub timeout: Duration,
    /// The extended resource whose device kubelet gave to the pod.
    pub resource: Option<String>,
    pub pod_resources_socket: PathBuf,
    /// What Multus or the runtime says.
    pub device: Option<PciAddress>,
    /// For interfaces whose MTU the NIC leaves open.
    pub mtu: Option<u32>,
    pub state_dir: PathBuf,
    pub sysfs: PathBuf,
    pub prev_result: Option<Value>,
    /// Of `runtimeConfig`, what cannot be done: ADD says so, DEL must succeed all the same.
    unsupported: Option<ConfigError>,
    /// GC: None when the runtime did not say.
    pub valid_attachments: Option<Vec<Sandbox>>,
}

const DEFAULT_SERVER_NAME: &str = "nic-agent";
const DEFAULT_TIMEOUT: u64 = 90;
const DEFAULT_SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
const DEFAULT_STATE: &str = "/run/host-shim";
const DEFAULT_SYSFS: &str = "/sys";
/// RFC 791: what every IPv4 link carries.
pub const MTU_MIN: u32 = 68;
pub const MTU_MAX: u32 = 65535;

/// The version that the configuration asks for, before anything else is looked at: an answer must be in it.
pub fn peek_version(stdin: &[u8]) -> Option<CniVersion> {
    let value: Value = serde_json::from_slice(stdin).ok()?;
    CniVersion::parse(value.get("cniVersion")?.as_str()?)
}

impl Config {
    pub fn parse(stdin: &[u8]) -> Result<Self, ConfigError> {
        let map: Map<String, Value> = serde_json::from_slice(stdin).map_err(ConfigError::Json)?;
        let keys = Keys { map: &map };
        // The specification: without cniVersion it is 0.1.0, which has results of another shape.
        let version =
            keys.string("cniVersion", "cniVersion", "write \"1.1.0\"")?.unwrap_or_else(|| "0.1.0".into());
        let Some(version) = CniVersion::parse(&version) else {
            return Err(ConfigError::Version { found: version });
        };
        let runtime = keys.object("runtimeConfig", "the runtime writes an object here")?;
        let device = match keys.pci("deviceID", "deviceID")? {
            Some(device) => Some(device),
            None => match runtime {
                Some(map) => Keys { map }.pci("deviceID", "runtimeConfig.deviceID")?,
                None => None,
            },
        };
        Ok(Self {
            version,
            name: keys.name()?,
            access: AgentAccess {
                agents: keys.agents()?,
                server_name: keys.server_name()?,
                tls: keys.tls()?,
            },
            timeout: Duration::from_secs(
                keys.number(
                    "timeoutSeconds",
                    1..=600,
                    "give seconds from 1 to 600, less than kubelet's 120 by choice",
                )?
                .unwrap_or(DEFAULT_TIMEOUT),
            ),
            resource: keys.resource()?,
            pod_resources_socket: keys.path("podResourcesSocket", "podResourcesSocket", DEFAULT_SOCKET)?,
            device,
            mtu: keys
                .number(
                    "mtu",
                    MTU_MIN.into()..=MTU_MAX.into(),
                    "give bytes from 68 to 65535, or leave it out",
                )?
                .and_then(|mtu| u32::try_from(mtu).ok()),
            state_dir: keys.path("stateDir", "stateDir", DEFAULT_STATE)?,
            sysfs: keys.path("sysfs", "sysfs", DEFAULT_SYSFS)?,
            prev_result: keys
                .object("prevResult", "the runtime writes an object here")?
                .cloned()
                .map(Value::Object),
            unsupported: runtime.and_then(capabilities::unsupported),
            valid_attachments: keys.valid_attachments()?,
        })
    }

    /// Takes what the runtime asks for and is not done.
    pub fn take_unsupported(&mut self) -> Option<ConfigError> {
        self.unsupported.take()
    }
}

fn wrong(field: &'static str, problem: impl Into<String>, remedy: &'static str) -> ConfigError {
    ConfigError::Field { field, problem: problem.into(), remedy }
}

/// Reads one object's keys, with errors that say which.
struct Keys<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// `field` is the key's full name for messages.
    fn string(
        &self,
        key: &str,
        field: &'static str,
        remedy: &'static str,
    ) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Err(wrong(field, "empty", remedy)),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(field, format!("{other} is not a string"), remedy)),
        }
    }

    fn required(&self, key: &str, field: &'static str, remedy: &'static str) -> Result<String, ConfigError> {
        self.string(key, field, remedy)?.ok_or_else(|| wrong(field, "missing", remedy))
    }

    fn number(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
        remedy: &'static str,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(key, format!("{value} is not a whole number within bounds"), remedy)),
        }
    }

    fn object(
        &self,
        key: &'static str,
        remedy: &'static str,
    ) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(wrong(key, format!("{other} is not an object"), remedy)),
        }
    }

    fn path(&self, key: &str, field: &'static str, default: &str) -> Result<PathBuf, ConfigError> {
        let remedy = "give an absolute path";
        let text = self.string(key, field, remedy)?.unwrap_or_else(|| default.to_owned());
        let path = PathBuf::from(&text);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(wrong(field, format!("{text:?} is a relative path"), remedy))
        }
    }

    fn required_path(
        &self,
        key: &str,
        field: &'static str,
        remedy: &'static str,
    ) -> Result<PathBuf, ConfigError> {
        self.required(key, field, remedy)?;
        self.path(key, field, "")
    }

    fn pci(&self, key: &str, field: &'static str) -> Result<Option<PciAddress>, ConfigError> {
        let remedy = "give the VF's PCI address as in 0000:03:00.2, as the SR-IOV device plugin does";
        let Some(text) = self.string(key, field, remedy)? else { return Ok(None) };
        PciAddress::from_str(&text).map(Some).map_err(|error| wrong(field, error.to_string(), remedy))
    }

    fn name(&self) -> Result<String, ConfigError> {
        let remedy = "name the network: a letter or a digit, then letters, digits, '_', '.', '-'";
        let name = self.required("name", "name", remedy)?;
        let harmless = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if harmless {
            Ok(name)
        } else {
            Err(wrong("name", format!("{name:?} is not a network's name"), remedy))
        }
    }

    fn agents(&self) -> Result<Vec<String>, ConfigError> {
        let remedy = "give the agent's address and port as in \"192.168.100.2:8443\", or a list of such";
        let texts: Vec<&str> = match self.get("agent") {
            None => return Err(wrong("agent", "missing", remedy)),
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                texts
                    .ok_or_else(|| wrong("agent", "the list holds something that is not a string", remedy))?
            }
            Some(other) => {
                return Err(wrong("agent", format!("{other} is neither a string nor a list"), remedy));
            }
        };
        if texts.is_empty() {
            return Err(wrong("agent", "the list is empty", remedy));
        }
        for text in &texts {
            let good = text.rsplit_once(':').is_some_and(|(host, port)| {
                let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
                let clean = host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]%".contains(c));
                !host.is_empty() && !bare_v6 && clean && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !good {
                return Err(wrong("agent", format!("{text:?} is not HOST:PORT (IPv6 in brackets)"), remedy));
            }
        }
        Ok(texts.into_iter().map(str::to_owned).collect())
    }

    fn server_name(&self) -> Result<String, ConfigError> {
        let remedy = "give the DNS name in the agent's certificate, or leave it out for \"nic-agent\"";
        let name = self
            .string("serverName", "serverName", remedy)?
            .unwrap_or_else(|| DEFAULT_SERVER_NAME.to_owned());
        let good = name.len() <= 253
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':'));
        if good { Ok(name) } else { Err(wrong("serverName", format!("{name:?} is no DNS name"), remedy)) }
    }

    fn tls(&self) -> Result<Tls, ConfigError> {
        let remedy =
            "give an object with the paths \"ca\", \"cert\" and \"key\": the NIC takes no call without them";
        let Some(map) = self.object("tls", remedy)? else { return Err(wrong("tls", "missing", remedy)) };
        if let Some(key) = map.keys().find(|key| !matches!(key.as_str(), "ca" | "cert" | "key")) {
            return Err(wrong("tls", format!("{key:?} is not known"), remedy));
        }
        let keys = Keys { map };
        Ok(Tls {
            ca: keys.required_path(
                "ca",
                "tls.ca",
                "give the path of the CA that signed the agent's certificate",
            )?,
            cert: keys.required_path("cert", "tls.cert", "give the path of this host's certificate")?,
            key: keys.required_path(
                "key",
                "tls.key",
                "give the path of the key of this host's certificate",
            )?,
        })
    }

    fn resource(&self) -> Result<Option<String>, ConfigError> {
        let remedy = "give the extended resource of the VFs as in \"drawbridge.dev/vf\"";
        let Some(name) = self.string("resourceName", "resourceName", remedy)? else { return Ok(None) };
        match name.split_once('/') {
            Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() && !rest.contains('/') => {
                Ok(Some(name))
            }
            _ => Err(wrong("resourceName", format!("{name:?} is not DOMAIN/NAME"), remedy)),
        }
    }

    /// `cni.dev/valid-attachments`, or `cni.dev/attachments`, as the specification first called it by mistake and as
    /// libcni still sends it too. A list that Go left nil is an empty list; a key that is absent is no list.
    fn valid_attachments(&self) -> Result<Option<Vec<Sandbox>>, ConfigError> {
        const FIELD: &str = "cni.dev/valid-attachments";
        let remedy = "the runtime writes a list of {\"containerID\": ..., \"ifname\": ...} here";
        let Some(value) = self.map.get(FIELD).or_else(|| self.map.get("cni.dev/attachments")) else {
            return Ok(None);
        };
        let items = match value {
            Value::Null => return Ok(Some(Vec::new())),
            Value::Array(items) => items,
            other => return Err(wrong(FIELD, format!("{other} is not a list"), remedy)),
        };
        let sandbox = |item: &Value| {
            let id = item.get("containerID")?.as_str()?.to_owned();
            Some(Sandbox { id, interface: item.get("ifname")?.as_str()?.to_owned() })
        };
        let sandboxes: Option<Vec<Sandbox>> = items.iter().map(sandbox).collect();
        sandboxes.map(Some).ok_or_else(|| wrong(FIELD, "an item has no containerID or no ifname", remedy))
    }
}

#[cfg(test)]
mod tests;
