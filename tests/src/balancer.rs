//! A ClusterIP, as OVN balances it on the pods' switch and as Kubernetes describes it.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::command::place;

/// While it lives, the pods' switch has it. Each ClusterIP has its port in TCP and UDP, and goes to one port of the
/// backends of its own version of IP.
#[derive(Debug)]
pub struct ClusterIp {
    pub namespace: &'static str,
    pub name: &'static str,
    pub ips: [IpAddr; 2],
    pub port: u16,
    backends: Vec<[IpAddr; 2]>,
    target: u16,
}

const PROTOCOLS: [&str; 2] = ["tcp", "udp"];

impl ClusterIp {
    #[track_caller]
    pub fn add(
        (namespace, name): (&'static str, &'static str),
        ips: [&str; 2],
        port: u16,
        backends: &[[IpAddr; 2]],
        target: u16,
    ) -> Self {
        let ips = ips.map(|ip| ip.parse().expect("an address"));
        let service = Self { namespace, name, ips, port, backends: backends.to_vec(), target };
        let mut arguments = vec!["ovn-nbctl".to_owned(), "--timeout=60".to_owned(), "--wait=hv".to_owned()];
        for protocol in PROTOCOLS {
            for (version, ip) in service.ips.iter().enumerate() {
                let backends: Vec<String> =
                    backends.iter().map(|it| SocketAddr::new(it[version], target).to_string()).collect();
                let (balancer, vip) = (service.balancer(protocol), SocketAddr::new(*ip, port).to_string());
                arguments.extend(["--", "lb-add"].map(str::to_owned));
                arguments.extend([balancer, vip, backends.join(","), protocol.to_owned()]);
            }
            arguments.extend(["--", "ls-lb-add", "ls0"].map(str::to_owned));
            arguments.push(service.balancer(protocol));
        }
        place("central", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        service
    }

    fn balancer(&self, protocol: &str) -> String {
        format!("{}-{}-{protocol}", self.namespace, self.name)
    }

    /// The Service, and an `EndpointSlice` for each version of IP.
    pub fn objects(&self) -> Vec<Value> {
        let ports = |number: u16| {
            PROTOCOLS.map(|it| json!({"name": it, "protocol": it.to_uppercase(), "port": number}))
        };
        let metadata = |name: &str| {
            json!({"namespace": self.namespace, "name": name,
                "labels": {"kubernetes.io/service-name": self.name}})
        };
        let slice = |version: usize| {
            let endpoints: Vec<Value> = self
                .backends
                .iter()
                .map(|it| json!({"addresses": [it[version]], "conditions": {"ready": true}}))
                .collect();
            let kind = ["IPv4", "IPv6"][version];
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": metadata(&format!("{}-{}", self.name, kind.to_lowercase())),
                "addressType": kind, "endpoints": endpoints, "ports": ports(self.target)})
        };
        vec![
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(self.name),
                "spec": {"type": "ClusterIP", "clusterIP": self.ips[0], "clusterIPs": self.ips,
                    "ports": ports(self.port)}}),
            slice(0),
            slice(1),
        ]
    }
}

impl Drop for ClusterIp {
    fn drop(&mut self) {
        for protocol in PROTOCOLS {
            place(
                "central",
                &["ovn-nbctl", "--timeout=60", "--if-exists", "lb-del", &self.balancer(protocol)],
            );
        }
    }
}
