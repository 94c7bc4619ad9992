//! Which configuration is wanted: the file, and the NicNode's spec over it.
//!
//! The last spec that could be applied is kept in the state directory and is in force again at a start, before the API
//! answers, so that a restart without the API changes nothing, and a key that only a start takes over is taken over by
//! one. A spec that cannot be applied leaves the last good one in force; a NicNode that is deleted, too.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use drawbridge_api::NicNodeSpec;
use nix::sys::socket::SockaddrIn6;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::nic_node::{configure, path_of};
use super::own_node::Own;
use crate::config::Config;
use crate::durable::{self, SystemDisk};
use crate::server::Shims;

/// What became of the spec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// `metadata.generation` of the newest spec that was looked at.
    pub looked_at: Option<i64>,
    /// Of the one in force; none when the file is in force alone.
    pub generation: Option<i64>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verdict {
    /// No spec was seen since the start.
    #[default]
    Pending,
    InForce,
    /// All but these, by their paths in the spec or their keys in the file.
    NeedsRestart {
        paths: Vec<String>,
    },
    Refused {
        problems: Vec<String>,
    },
}

/// A spec, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    generation: Option<i64>,
    spec: NicNodeSpec,
}

/// A spec as it came, readable or not.
#[derive(Debug, Clone, PartialEq)]
struct Newest {
    generation: Option<i64>,
    spec: Result<NicNodeSpec, String>,
}

/// The two sources.
#[derive(Debug)]
pub struct Layers {
    file: Config,
    /// What the API last said.
    newest: Option<Newest>,
    /// The last spec that could be applied.
    good: Option<Kept>,
    path: PathBuf,
}

impl Layers {
    /// With the configuration to start with. `follows`: is there a NicNode to follow? `state.dir` need not exist.
    pub fn begin(file: Config, follows: bool) -> (Self, Config) {
        let path = file.state.dir.join("nic-node.json");
        let good = if follows { load(&path) } else { None };
        let mut first = file.clone();
        let mut layers = Self { file, newest: None, good: None, path };
        if let Some(good) = good {
            match configure(&layers.file, &good.spec, addresses_of) {
                Ok(config) => {
                    info!(generation = good.generation, "what the NicNode last said is in force");
                    (first, layers.good) = (config, Some(good));
                }
                Err(problems) => {
                    let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                    error!(
                        problems,
                        "what the NicNode last said does not fit the file, which is in force alone"
                    );
                }
            }
        }
        (layers, first)
    }

    pub fn set_file(&mut self, file: Config) {
        self.file = file;
    }

    /// False when this is no news. Its status is not our concern, and a deletion takes nothing back.
    pub fn set_own(&mut self, own: &Own) -> bool {
        let Own::Known(node) = own else { return false };
        let spec = node.spec.clone().map_err(|error| error.to_string());
        let newest = Some(Newest { generation: node.metadata.generation, spec });
        let news = self.newest != newest;
        self.newest = newest;
        news
    }

    /// Who may speak for the server, with `config` in force. A NicNode that is deleted takes nothing from pods that run,
    /// and ends that; one that has not been made yet does not.
    pub fn shims(&self, config: &Config, own: &Own) -> Shims {
        let has_been_told = self.newest.is_some() || self.good.is_some();
        Shims { keys: config.shim_keys.clone(), revoked: matches!(own, Own::Absent) && has_been_told }
    }

    /// What is wanted now, or why that cannot be.
    pub fn wanted(&mut self) -> Result<Config, Vec<String>> {
        self.wanted_with(addresses_of)
    }

    fn wanted_with(&mut self, addresses_of: impl Fn(&str) -> Vec<IpAddr>) -> Result<Config, Vec<String>> {
        let kept = match (&self.newest, &self.good) {
            (Some(Newest { generation, spec }), _) => {
                let spec = spec.clone().map_err(|error| vec![error])?;
                Kept { generation: *generation, spec }
            }
            (None, Some(good)) => good.clone(),
            (None, None) => return Ok(self.file.clone()),
        };
        let config = configure(&self.file, &kept.spec, addresses_of)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        if self.good.as_ref() != Some(&kept) {
            if let Err(error) = durable::write_json(&SystemDisk, &self.path, &kept) {
                warn!(error = %error, path = %self.path.display(), "NicNode's spec not kept, a start without the API will not know it");
            }
            self.good = Some(kept);
        }
        Ok(config)
    }

    /// `wanted` is what [`Self::wanted`] said; `waiting` are the keys that only a start takes over.
    pub fn report(&self, wanted: Result<&[&'static str], &[String]>) -> Report {
        let looked_at = self.newest.as_ref().and_then(|it| it.generation);
        let generation = self.good.as_ref().and_then(|it| it.generation);
        let verdict = match wanted {
            Err(problems) => Verdict::Refused { problems: problems.to_vec() },
            Ok([]) if self.newest.is_none() => Verdict::Pending,
            Ok([]) => Verdict::InForce,
            Ok(waiting) => {
                Verdict::NeedsRestart { paths: waiting.iter().map(|it| path_of(it).to_owned()).collect() }
            }
        };
        Report { looked_at, generation, verdict }
    }
}

fn load(path: &Path) -> Option<Kept> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            error!(error = %error, path = %path.display(), "what the NicNode last said cannot be read");
            return None;
        }
    };
    serde_json::from_str(&text)
        .inspect_err(|error| error!(error = %error, path = %path.display(), "what the NicNode last said makes no sense"))
        .ok()
}

/// Those of a device of this NIC; none when there is no such device.
fn addresses_of(device: &str) -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let of_device = all.filter(|it| it.interface_name == device);
    of_device
        .filter_map(|it| {
            let address = it.address?;
            let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            let v6 =
                || address.as_sockaddr_in6().map(SockaddrIn6::ip).filter(|ip| !ip.is_unicast_link_local());
            v4.or_else(|| v6().map(IpAddr::V6))
        })
        .collect()
}

#[cfg(test)]
mod tests;
