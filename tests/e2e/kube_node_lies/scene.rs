//! A database on server 2 that lets in `app=api`, by its address and as a Service; who may, and who may not.
//!
//! ```text
//!  server 1: own (app=api)   second (app=db)   x     server 2: db   api (app=api, sends to app=db only)   z
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};
use tests::cluster::{Api, KubePod, Namespaces, PATIENCE, Wanted, in_force};
use tests::nic::{NICS, Nic};
use tests::policy_lab::policy_of;
use tests::{State, place, until};

use crate::herald::{By, Herald, ask};

pub const BANK: &str = "bank";
/// On server 1, behind the database's Service by right.
pub const BACKEND: &str = "second";
const EVIL: &str = "evil";
const DB: u16 = 8080;
const PORT: u16 = 80;
const MARKER: &str = "marker";

type Labels = &'static [(&'static str, &'static str)];

/// Name, namespace, server, labels.
const PODS: [(&str, &str, &str, Labels); 6] = [
    ("db", BANK, "host2", &[("app", "db"), ("svc", "db")]),
    // The same, on the server that lies.
    (BACKEND, BANK, "host1", &[("app", "db"), ("svc", "db")]),
    ("api", BANK, "host2", &[("app", "api")]),
    ("own", BANK, "host1", &[("app", "api")]),
    ("x", EVIL, "host1", &[]),
    ("z", EVIL, "host2", &[]),
];

/// Tables of the northbound, and what of them is compared.
const NORTHBOUND: [(&str, &str); 7] = [
    ("Logical_Switch", "name,other_config"),
    ("Logical_Switch_Port", "name,type,addresses,port_security,options"),
    ("Logical_Router_Port", "name,mac,networks,options"),
    ("Logical_Router_Static_Route", "ip_prefix,nexthop,output_port,policy"),
    ("Load_Balancer", "name,protocol,vips"),
    ("DHCP_Options", "cidr,options"),
    ("ACL", "name,match,action"),
];

#[derive(Clone, PartialEq)]
pub struct Seen {
    nic: State,
    northbound: BTreeSet<String>,
    /// The other node's, and its NIC's pods'.
    confirmed: Value,
    attachments: BTreeMap<String, Value>,
}

impl Seen {
    /// Is this in the northbound?
    pub fn names(&self, port: &str) -> bool {
        self.northbound.iter().any(|it| it.contains(port))
    }

    /// As if this had not been in the northbound.
    pub fn without(&self, port: &str) -> Self {
        let northbound = self.northbound.iter().filter(|it| !it.contains(port)).cloned().collect();
        Self { northbound, ..self.clone() }
    }

    /// Or what is not.
    #[track_caller]
    pub fn is_the_same(&self, now: &Self) {
        let other = |before: &BTreeSet<String>, now: &BTreeSet<String>| -> Vec<String> {
            before.symmetric_difference(now).cloned().collect()
        };
        let none = Vec::<String>::new();
        assert_eq!(other(&self.nic.flows, &now.nic.flows), none, "flows of NIC 2");
        assert_eq!(other(&self.northbound, &now.northbound), none, "the northbound");
        assert_eq!((&self.confirmed, &self.attachments), (&now.confirmed, &now.attachments));
        assert_eq!(self.nic, now.nic);
    }
}

pub struct Scene {
    pub api: &'static Api,
    namespaces: Namespaces<'static>,
    pods: BTreeMap<&'static str, KubePod>,
    service: [IpAddr; 2],
    _heralds: [Herald; 2],
    marks: AtomicU8,
}

fn wanted(name: &str, namespace: &str, node: &'static str, labels: Labels) -> Wanted {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
    Wanted {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node,
        labels: labels.collect::<serde_json::Map<_, _>>().into(),
        ports: json!([{"name": "sql", "protocol": "TCP", "containerPort": DB}]),
        grace: 0,
    }
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

impl Scene {
    pub fn start(api: &'static Api) -> Self {
        let namespaces = Namespaces::create(api, &[(BANK, json!({})), (EVIL, json!({}))]);
        let policies = format!("/apis/networking.k8s.io/v1/namespaces/{BANK}/networkpolicies");
        let of = |app: &str| json!({"matchLabels": {"app": app}});
        api.create(
            &policies,
            &policy(
                "db",
                &json!({"podSelector": of("db"), "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": of("api")}]}]}),
            ),
        );
        api.create(
            &policies,
            &policy(
                "api",
                &json!({"podSelector": of("api"), "policyTypes": ["Egress"],
                "egress": [{"to": [{"podSelector": of("db")}]}]}),
            ),
        );
        let service = api.create(
            &format!("/api/v1/namespaces/{BANK}/services"),
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": {
                "selector": {"svc": "db"}, "ipFamilyPolicy": "RequireDualStack",
                "ports": [{"port": PORT, "targetPort": DB}]}}),
        );
        let ips = service["spec"]["clusterIPs"].as_array().unwrap().iter();
        let mut ips: Vec<IpAddr> = ips.map(|it| it.as_str().unwrap().parse().unwrap()).collect();
        ips.sort_by_key(IpAddr::is_ipv6);
        let pods: Vec<Wanted> = PODS
            .iter()
            .map(|(name, namespace, node, labels)| wanted(name, namespace, node, labels))
            .collect();
        let pods: BTreeMap<_, _> = PODS.iter().map(|it| it.0).zip(namespaces.run(&pods)).collect();
        let heralds = ["db", BACKEND].map(|name| Herald::start(&pods[name], "db", DB));
        api.create(
            &format!("/api/v1/namespaces/{EVIL}/services"),
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": MARKER},
                "spec": {"ports": [{"port": PORT}]}}),
        );
        let service = ips.try_into().unwrap();
        let scene = Self { api, namespaces, pods, service, _heralds: heralds, marks: AtomicU8::new(0) };
        for name in ["api", "own"] {
            tests::netns::within(&scene.pod(name).place(), || {
                for to in scene.targets() {
                    let by = if to.port() == DB { [By::Tcp, By::Udp] } else { [By::Tcp; 2] };
                    for by in by {
                        until(&format!("{name} reaches {to} by {by:?}"), PATIENCE, || {
                            ask(to, by).map_err(|e| e.to_string())
                        });
                    }
                }
            });
        }
        scene.mark();
        scene
    }

    /// Another pod of the bank's.
    pub fn add(&mut self, name: &'static str, node: &'static str) {
        let mut pods = self.namespaces.run(&[wanted(name, BANK, node, &[])]);
        self.pods.insert(name, pods.remove(0));
    }

    /// To which the database's Service leads: IPv4, address and port.
    pub fn backends(&self) -> Vec<String> {
        let vip = SocketAddr::new(self.service[0], PORT).to_string();
        let said = [
            "ovn-nbctl",
            "--timeout=60",
            "--no-leader-only",
            "--bare",
            "--columns=vips",
            "list",
            "Load_Balancer",
        ];
        let said = place("central", &said).ok();
        let of = said.split_whitespace().find_map(|it| it.strip_prefix(&format!("{vip}=")));
        of.unwrap_or_default().split(',').map(str::to_owned).collect()
    }

    /// Whoever may ask the database by its Service is answered by it.
    pub fn served(&self) {
        tests::netns::within(&self.pod("api").place(), || {
            for ip in self.service {
                for _ in 0..4 {
                    let said = ask(SocketAddr::new(ip, PORT), By::Tcp);
                    assert_eq!(said.as_deref().ok(), Some("db"), "{ip}: {said:?}");
                }
            }
        });
    }

    pub fn pod(&self, name: &str) -> &KubePod {
        &self.pods[name]
    }

    pub fn ip(&self, name: &str) -> String {
        self.pods[name].addresses[0].to_string()
    }

    /// By each of which somebody could reach the database.
    pub fn targets(&self) -> Vec<SocketAddr> {
        let pod = self.pods["db"].addresses.map(|ip| SocketAddr::new(ip, DB));
        let service = self.service.map(|ip| SocketAddr::new(ip, PORT));
        [pod, service].concat()
    }

    /// Addresses in the slices of the database's Service, as the control plane wrote them.
    pub fn endpoints(&self) -> Vec<String> {
        let slices = self.api.list(&format!("/apis/discovery.k8s.io/v1/namespaces/{BANK}/endpointslices"));
        let all = slices.iter().filter(|it| it["metadata"]["labels"]["kubernetes.io/service-name"] == "db");
        let endpoints = all.filter_map(|it| it["endpoints"].as_array()).flatten();
        endpoints.filter_map(|it| Some(it["addresses"][0].as_str()?.to_owned())).collect()
    }

    /// Returns when agent and controller have heard of all that was written before: of this version of a pod the agent, and
    /// of a slice that is written now both.
    pub fn heard(&self, pods: u64) {
        let slices = self.mark();
        in_force(NICS[1], &[("pods", pods), ("endpointslices", slices)].into());
        NICS[1].settle();
    }

    fn mark(&self) -> u64 {
        let mark = 1 + self.marks.fetch_add(1, Ordering::Relaxed);
        let ip = format!("198.51.100.{mark}");
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{EVIL}/endpointslices");
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": MARKER, "labels": {"kubernetes.io/service-name": MARKER}},
            "endpoints": [{"addresses": [ip]}], "ports": [{"port": PORT, "protocol": "TCP"}]});
        let made = if mark == 1 {
            self.api.create(&slices, &slice)
        } else {
            self.api.patch(&format!("{slices}/{MARKER}"), &json!({"endpoints": [{"addresses": [ip]}]}))
        };
        until("the controller has heard of the slice", PATIENCE, || {
            let rows = northbound();
            if rows.iter().any(|it| it.contains(&ip)) { Ok(()) } else { Err(format!("{rows:?}")) }
        });
        tests::cluster::version(&made)
    }

    /// What must stay as it is.
    pub fn state(&self) -> Seen {
        NICS[1].settle();
        let attachments = self.api.list("/apis/drawbridge.dev/v1alpha1/podattachments");
        let others = attachments.iter().filter(|it| it["spec"]["nodeName"] == "host2");
        let range = self.api.get("/apis/drawbridge.dev/v1alpha1/noderanges/host2").unwrap();
        Seen {
            nic: State::of(NICS[1]),
            northbound: northbound().into_iter().filter(|it| !it.contains("198.51.100.")).collect(),
            confirmed: range["status"]["ranges"].clone(),
            attachments: others
                .map(|it| (it["metadata"]["name"].to_string(), it["status"]["ips"].clone()))
                .collect(),
        }
    }

    /// Who looks at what the other NIC says of policy reads this.
    pub fn reported(wanted: &[&str]) {
        until(&format!("{:?} reports {wanted:?}", NICS[1]), PATIENCE, || {
            let said = reports(NICS[1])?;
            if wanted.iter().all(|it| said.iter().any(|said| said.contains(it))) {
                println!("  NIC 2 reports: {said:?}");
                Ok(())
            } else {
                Err(format!("{said:?}"))
            }
        });
    }
}

fn reports(nic: Nic) -> Result<Vec<String>, String> {
    let said = policy_of(nic)?;
    let all = said["reports"].as_array().into_iter().flatten();
    Ok(all.filter_map(|it| it.as_str().map(str::to_owned)).collect())
}

/// A line for each row, in no order.
fn northbound() -> BTreeSet<String> {
    let mut arguments = vec!["ovn-nbctl", "--timeout=60", "--no-leader-only", "--format=csv"];
    let columns: Vec<String> = NORTHBOUND.iter().map(|(_, columns)| format!("--columns={columns}")).collect();
    for ((table, _), columns) in NORTHBOUND.iter().zip(&columns) {
        arguments.extend(["--", columns, "list", table]);
    }
    place("central", &arguments).ok().lines().map(str::to_owned).collect()
}
