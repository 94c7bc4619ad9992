//! The command line, checked.

#[cfg(test)]
#[path = "../../packaging/completions/current.rs"]
mod completions;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use ipnet::IpNet;
use kube_services::{Limits, Served};
use ovsdb_session::remote::RemoteError;
use ovsdb_session::{Options, Remote, TlsFiles};
use uuid::Uuid;

use crate::app::Config;
use crate::cluster::object::VfResources;
use crate::lease::Timing;
use crate::ranges::Allocation;
use crate::settings::{CoppRate, HeartbeatTimeout, Mtu, RouterAddress, Settings, prefix, resource};
use crate::taint;

/// Drawbridge's CMS for clusters that have no other: writes OVN's northbound from pods and Services.
#[derive(Clone, Debug, Parser)]
#[command(name = "cluster-controller", version)]
pub struct Arguments {
    /// The northbound: tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH; several servers of one cluster with commas between.
    #[arg(long, value_name = "REMOTES", env = "DRAWBRIDGE_NORTHBOUND", value_parser = remotes)]
    pub northbound: Remotes,
    /// PEM: our key, for ssl: remotes.
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "ca_cert"])]
    pub private_key: Option<PathBuf>,
    /// PEM: our certificate.
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub certificate: Option<PathBuf>,
    /// PEM: the CA of the northbound's certificate.
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub ca_cert: Option<PathBuf>,
    /// All pods' addresses, as the controller manager's --cluster-cidr: a route of the management ports, and what nodes'
    /// ranges must be inside of.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub cluster_cidr: Vec<IpNet>,
    /// All Services' addresses, as the API server's --service-cluster-ip-range: a route of the management ports.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub service_cidr: Vec<IpNet>,
    /// Addresses of the cluster's that are no node's, beside the Services'.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub reserved_cidr: Vec<IpNet>,
    /// The length of a node's IPv4 range, as the controller manager's option of that name.
    #[arg(long, value_name = "BITS", default_value = "24", value_parser = clap::value_parser!(u8).range(8..=29))]
    pub node_cidr_mask_size_ipv4: u8,
    /// The length of a node's IPv6 range, as the controller manager's option of that name.
    #[arg(long, value_name = "BITS", default_value = "64", value_parser = clap::value_parser!(u8).range(16..=64))]
    pub node_cidr_mask_size_ipv6: u8,
    /// Which address of a node's IPv4 subnet is the router's: first or last.
    #[arg(long, value_name = "WHICH", default_value = "first")]
    pub router_address: RouterAddress,
    /// What servers are told for their management ports, 1280 to 9978. Geneve over IPv4 takes 58 bytes of the fabric's.
    #[arg(long, value_name = "BYTES", default_value = "1400")]
    pub mtu: Mtu,
    /// How many packets a second of each protocol OVN's control plane takes from the pods of one NIC, 10 to 1000000; 0
    /// leaves it unbounded.
    #[arg(long, value_name = "PACKETS", default_value = "500")]
    pub copp_rate: CoppRate,
    /// Ports of a Service, counted for each of its addresses. One with more has no load balancer.
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().service.ports)]
    pub max_service_ports: usize,
    /// Endpoints of a Service that are ready, or serve while they terminate, counted for each of these ports.
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().service.endpoints)]
    pub max_service_endpoints: usize,
    /// Ports of all Services of a namespace. Where there are more, the largest have no load balancer.
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().namespace.ports)]
    pub max_namespace_service_ports: usize,
    /// Endpoints of all Services of a namespace.
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().namespace.endpoints)]
    pub max_namespace_service_endpoints: usize,
    /// Beginning of the name of the resource by which a pod asks for a VF. May be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "drawbridge.dev/vf", value_parser = resource)]
    pub vf_resource: Vec<String>,
    /// A NIC whose heartbeat has not changed for so long counts as not ready, and its node is tainted; 120 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "180")]
    pub nic_heartbeat_timeout: HeartbeatTimeout,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9465")]
    pub listen: SocketAddr,
    /// The Lease's namespace.
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "drawbridge-system")]
    pub lease_namespace: String,
    /// The Lease's name.
    #[arg(long, value_name = "NAME", default_value = "cluster-controller")]
    pub lease_name: String,
    /// Who we are, for people: a part of the Lease's holder.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "cluster-controller")]
    pub identity: String,
    /// How much is logged: error, warn, info, debug, trace, or more of it (cluster_controller=debug,info).
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// The log's form, on standard error.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// One or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remotes(pub Vec<Remote>);

fn remotes(text: &str) -> Result<Remotes, RemoteError> {
    Remote::parse_list(text).map(Remotes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// What no single argument can show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error("{0} needs --private-key, --certificate and --ca-cert")]
    NoTls(Remote),
}

impl Arguments {
    /// What they make of the controller.
    pub fn config(&self) -> Result<Config, ArgumentError> {
        let tls = match (&self.private_key, &self.certificate, &self.ca_cert) {
            (Some(key), Some(certificate), Some(ca)) => {
                Some(TlsFiles { key: key.clone(), certificate: certificate.clone(), ca: ca.clone() })
            }
            _ => None,
        };
        let secure = self.northbound.0.iter().find(|remote| matches!(remote, Remote::Ssl { .. }));
        if let (Some(remote), None) = (secure, &tls) {
            return Err(ArgumentError::NoTls(remote.clone()));
        }
        Ok(Config {
            settings: Settings {
                router_address: self.router_address,
                mtu: self.mtu,
                routes: self.cluster_cidr.iter().chain(&self.service_cidr).copied().collect(),
                allocation: Allocation {
                    cluster: self.cluster_cidr.clone(),
                    reserved: self.service_cidr.iter().chain(&self.reserved_cidr).copied().collect(),
                    v4_length: self.node_cidr_mask_size_ipv4,
                    v6_length: self.node_cidr_mask_size_ipv6,
                },
                copp_rate: self.copp_rate,
                services: Limits {
                    service: Served { ports: self.max_service_ports, endpoints: self.max_service_endpoints },
                    namespace: Served {
                        ports: self.max_namespace_service_ports,
                        endpoints: self.max_namespace_service_endpoints,
                    },
                },
            },
            resources: VfResources(self.vf_resource.clone()),
            northbound: Options { tls, ..Options::new(self.northbound.0.clone()) },
            listen: self.listen,
            lease_namespace: self.lease_namespace.clone(),
            lease_name: self.lease_name.clone(),
            // A container that starts anew in the same pod is another candidate.
            identity: format!("{}_{}", self.identity, Uuid::new_v4()),
            timing: Timing::default(),
            taints: taint::Timing { silence: self.nic_heartbeat_timeout.get(), ..taint::Timing::default() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_current() {
        super::completions::check("cluster-controller", &<Arguments as clap::CommandFactory>::command());
    }

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let arguments = ["cluster-controller"].iter().chain(arguments);
        let arguments = Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?;
        arguments.config().map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_command_line() {
        let config = parse(&[
            "--northbound=ssl:10.0.0.1:6641,ssl:[fd00::1]:6641",
            "--private-key=k",
            "--certificate=c",
            "--ca-cert=a",
            "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56",
            "--service-cidr=10.96.0.0/12",
            "--router-address=last",
            "--mtu=8900",
            "--copp-rate=0",
            "--nic-heartbeat-timeout=600",
            "--vf-resource=example.org/a,example.org/b",
        ])
        .unwrap();
        assert_eq!(config.northbound.remotes.len(), 2);
        assert_eq!(config.settings.routes.len(), 3);
        assert_eq!(config.settings.router_address, RouterAddress::Last);
        assert_eq!(config.settings.copp_rate.get(), None);
        assert_eq!(config.taints.silence.as_secs(), 600);
        assert_eq!(config.resources.0, ["example.org/a", "example.org/b"]);
        let other = parse(&["--northbound=tcp:10.0.0.1:6641"]).unwrap();
        assert_ne!(config.identity, other.identity);
        assert_eq!(other.settings.copp_rate.get().map(u32::from), Some(500));
        assert_eq!(other.taints, taint::Timing::default());
    }

    #[test]
    fn what_cannot_work_is_refused_and_says_why() {
        for (arguments, says) in [
            (vec![], "--northbound"),
            (vec!["--northbound=10.0.0.1:6641"], "10.0.0.1:6641"),
            (vec!["--northbound=ssl:10.0.0.1:6641"], "--private-key"),
            (vec!["--northbound=tcp:h:1", "--certificate=c"], "--private-key"),
            (vec!["--northbound=tcp:h:1", "--mtu=100"], "1280"),
            (
                vec!["--northbound=tcp:h:1", "--copp-rate=5"],
                "--copp-rate <PACKETS>': \"5\" is no rate: packets a second, from 10",
            ),
            (
                vec!["--northbound=tcp:h:1", "--nic-heartbeat-timeout=60"],
                "--nic-heartbeat-timeout <SECONDS>': \"60\" is not a valid time: seconds, from 120",
            ),
            (vec!["--northbound=tcp:h:1", "--service-cidr=10.97.0.0/12"], "10.96.0.0/12"),
            (vec!["--northbound=tcp:h:1", "--vf-resource=vf"], "resource name"),
        ] {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
