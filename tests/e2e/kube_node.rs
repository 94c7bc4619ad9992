//! The node's own access to its pods: a server gets its address by plain DHCP, kubelet's probes pass whatever the policies
//! say, and nobody else's do. On a lab with Kubernetes and cluster-controller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "kube_node/crowd.rs"]
mod crowd;
#[path = "kube_node/vf_gone.rs"]
mod vf_gone;
#[path = "kube_node/when_the_northbound_is_lost.rs"]
mod when_the_northbound_is_lost;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use serde_json::{Value, json};
use tests::cluster::{Api, Namespace, PATIENCE};
use tests::command::{daemon, sh};
use tests::nic::NICS;
use tests::{Capture, Nic, frame, place, until};

static API: LazyLock<Api> = LazyLock::new(Api::admin);
const NAMESPACE: &str = "e2e-node";
const PODS: &str = "/api/v1/namespaces/e2e-node/pods";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/e2e-node/networkpolicies";
const NIC_NODES: &str = "/apis/drawbridge.dev/v1alpha1/nicnodes";
const ATTACHMENTS: &str = "/apis/drawbridge.dev/v1alpha1/namespaces/e2e-node/podattachments";

/// A server, which is what its NIC trusts least.
#[derive(Debug, Clone, Copy)]
struct Server(Nic);

impl Server {
    fn place(self) -> String {
        format!("host{}", self.0.0)
    }

    /// The VF that its NicNode names.
    fn device(self) -> String {
        format!("ens{}v0", self.0.0)
    }

    fn path(self) -> String {
        format!("{NIC_NODES}/{}", self.place())
    }

    fn says(self) -> Result<Option<(String, String, String)>, String> {
        let node = API.get(&self.path()).map_err(|e| e.message)?;
        let all = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let Some(it) = all.iter().find(|it| it["type"] == "ManagementPort") else { return Ok(None) };
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        Ok(Some((text("status"), text("reason"), text("message"))))
    }

    #[track_caller]
    fn attached(self) {
        until(&format!("{self:?}'s port is attached"), PATIENCE, || match self.says()? {
            Some((status, reason, _)) if (status.as_str(), reason.as_str()) == ("True", "Attached") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// As OVN gives them: IPv4, then IPv6.
    #[track_caller]
    fn addresses(self) -> [IpAddr; 2] {
        let node = API.get(&self.path()).unwrap();
        let all = node["status"]["addresses"].as_array().unwrap().iter();
        let mut ips: Vec<IpAddr> = all
            .filter(|it| it["type"] == "Management")
            .map(|it| it["address"].as_str().unwrap().parse().unwrap())
            .collect();
        ips.sort_by_key(IpAddr::is_ipv6);
        ips.try_into().unwrap_or_else(|ips| panic!("both families: {ips:?}"))
    }

    fn shown(self, arguments: &[&str]) -> Value {
        let said = place(&self.place(), &[&["ip", "-json"], arguments].concat()).ok();
        serde_json::from_str(&said).expect("ip speaks JSON")
    }

    /// What DHCP, DHCPv6 and router advertisements say has been taken over.
    #[track_caller]
    fn is_configured(self) {
        let (device, wanted) = (self.device(), self.addresses());
        until(&format!("{self:?} has {wanted:?}"), PATIENCE, || {
            let link = self.shown(&["address", "show", "dev", &device]);
            let has: Vec<&Value> =
                link[0]["addr_info"].as_array().into_iter().flatten().map(|it| &it["local"]).collect();
            let missing = wanted.iter().any(|ip| !has.iter().any(|it| **it == ip.to_string()));
            if missing || link[0]["mtu"] != 1400 { Err(link.to_string()) } else { Ok(()) }
        });
        // cluster-controller's --cluster-cidr and --service-cidr.
        for (family, prefixes) in
            [("-4", ["10.244.0.0/16", "10.96.0.0/16"]), ("-6", ["fd00:10:244::/48", "fd00:96::/112"])]
        {
            until(&format!("{self:?} has routes to {prefixes:?}"), PATIENCE, || {
                let routes = self.shown(&[family, "route", "show", "dev", &device]);
                let has = |prefix: &str| {
                    let mut all = routes.as_array().into_iter().flatten();
                    all.any(|it| it["dst"] == prefix && it["gateway"].is_string())
                };
                if prefixes.iter().all(|it| has(it)) { Ok(()) } else { Err(routes.to_string()) }
            });
        }
        let default = self.shown(&["-4", "route", "show", "default", "dev", &device]);
        assert_eq!(default, json!([]), "the server's way out stays its own");
    }

    /// What a pod's web server says to the server.
    fn fetch(self, ip: IpAddr) -> Option<String> {
        let url = if ip.is_ipv6() { format!("http://[{ip}]:8080/") } else { format!("http://{ip}:8080/") };
        let said = place(&self.place(), &["curl", "--silent", "--max-time", "4", &url]);
        said.is_ok().then(|| said.stdout.trim().to_owned())
    }

    fn dhcp_again(self) {
        for client in ["dhcp", "dhcp6"] {
            daemon(&self.place(), client, "restart");
        }
    }
}

/// A web server on server 1, and the ports at which kubelet asks whether it lives, by HTTP, and whether it is ready, by
/// TCP.
fn pod(name: &str, lives: u16, ready: u16) -> Value {
    let patient = |mut probe: Value| {
        // A period is as long as the patience with an emulated machine allows.
        probe["periodSeconds"] = json!(2);
        probe["timeoutSeconds"] = json!(8);
        probe["failureThreshold"] = json!(3);
        probe
    };
    let lives = json!({"httpGet": {"path": "/index.html", "port": lives}});
    let mut container = json!({
        "name": "web", "image": "registry.local/box:1", "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", format!("echo {name} >/tmp/index.html; exec httpd -f -p 8080 -h /tmp")],
        "livenessProbe": patient(lives.clone()),
        "readinessProbe": patient(json!({"tcpSocket": {"port": ready}})),
        "resources": {"limits": {"drawbridge.dev/vf": "1"}}});
    if name != "dead" {
        // Until it has succeeded once nobody judges: a container may be slow to start.
        container["startupProbe"] = patient(lives);
        container["startupProbe"]["failureThreshold"] = json!(100);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeSelector": {"kubernetes.io/hostname": "host1"}, "containers": [container],
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "enableServiceLinks": false}})
}

/// What kubelet says of the pod's one container.
#[derive(Debug)]
struct Health {
    ready: bool,
    restarts: u64,
    addresses: Vec<IpAddr>,
}

fn health(name: &str) -> Result<Health, String> {
    let pod = API.get(&format!("{PODS}/{name}")).map_err(|e| e.message)?;
    let container = &pod["status"]["containerStatuses"][0];
    let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
    let mut addresses: Vec<IpAddr> = ips.filter_map(|it| it["ip"].as_str()?.parse().ok()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    let restarts = container["restartCount"].as_u64().ok_or_else(|| pod["status"].to_string())?;
    Ok(Health { ready: container["ready"] == true, restarts, addresses })
}

fn deny_all() -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}})
}

/// UDP to the pod from whatever address, sent by server 2 on its own port with its own MAC.
fn send_as(source: Ipv4Addr, server: Server, to: Ipv4Addr, port: u16) {
    let (device, at) = (server.device(), server.place());
    let mac = sh(&at, &format!("cat /sys/class/net/{device}/address")).ok().trim().to_owned();
    let datagram = frame::ipv4(source, to, 17, &frame::udp(6666, port, b"drawbridge"));
    // The router's MAC on node 2's switch: 0a:58 and its address.
    let frame = frame::ethernet("0a:58:0a:f4:02:01", &mac, 0x0800, &datagram);
    frame::send(&at, &device, &frame, 3).ok();
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(ip) = ip else { panic!("{ip}") };
    ip
}

#[test]
fn a_node_reaches_its_own_isolated_pods_and_no_others() {
    let servers = NICS.map(Server);
    let [own, other] = servers;
    for server in servers {
        server.attached();
        server.is_configured();
    }

    let namespaces = Namespace::create(&API, NAMESPACE);
    API.create(POLICIES, &deny_all());
    for (name, lives, ready) in [("good", 8080, 8080), ("dead", 8081, 8080), ("unready", 8080, 8081)] {
        until("the pod is taken", PATIENCE, || {
            API.try_create(PODS, &pod(name, lives, ready)).map_err(|e| e.message)
        });
    }
    let good = ready("good");
    // kubelet's own judgement of a pod that does not answer counts its periods.
    until("kubelet has given up the dead pod", PATIENCE, || {
        let now = health("good")?;
        assert!(now.ready && now.restarts == 0, "{now:?}");
        let dead = health("dead")?;
        if dead.restarts >= 1 { Ok(()) } else { Err(format!("{dead:?}")) }
    });
    let unready = health("unready").unwrap();
    assert!(!unready.ready && unready.restarts == 0, "a port that nobody listens on: {unready:?}");

    // Whoever else is on the server, too; but not the other server.
    for ip in &good.addresses {
        assert_eq!(own.fetch(*ip).as_deref(), Some("good"), "{ip}");
    }
    std::thread::scope(|scope| {
        for ip in &good.addresses {
            scope.spawn(move || assert_eq!(other.fetch(*ip), None, "{ip}"));
        }
    });
    // Nor with the first server's address: its NIC lets it send with none but its own.
    let to = v4(good.addresses[0]);
    let inside = format!("kube:{NAMESPACE}/good");
    let [own_ip, other_ip] = servers.map(|it| v4(it.addresses()[0]));
    let capture = Capture::start(&inside, "eth0", "udp dst port 7007");
    send_as(own_ip, other, to, 7007);
    send_as(other_ip, other, to, 7007);
    for _ in 0..5 {
        place(&own.place(), &["bash", "-c", &format!("echo own >/dev/udp/{to}/7007")]).ok();
    }
    let seen = capture.stop();
    assert!(!seen.is_empty() && seen.iter().all(|line| !line.contains(".6666 >")), "{seen:?}");

    // It was policy that held the other server off.
    API.delete(&format!("{POLICIES}/deny"));
    for ip in &good.addresses {
        until(&format!("without a policy the other server reaches {ip}"), PATIENCE, || {
            other.fetch(*ip).ok_or_else(String::new)
        });
    }
    let capture = Capture::start(&inside, "eth0", "udp dst port 7007");
    send_as(own_ip, other, to, 7007);
    send_as(other_ip, other, to, 7007);
    let seen = capture.stop();
    let from = |ip: Ipv4Addr| seen.iter().any(|line| line.contains(&format!("{ip}.6666 >")));
    assert!(from(other_ip) && !from(own_ip), "{seen:?}");
    drop(namespaces);
}

/// Ready, with both addresses.
#[track_caller]
fn ready(name: &str) -> Health {
    until(&format!("the pod {name} is ready"), PATIENCE, || match health(name)? {
        health if health.ready && health.addresses.len() == 2 => Ok(health),
        other => Err(format!("{other:?}")),
    })
}

/// A pod in a namespace in which nothing is allowed.
#[track_caller]
fn isolated(name: &str) -> Health {
    API.create(POLICIES, &deny_all());
    until("the pod is taken", PATIENCE, || {
        API.try_create(PODS, &pod(name, 8080, 8080)).map_err(|e| e.message)
    });
    ready(name)
}

/// The VF of a pod's attachment.
fn vf_of(pod: &str) -> u64 {
    until("the pod has its attachment", PATIENCE, || {
        let found = API.get(&format!("{ATTACHMENTS}/{pod}-eth0")).map_err(|e| e.message)?;
        found["spec"]["vf"]["vf"].as_u64().ok_or_else(|| found.to_string())
    })
}

#[test]
fn the_port_is_what_the_nic_node_names() {
    let server = Server(Nic(1));
    let nic = server.0;
    server.attached();
    server.is_configured();
    let _namespaces = Namespace::create(&API, NAMESPACE);
    let good = isolated("good");

    // An agent that starts again finds all as it was.
    nic.settle();
    let before = (nic.flows(), nic.ports());
    nic.daemon("agent", "kill");
    nic.settle();
    assert_eq!((nic.flows(), nic.ports()), before);
    assert_eq!(server.fetch(good.addresses[0]).as_deref(), Some("good"));

    // A pod's VF is the pod's.
    let held = vf_of("good");
    let name = |vf: Value| {
        API.patch(&server.path(), &json!({"spec": {"managementPort": vf}}));
    };
    name(json!({"pf": 0, "vf": held}));
    until("the port waits for the pod's VF", PATIENCE, || match server.says()? {
        Some((status, _, why))
            if status == "False" && why.contains(&format!("held by pod {NAMESPACE}/good")) =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
    let is_open = || nic.representors()["pf0vf0"];
    until("the old one is closed", PATIENCE, || {
        if is_open() || nic.ports()["br-edge"].contains("pf0vf0") { Err("open".to_owned()) } else { Ok(()) }
    });
    assert_eq!(server.fetch(good.addresses[0]), None, "no port, no access");

    name(Value::Null);
    until("no port is named", PATIENCE, || match server.says()? {
        None => Ok(()),
        other => Err(format!("{other:?}")),
    });
    name(json!({"pf": 0, "vf": 0}));
    server.attached();
    assert!(is_open());
    server.dhcp_again();
    server.is_configured();
    until("the server reaches its pod again", PATIENCE, || {
        server.fetch(good.addresses[0]).ok_or_else(String::new)
    });
}

/// Kubelet says a pod's addresses once its containers run, which waits for their `postStart` hooks: a hook that asks a pod whose
/// policy lets in its own would never end, were it nobody's peer before that.
#[test]
fn a_pod_is_a_peer_before_kubelet_says_its_address() {
    let _namespaces = Namespace::create(&API, NAMESPACE);
    let from_early = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "early"},
        "spec": {"podSelector": {"matchLabels": {"app": "asked"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "early"}}}]}]}});
    API.create(POLICIES, &from_early);
    let labelled = |name: &str, node: &str, app: &str| {
        let mut pod = pod(name, 8080, 8080);
        pod["metadata"]["labels"] = json!({"app": app});
        pod["spec"]["nodeSelector"]["kubernetes.io/hostname"] = json!(node);
        pod
    };
    until("the pod is taken", PATIENCE, || {
        API.try_create(PODS, &labelled("asked", "host2", "asked")).map_err(|e| e.message)
    });
    let asked = ready("asked");
    // On the NIC of the pod that is asked, and on the other.
    for (name, node) in [("near", "host2"), ("far", "host1")] {
        let mut early = labelled(name, node, "early");
        let wget =
            format!("until wget -q -T 5 -O /dev/null http://{}:8080/; do sleep 1; done", asked.addresses[0]);
        early["spec"]["containers"][0]["lifecycle"] =
            json!({"postStart": {"exec": {"command": ["/bin/sh", "-c", wget]}}});
        API.create(PODS, &early);
        until(&format!("{name} has addresses"), PATIENCE, || {
            let at = format!("{ATTACHMENTS}/{name}-eth0");
            let found = API.get(&at).map_err(|e| e.message)?;
            let ips = found["status"]["ips"].as_array().map_or(0, Vec::len);
            if ips == 2 { Ok(()) } else { Err(found["status"].to_string()) }
        });
        until(&format!("the hook of {name} ends"), PATIENCE, || match health(name)? {
            health if health.ready => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    // It was the policy's selector that let them in.
    let mut stranger = labelled("stranger", "host1", "stranger");
    stranger["spec"]["containers"][0]["command"] = json!(["/bin/sleep", "3600"]);
    stranger["spec"]["containers"][0].as_object_mut().unwrap().retain(|key, _| !key.ends_with("Probe"));
    API.create(PODS, &stranger);
    ready("stranger");
    let url = format!("http://{}:8080/", asked.addresses[0]);
    let said = place(&format!("kube:{NAMESPACE}/stranger"), &["curl", "--silent", "--max-time", "4", &url]);
    assert!(!said.is_ok(), "{said:?}");
}
