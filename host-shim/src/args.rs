//! What the runtime says by environment: the command, the sandbox, the interface, the pod.
//!
//! Reads only the map it is given, so that tests need not touch the process's own environment.
use std::{collections::BTreeMap, path::PathBuf};

use thiserror::Error;

/// A wrong or missing environment variable.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ArgsError {
    #[error("{name} is not set; {remedy}")]
    Missing { name: &'static str, remedy: &'static str },
    #[error("{name} is {value:?}: {problem}")]
    Invalid { name: &'static str, value: String, problem: &'static str },
    #[error("CNI_ARGS holds {key:?}, which host-shim does not know; set IgnoreUnknown=1 or leave it out")]
    UnknownKey { key: String },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// The environment as the runtime set it.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// One interface of one sandbox: the key of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sandbox {
    pub id: String,
    pub interface: String,
}

/// Who the pod is, as kubelet's runtime says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

const COMMAND: &str = "CNI_COMMAND";
const CONTAINER: &str = "CNI_CONTAINERID";
const INTERFACE: &str = "CNI_IFNAME";
const NETNS: &str = "CNI_NETNS";
const ARGS: &str = "CNI_ARGS";
/// IFNAMSIZ without the end mark (include/uapi/linux/if.h).
const NAME_MAX: usize = 15;
/// What the agent takes (nic_agent.proto).
const CONTAINER_MAX: usize = 128;

impl Environment {
    pub fn from_process() -> Self {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    fn get(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn command(&self) -> Result<Command, ArgsError> {
        let text = self.get(COMMAND).ok_or(ArgsError::Missing {
            name: COMMAND,
            remedy: "host-shim is a CNI plugin: a container runtime starts it, see host-shim(8)",
        })?;
        Ok(match text {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "STATUS" => Command::Status,
            "GC" => Command::Gc,
            "VERSION" => Command::Version,
            _ => {
                return Err(ArgsError::Invalid {
                    name: COMMAND,
                    value: text.into(),
                    problem: "not one of ADD, DEL, CHECK, STATUS, GC, VERSION",
                });
            }
        })
    }

    pub fn sandbox(&self) -> Result<Sandbox, ArgsError> {
        let remedy = "the runtime must say which container this is about";
        let id = self.get(CONTAINER).ok_or(ArgsError::Missing { name: CONTAINER, remedy })?;
        check_container(id)?;
        let remedy = "the runtime must say how the interface is to be named, usually eth0";
        let interface = self.get(INTERFACE).ok_or(ArgsError::Missing { name: INTERFACE, remedy })?;
        check_interface(interface)?;
        Ok(Sandbox { id: id.into(), interface: interface.into() })
    }

    /// The sandbox's network namespace. DEL may come without one: then it is gone.
    pub fn netns(&self) -> Option<PathBuf> {
        self.get(NETNS).map(PathBuf::from)
    }

    pub fn required_netns(&self) -> Result<PathBuf, ArgsError> {
        self.netns().ok_or(ArgsError::Missing {
            name: NETNS,
            remedy: "the runtime must name the sandbox's network namespace, as in /run/netns/cni-1234",
        })
    }

    /// The pod's identity, out of CNI_ARGS.
    pub fn pod(&self) -> Result<Pod, ArgsError> {
        let args = self.args()?;
        let take = |key: &'static str| {
            args.get(key).filter(|value| !value.is_empty()).cloned().ok_or(ArgsError::Missing {
                name: key,
                remedy: "CNI_ARGS must name the pod: K8S_POD_NAMESPACE, K8S_POD_NAME and K8S_POD_UID (containerd 1.6 \
                         and CRI-O 1.24 give them)",
            })
        };
        Ok(Pod {
            namespace: take("K8S_POD_NAMESPACE")?,
            name: take("K8S_POD_NAME")?,
            uid: take("K8S_POD_UID")?,
        })
    }

    fn args(&self) -> Result<BTreeMap<String, String>, ArgsError> {
        const KNOWN: [&str; 5] = [
            "IgnoreUnknown",
            "K8S_POD_NAMESPACE",
            "K8S_POD_NAME",
            "K8S_POD_UID",
            "K8S_POD_INFRA_CONTAINER_ID",
        ];
        let mut args = BTreeMap::new();
        for pair in self.get(ARGS).unwrap_or_default().split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(ArgsError::Invalid {
                    name: ARGS,
                    value: pair.into(),
                    problem: "not of the form KEY=VALUE;KEY=VALUE",
                });
            };
            args.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        // As the CNI library reads it: everything that strconv.ParseBool and its own UnmarshallableBool call true.
        let ignore = args
            .get("IgnoreUnknown")
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "t" | "true"));
        if !ignore && let Some(key) = args.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(ArgsError::UnknownKey { key: key.clone() });
        }
        Ok(args)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// The id becomes part of a file's name: the specification's alphabet keeps it harmless.
fn check_container(id: &str) -> Result<(), ArgsError> {
    let invalid = |problem| Err(ArgsError::Invalid { name: CONTAINER, value: id.into(), problem });
    if id.len() > CONTAINER_MAX {
        return invalid("longer than 128 characters");
    }
    if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return invalid("must start with a letter or a digit");
    }
    if !id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return invalid("may hold letters, digits, '_', '.' and '-' only");
    }
    Ok(())
}

/// `dev_valid_name()` of net/core/dev.c, without control characters.
fn check_interface(name: &str) -> Result<(), ArgsError> {
    let invalid = |problem| Err(ArgsError::Invalid { name: INTERFACE, value: name.into(), problem });
    if name.len() > NAME_MAX {
        return invalid("longer than 15 characters, the kernel's limit");
    }
    if name == "." || name == ".." {
        return invalid("no name for an interface");
    }
    if name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        return invalid("must not hold '/', ':', spaces or control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
