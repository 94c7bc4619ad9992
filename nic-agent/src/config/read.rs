//! From the TOML table to a [`Config`], section by section. A reader takes all keys of its section before it gives up,
//! so that every mistake is reported.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::{Table, Value};

use super::section::{Problem, Section};
use super::value::{
    Checked, array, boolean, certificate_name, comma_list, devlink_device, dns_subdomain, identifier,
    interface_name, number, or_none, parsed, path, remote, socket_address, string, tunnel_address, unicast,
    word,
};
use super::{
    BridgeMapping, Chassis, Cluster, Config, Directory, Edge, EncapType, Eswitch, Family, Log, LogFormat,
    LogLevel, Metrics, Node, Ovn, Ovs, Policy, Profile, ProfileKind, Remote, Route, Server, Southbound,
    SouthboundTls, State, TcPolicy, Template, ZoneRange, defaults,
};
use crate::policy::Budget;

/// Below the 120 seconds that kubelet gives the runtime for a request, so that our answer arrives first.
const ATTACH_TIMEOUT: RangeInclusive<u64> = 5..=110;
const MAX_CONNECTIONS: RangeInclusive<u32> = 1..=1024;

pub(super) fn config(table: Table) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut root = Section::root(table, &mut problems);
    let node = root.section("node", node);
    let server = root.section("server", server);
    let ovs = root.section("ovs", ovs);
    let ovn = root.section("ovn", ovn);
    let chassis = root.section("chassis", chassis);
    let needs_tls =
        chassis.as_ref().is_some_and(|c| c.ovn_remote.iter().any(|r| matches!(r, Remote::Ssl { .. })));
    let southbound = root.section("southbound", |s| southbound(s, needs_tls));
    let edge = root.section("edge", |s| edge(s, chassis.as_ref()));
    let eswitch = root.section("eswitch", eswitch);
    let profile = root.section("profile", profile);
    let cluster = root.section("cluster", cluster);
    let by_file = !matches!(cluster, Some(Some(_)));
    let directory = root.section("directory", |s| directory(s, by_file));
    let policy = root.section("policy", |s| policy(s, by_file));
    let state = root.section("state", state);
    let metrics = root.section("metrics", metrics);
    let log = root.section("log", log);
    root.finish();
    let config = (|| {
        Some(Config {
            node: node?,
            shim_keys: BTreeSet::new(),
            server: server?,
            ovs: ovs?,
            ovn: ovn?,
            chassis: chassis?,
            southbound: southbound?,
            edge: edge?,
            eswitch: eswitch?,
            profile: profile?,
            cluster: cluster?,
            directory: directory?,
            policy: policy?,
            state: state?,
            metrics: metrics?,
            log: log?,
        })
    })();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

fn node(s: &mut Section<'_>) -> Option<Node> {
    let name =
        s.required("name", "write the name of the Kubernetes node that this NIC serves", dns_subdomain);
    let host_identity = s.optional("host-identity", certificate_name);
    let name = name?;
    Some(Node { host_identity: host_identity.unwrap_or_else(|| name.clone()), name })
}

fn server(s: &mut Section<'_>) -> Option<Server> {
    let remedy = "write a list of address:port, for example [\"192.0.2.21:8443\"]";
    let listen = s.required("listen", remedy, |v| array(v, socket_address, remedy));
    let cert = s.value("cert", defaults::SERVER_CERT, path);
    let key = s.value("key", defaults::SERVER_KEY, path);
    let client_ca = s.value("client-ca", defaults::CLIENT_CA, path);
    let timeout =
        s.value("attach-timeout-seconds", defaults::ATTACH_TIMEOUT_SECONDS, |v| number(v, &ATTACH_TIMEOUT));
    let max_connections =
        s.value("max-connections", defaults::MAX_CONNECTIONS, |v| number(v, &MAX_CONNECTIONS));
    Some(Server {
        listen: listen?,
        cert: cert?,
        key: key?,
        client_ca: client_ca?,
        attach_timeout: Duration::from_secs(timeout?),
        max_connections: usize::try_from(max_connections?).ok()?,
    })
}

fn ovs(s: &mut Section<'_>) -> Option<Ovs> {
    let db = s.value("db", defaults::OVS_DB, |v| match remote(string(v)?)? {
        Remote::Ssl { .. } => Err("write unix:/path or tcp:host:port: this NIC's own OVS".to_owned()),
        remote => Ok(remote),
    });
    let run_dir = s.value("run-dir", defaults::OVS_RUN_DIR, path);
    let system_id_file = s.value("system-id-file", defaults::OVS_SYSTEM_ID_FILE, path);
    Some(Ovs { db: db?, run_dir: run_dir?, system_id_file: system_id_file? })
}

fn ovn(s: &mut Section<'_>) -> Option<Ovn> {
    Some(Ovn { run_dir: s.value("run-dir", defaults::OVN_RUN_DIR, path)? })
}

fn chassis(s: &mut Section<'_>) -> Option<Chassis> {
    let system_id = s.required("system-id", "write this chassis' unique name in OVN", identifier);
    let hostname = s.optional("hostname", dns_subdomain);
    let remedy = "write the southbound's address, for example \"ssl:192.0.2.10:6642\"";
    let ovn_remote = s.required("ovn-remote", remedy, |v| some(comma_list(v, remote)?, remedy));
    let encap_types = [("geneve", EncapType::Geneve), ("vxlan", EncapType::Vxlan)];
    let ovn_encap_type = s.value("ovn-encap-type", defaults::ENCAP_TYPE, |v| {
        some(
            comma_list(v, |text| word(&Value::from(text), &encap_types))?,
            "write \"geneve\", \"vxlan\" or both",
        )
    });
    let remedy = "write this NIC's own unicast address in the fabric, IPv4 or IPv6";
    let ovn_encap_ip = s.required("ovn-encap-ip", remedy, |v| some(comma_list(v, tunnel_address)?, remedy));
    let ovn_bridge = s.value("ovn-bridge", defaults::OVN_BRIDGE, |v| interface_name(string(v)?));
    let mappings = s.value("ovn-bridge-mappings", "", |v| comma_list(v, bridge_mapping));
    let zones = s.value("ovn-transport-zones", "", |v| comma_list(v, |text| identifier(&Value::from(text))));
    let ct_zone_range = s.value("ct-zone-range", defaults::CHASSIS_ZONES, |v| string(v)?.parse());
    let hw_offload = s.value("hw-offload", defaults::HW_OFFLOAD, boolean);
    let policies = [("none", TcPolicy::None), ("skip_sw", TcPolicy::SkipSw), ("skip_hw", TcPolicy::SkipHw)];
    let tc_policy = s.value("tc-policy", defaults::TC_POLICY, |v| word(v, &policies));
    Some(Chassis {
        system_id: system_id?,
        hostname,
        ovn_remote: ovn_remote?,
        ovn_encap_type: ovn_encap_type?,
        ovn_encap_ip: ovn_encap_ip?,
        ovn_bridge: ovn_bridge?,
        ovn_bridge_mappings: mappings?,
        ovn_transport_zones: zones?,
        ct_zone_range: ct_zone_range?,
        hw_offload: hw_offload?,
        tc_policy: tc_policy?,
    })
}

fn some<T>(list: Vec<T>, remedy: &str) -> Checked<Vec<T>> {
    if list.is_empty() { Err(remedy.to_owned()) } else { Ok(list) }
}

fn bridge_mapping(text: &str) -> Checked<BridgeMapping> {
    let remedy = "write network:bridge, comma between pairs, for example \"physnet1:br-phys\"";
    let (network, bridge) = text.split_once(':').ok_or(remedy)?;
    Ok(BridgeMapping {
        network: identifier(&Value::from(network)).map_err(|_| remedy)?,
        bridge: interface_name(bridge).map_err(|_| remedy)?,
    })
}

fn southbound(s: &mut Section<'_>, needs_tls: bool) -> Option<Southbound> {
    let private_key = s.optional("private-key", path);
    let certificate = s.optional("certificate", path);
    let ca_cert = s.optional("ca-cert", path);
    let any = private_key.is_some() || certificate.is_some() || ca_cert.is_some();
    for (key, found) in [("private-key", &private_key), ("certificate", &certificate), ("ca-cert", &ca_cert)]
    {
        if found.is_none() && needs_tls {
            s.problem_if_absent(
                key,
                "chassis.ovn-remote holds an ssl: address; write the absolute path of its PEM file",
            );
        } else if found.is_none() && any {
            s.problem_if_absent(key, "write all three of private-key, certificate and ca-cert, or none");
        }
    }
    if !any {
        return Some(Southbound { tls: None });
    }
    let tls = SouthboundTls { private_key: private_key?, certificate: certificate?, ca_cert: ca_cert? };
    Some(Southbound { tls: Some(tls) })
}

fn edge(s: &mut Section<'_>, chassis: Option<&Chassis>) -> Option<Edge> {
    let bridge = s.value("bridge", defaults::EDGE_BRIDGE, |v| {
        let name = interface_name(string(v)?)?;
        let theirs = chassis.is_some_and(|c| {
            c.ovn_bridge == name || c.ovn_bridge_mappings.iter().any(|mapping| mapping.bridge == name)
        });
        if theirs {
            Err("write a bridge that is neither OVN's nor in its mappings".to_owned())
        } else {
            Ok(name)
        }
    });
    let ct_zones = s.value("ct-zones", defaults::EDGE_ZONES, |v| {
        let range: ZoneRange = string(v)?.parse()?;
        if range.size() > Edge::MAX_ZONES {
            return Err(format!("write at most {} zones: the eSwitch has no more", Edge::MAX_ZONES));
        }
        match chassis.map(|c| c.ct_zone_range) {
            Some(theirs) if theirs.overlaps(range) => {
                Err(format!("write zones outside of chassis.ct-zone-range, {theirs}: those are OVN's"))
            }
            _ => Ok(range),
        }
    });
    let mtu = s.value("mtu", 0, |v| match v.as_integer() {
        Some(0) => Ok(None),
        _ => number(v, &Edge::MTU).map(Some).map_err(|remedy| format!("{remedy}, or 0 to leave it as it is")),
    });
    let connections =
        s.value("pod-connections", defaults::POD_CONNECTIONS, |v| number(v, &Edge::POD_CONNECTIONS));
    let rate = s.value("pod-connection-rate", defaults::POD_CONNECTION_RATE, |v| {
        number(v, &Edge::POD_CONNECTION_RATE).map(|rate| NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN))
    });
    Some(Edge {
        bridge: bridge?,
        ct_zones: ct_zones?,
        mtu: mtu?,
        vf_budget: None,
        pod_connections: connections?,
        pod_connection_rate: rate?,
        static_pods: false,
        management_port: None,
    })
}

fn eswitch(s: &mut Section<'_>) -> Option<Eswitch> {
    let device = s.value("device", "", |v| or_none(v, devlink_device));
    let controller = s.optional("controller", |v| number(v, &(0..=255)));
    Some(Eswitch { device: device?, controller })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    OvnKubernetes,
    KubeOvn,
}

fn profile(s: &mut Section<'_>) -> Option<Profile> {
    let kinds =
        [("plain", Kind::Plain), ("ovn-kubernetes", Kind::OvnKubernetes), ("kube-ovn", Kind::KubeOvn)];
    let kind = s.value("kind", defaults::PROFILE_KIND, |v| word(v, &kinds));
    let template = if matches!(kind, None | Some(Kind::Plain)) {
        s.value("template", defaults::TEMPLATE, |v| string(v)?.parse::<Template>()).map(Some)
    } else {
        s.value("template", "", |v| {
            or_none(v, |_| {
                Err("remove it, or write profile.kind = \"plain\": the others have their own".to_owned())
            })
        })
    };
    let dhcp = s.value("dhcp", defaults::DHCP, boolean);
    let remedy = "write the addresses from which DHCP servers answer, IPv4 or IPv6; comma between several";
    let dhcp_servers = s.value("dhcp-servers", "", |v| {
        comma_list(v, |text| text.parse().ok().filter(|ip| unicast(*ip)).ok_or_else(|| remedy.to_owned()))
    });
    let ipv4 = s.section("ipv4", |s| family::<Ipv4Addr>(s, defaults::PREFIX_LENGTH_V4, 32));
    let ipv6 = s.section("ipv6", |s| family::<Ipv6Addr>(s, defaults::PREFIX_LENGTH_V6, 128));
    let routes = s.sections("routes", route);
    let kind = match kind? {
        Kind::Plain => ProfileKind::Plain { template: template?? },
        Kind::OvnKubernetes => ProfileKind::OvnKubernetes,
        Kind::KubeOvn => ProfileKind::KubeOvn,
    };
    Some(Profile { kind, dhcp: dhcp?, dhcp_servers: dhcp_servers?, ipv4: ipv4?, ipv6: ipv6?, routes })
}

fn family<A: std::str::FromStr + Copy + Into<IpAddr>>(
    s: &mut Section<'_>,
    prefix_length: u8,
    longest: u8,
) -> Option<Family<A>> {
    let prefix_length = s.value("prefix-length", prefix_length, |v| number(v, &(1..=longest)));
    let family = if longest == 32 { "IPv4" } else { "IPv6" };
    let gateway = s.value("gateway", "", |v| {
        or_none(v, |v| {
            let remedy = format!("write the pods' gateway, a unicast {family} address, or \"\" for none");
            let address = parsed::<A>(v, &remedy)?;
            if unicast(address.into()) { Ok(address) } else { Err(remedy) }
        })
    });
    Some(Family { prefix_length: prefix_length?, gateway: gateway? })
}

fn route(s: &mut Section<'_>) -> Option<Route> {
    let destination = s.required("destination", "write a prefix, for example 10.96.0.0/16", |v| {
        let remedy = "write a prefix without host bits, for example 10.96.0.0/16 or fd00:96::/112";
        let prefix = parsed::<IpNet>(v, remedy)?;
        if prefix.trunc() == prefix {
            Ok(prefix)
        } else {
            Err(format!("{remedy}; did you mean {}?", prefix.trunc()))
        }
    });
    let gateway = s.value("gateway", "", |v| {
        or_none(v, |v| {
            let remedy = "write a unicast address of the destination's family, or \"\" for on the link";
            let address = parsed::<IpAddr>(v, remedy)?;
            let same = destination.is_none_or(|prefix| prefix.addr().is_ipv4() == address.is_ipv4());
            if same && unicast(address) { Ok(address) } else { Err(remedy.to_owned()) }
        })
    });
    Some(Route { destination: destination?, gateway: gateway? })
}

/// `None` is a mistake, `Some(None)` no cluster.
#[allow(clippy::option_option)]
fn cluster(s: &mut Section<'_>) -> Option<Option<Cluster>> {
    let kubeconfig = s.value("kubeconfig", defaults::KUBECONFIG, |v| {
        or_none(v, path).map_err(|remedy| format!("{remedy}, or \"\" to go by files"))
    });
    Some(kubeconfig?.map(|kubeconfig| Cluster { kubeconfig }))
}

fn directory(s: &mut Section<'_>, by_file: bool) -> Option<Directory> {
    let remedy = "remove it: with cluster.kubeconfig the cluster itself says which pods exist";
    let given = s.holds("file");
    let file = s.value("file", defaults::DIRECTORY_FILE, |v| {
        path(v).and_then(|it| if by_file || !given { Ok(it) } else { Err(remedy.to_owned()) })
    });
    Some(Directory { file: file? })
}

fn policy(s: &mut Section<'_>, by_file: bool) -> Option<Policy> {
    let remedy = "remove it: with cluster.kubeconfig the policies come from the cluster itself";
    let file = s.value("file", "", |v| {
        let file = or_none(v, path).map_err(|remedy| format!("{remedy}, or \"\" for pods without policy"))?;
        if by_file || file.is_none() { Ok(file) } else { Err(remedy.to_owned()) }
    });
    let remedy = "write the node's own addresses, IPv4 or IPv6; comma between several";
    let node_addresses = s.value("node-addresses", "", |v| {
        comma_list(v, |text| text.parse().ok().filter(|ip| unicast(*ip)).ok_or_else(|| remedy.to_owned()))
    });
    let budget = s.section("budget", budget);
    Some(Policy { file: file?, node_addresses: node_addresses?, budget: budget? })
}

/// Every key of `[policy.budget]`; their defaults are [`Budget::default`]'s.
fn budget(s: &mut Section<'_>) -> Option<Budget> {
    let mut budget = Budget::default();
    let mut is_right = true;
    for (key, limit, most) in [
        ("policy-rules", &mut budget.policy.rules, 5_000),
        ("policy-prefixes", &mut budget.policy.prefixes, 1_000_000),
        ("policy-ports", &mut budget.policy.ports, 1_000_000),
        ("policy-bytes", &mut budget.policy.bytes, 1_073_741_824),
        ("namespace-rules", &mut budget.namespace.rules, 1_000_000),
        ("namespace-prefixes", &mut budget.namespace.prefixes, 10_000_000),
        ("namespace-ports", &mut budget.namespace.ports, 10_000_000),
        ("namespace-bytes", &mut budget.namespace.bytes, 4_294_967_296),
        ("service-ports", &mut budget.services.service.ports, 65_535),
        ("service-endpoints", &mut budget.services.service.endpoints, 10_000_000),
        ("namespace-service-ports", &mut budget.services.namespace.ports, 1_000_000),
        ("namespace-service-endpoints", &mut budget.services.namespace.endpoints, 100_000_000),
        ("pod-flows", &mut budget.pod_flows, 10_000_000),
        ("pod-service-flows", &mut budget.pod_service_flows, 1_000_000),
    ] {
        let default = i64::try_from(*limit).unwrap_or(i64::MAX);
        match s.value(key, default, |v| number(v, &(1..=most))) {
            Some(number) => *limit = number,
            None => is_right = false,
        }
    }
    is_right.then_some(budget)
}

fn state(s: &mut Section<'_>) -> Option<State> {
    Some(State { dir: s.value("dir", defaults::STATE_DIR, path)? })
}

fn metrics(s: &mut Section<'_>) -> Option<Metrics> {
    let listen = s.value("listen", defaults::METRICS_LISTEN, |v| {
        or_none(v, socket_address).map_err(|remedy| format!("{remedy}, or \"\" for none"))
    });
    Some(Metrics { listen: listen? })
}

fn log(s: &mut Section<'_>) -> Option<Log> {
    let level = s.value("level", defaults::LOG_LEVEL, log_level);
    let formats = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journal", LogFormat::Journal),
    ];
    let format = s.value("format", defaults::LOG_FORMAT, |v| word(v, &formats));
    Some(Log { level: level?, format: format? })
}

/// `level` or `module=level`, comma between them. `Targets` would take a misspelt level for a module's name.
fn log_level(value: &Value) -> Checked<LogLevel> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let module = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
    };
    let directive = |part: &str| match part.split_once('=') {
        Some((target, level)) => module(target) && LEVELS.contains(&level),
        None => LEVELS.contains(&part),
    };
    match value.as_str() {
        Some(text) if text.split(',').all(directive) => Ok(LogLevel(text.to_owned())),
        _ => Err(format!("write one of {}, or module=level too, comma between them", LEVELS.join(", "))),
    }
}
