//! The agent's file: what the checks go by, and where everything else is.

use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, Remote, defaults};
use crate::preflight::Fact;
use crate::preflight::system::Configuration;

/// Where to look. Without a good file, where the defaults say.
pub struct Places {
    pub db: Remote,
    pub ovs_run_dir: PathBuf,
    pub ovn_run_dir: PathBuf,
    pub certificates: Files,
}

/// Files with certificates, by the keys that name them.
#[derive(Default)]
pub struct Files {
    pub pem: Vec<(&'static str, PathBuf)>,
    pub kubeconfig: Option<PathBuf>,
}

pub fn read(path: &Path) -> (Fact<Configuration>, Places) {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error @ ConfigError::Read { .. }) => return (Err(error.to_string()), default_places()),
        Err(error) => return (Ok(defaults_with(error.to_string())), default_places()),
    };
    let mut pem = vec![
        ("server.cert", config.server.cert.clone()),
        ("server.client-ca", config.server.client_ca.clone()),
    ];
    if let Some(tls) = &config.southbound.tls {
        pem.push(("southbound.certificate", tls.certificate.clone()));
        pem.push(("southbound.ca-cert", tls.ca_cert.clone()));
    }
    let configuration = Configuration {
        problems: None,
        hw_offload: config.chassis.hw_offload,
        edge_bridge: config.edge.bridge,
        ovn_bridge: config.chassis.ovn_bridge,
        pod_connections: config.edge.pod_connections,
    };
    let places = Places {
        db: config.ovs.db,
        ovs_run_dir: config.ovs.run_dir,
        ovn_run_dir: config.ovn.run_dir,
        certificates: Files { pem, kubeconfig: config.cluster.map(|it| it.kubeconfig) },
    };
    (Ok(configuration), places)
}

fn defaults_with(problems: String) -> Configuration {
    Configuration {
        problems: Some(problems),
        hw_offload: defaults::HW_OFFLOAD,
        edge_bridge: defaults::EDGE_BRIDGE.to_owned(),
        ovn_bridge: defaults::OVN_BRIDGE.to_owned(),
        pod_connections: defaults::POD_CONNECTIONS,
    }
}

fn default_places() -> Places {
    let socket = defaults::OVS_DB.strip_prefix("unix:").unwrap_or(defaults::OVS_DB);
    Places {
        db: Remote::Unix(socket.into()),
        ovs_run_dir: defaults::OVS_RUN_DIR.into(),
        ovn_run_dir: defaults::OVN_RUN_DIR.into(),
        certificates: Files::default(),
    }
}
