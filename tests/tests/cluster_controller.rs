//! The cluster's controller at a real API server, with the rights that its manifest gives it, and a real northbound.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../nic-agent/ovsdb/tests/session/common/mod.rs"]
mod common;
#[path = "cluster_controller/taints.rs"]
mod taints;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster_controller::app::{App, Config};
use cluster_controller::cluster::object::VfResources;
use cluster_controller::lease::Timing;
use cluster_controller::ranges::Allocation;
use cluster_controller::settings::{RouterAddress, Settings};
use cluster_controller::taint;
use common::{Server, options};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use ovsdb_session::rows::northbound::DATABASE;
use ovsdb_session::{Atom, Condition, Datum, Op, Session};
use serde_json::{Value, json};
use tests::{
    control_plane::{ControlPlane, Program},
    patience, until,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_mins(2);

struct Bench {
    plane: ControlPlane,
    northbound: Server,
    session: Session,
    account: PathBuf,
    runtime: Runtime,
}

/// One of the two copies.
struct Copy {
    task: JoinHandle<()>,
    cancel: Box<dyn Fn()>,
}

impl Bench {
    fn start() -> Self {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes");
        let plane = ControlPlane::start();
        for manifest in ["crds", "cluster-controller.yaml"] {
            plane.kubectl(&["apply", "-f", packaging.join(manifest).to_str().unwrap()]).ok();
        }
        plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).ok();
        until("pods may be made", PATIENCE, || {
            let tried = plane.kubectl(&["get", "serviceaccount", "default"]);
            if tried.is_ok() { Ok(()) } else { Err(tried.stderr) }
        });
        let groups =
            ["system:serviceaccounts", "system:serviceaccounts:drawbridge-system", "system:authenticated"];
        let account =
            plane.kubeconfig_for("system:serviceaccount:drawbridge-system:cluster-controller", &groups);
        let runtime = Runtime::new().unwrap();
        let northbound = Server::start("ovn-nb", &[]);
        let session = runtime.block_on(northbound.session());
        Self { plane, northbound, session, account, runtime }
    }

    fn copy(&self, identity: &str) -> Copy {
        let config = Config {
            settings: Settings {
                router_address: RouterAddress::First,
                mtu: "1400".parse().unwrap(),
                routes: Vec::new(),
                allocation: Allocation::new(
                    ["10.244.0.0/16", "fd00:10:244::/48"].map(|it| it.parse().unwrap()).to_vec(),
                    vec!["10.96.0.0/16".parse().unwrap()],
                ),
                copp_rate: "500".parse().unwrap(),
                services: cluster_controller::settings::Limits::default(),
            },
            resources: VfResources(vec!["drawbridge.dev/vf".to_owned()]),
            northbound: options(self.northbound.unix()),
            listen: "127.0.0.1:0".parse().unwrap(),
            lease_namespace: "drawbridge-system".to_owned(),
            lease_name: "cluster-controller".to_owned(),
            identity: identity.to_owned(),
            timing: Timing {
                duration: Duration::from_secs(6),
                renew: Duration::from_secs(4),
                retry: Duration::from_millis(500),
            },
            taints: taint::Timing {
                silence: patience(Duration::from_secs(20)),
                settle_bad: Duration::from_secs(1),
                settle_good: Duration::from_secs(1),
            },
        };
        let app = self.runtime.block_on(async {
            let file = Kubeconfig::read_from(&self.account).unwrap();
            let kube =
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
            App::build(config, Client::try_from(kube).unwrap()).await.unwrap()
        });
        let token = app.canceller();
        Copy { task: self.runtime.spawn(app.run()), cancel: Box::new(move || token.cancel()) }
    }

    /// A column of all rows of a table, as text, in order.
    fn column(&self, table: &str, column: &str) -> Vec<String> {
        let select = vec![Op::select(table).into()];
        let results = self.runtime.block_on(self.session.transact(DATABASE, select)).unwrap();
        let text = |datum: &Datum| {
            if let Some(text) = datum.as_str() {
                return text.to_owned();
            }
            let pairs = datum.pairs().map(|(key, value)| {
                format!("{}={}", key.as_str().unwrap_or_default(), Atom::as_str(value).unwrap_or_default())
            });
            pairs.collect::<Vec<_>>().join(" ")
        };
        let mut texts: Vec<String> =
            results[0].rows().iter().map(|row| text(row.get(column).unwrap())).collect();
        texts.sort();
        texts
    }

    #[track_caller]
    fn becomes(&self, what: &str, table: &str, column: &str, wanted: &[&str]) {
        until(what, PATIENCE, || match self.column(table, column) {
            now if now == wanted => Ok(()),
            now => Err(format!("{now:?}")),
        });
    }

    fn wipe(&self) {
        let tables =
            ["Logical_Switch", "Logical_Router", "Load_Balancer", "Load_Balancer_Group", "DHCP_Options"];
        let deletes =
            tables.into_iter().map(|table| Op::delete(table).when(Condition::Constant(true)).into());
        self.runtime.block_on(self.session.transact(DATABASE, deletes.collect())).unwrap();
    }

    fn apply(&self, object: &Value) {
        self.plane.apply(&object.to_string());
    }

    fn leader(&self) -> String {
        let arguments = [
            "-n",
            "drawbridge-system",
            "get",
            "lease",
            "cluster-controller",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ];
        self.plane.kubectl(&arguments).stdout
    }
}

fn pod(name: &str, node: &str, vf: bool) -> Value {
    let limits = if vf { json!({"drawbridge.dev/vf": "1"}) } else { json!({}) };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none", "resources": {"limits": limits}}]},
    })
}

#[test]
fn the_northbound_follows_the_api() {
    let bench = Bench::start();
    let first = bench.copy("first");
    until("it leads", PATIENCE, || if bench.leader() == "first" { Ok(()) } else { Err(bench.leader()) });
    let second = bench.copy("second");

    for n in 1..=2 {
        let cidrs = json!([format!("10.244.{n}.0/24"), format!("fd00:10:244:{n}::/64")]);
        bench.apply(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("server{n}")},
            "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        }));
    }
    bench.apply(&pod("web-0", "server1", true));
    bench.apply(&pod("web-1", "server2", true));
    bench.apply(&pod("plain", "server2", false));
    // A server that takes a longer prefix of another's for its own, or the same: it is told, and gets nothing.
    for (name, cidr) in [("longer", "10.244.2.0/29"), ("same", "10.244.2.0/24")] {
        bench.becomes("server2 has its range", "Logical_Switch", "name", &["server1", "server2"]);
        bench.apply(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        }));
        bench.apply(&pod(&format!("of-{name}"), name, true));
        until("it is refused by name", PATIENCE, || {
            let path = "jsonpath={.status.conditions[?(@.type=='Confirmed')].status} {.status.conditions[0].message}";
            let said = bench.plane.kubectl(&["get", "noderange", name, "-o", path]).stdout;
            if said.starts_with("False") && said.contains(cidr) { Ok(()) } else { Err(said) }
        });
    }
    let ranges =
        bench.plane.kubectl(&["get", "noderange", "server2", "-o", "jsonpath={.status.ranges}"]).ok();
    assert_eq!(ranges, r#"["10.244.2.0/24","fd00:10:244:2::/64"]"#);
    assert_eq!(bench.column("Logical_Switch", "name"), ["server1", "server2"]);
    // An operator decides for it.
    let moved = r#"{"spec": {"ranges": ["10.244.7.0/28"]}}"#;
    bench.plane.kubectl(&["patch", "noderange", "longer", "--type=merge", "-p", moved]).ok();
    bench.becomes(
        "it has what the operator says",
        "Logical_Switch",
        "name",
        &["longer", "server1", "server2"],
    );
    for name in ["longer", "same"] {
        let pod = format!("of-{name}");
        bench.plane.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"]).ok();
        bench.plane.kubectl(&["delete", "node", name]).ok();
    }
    bench.becomes("it is gone with its Node", "Logical_Switch", "name", &["server1", "server2"]);
    until("what admission is told holds the rest", PATIENCE, || {
        let said = bench.plane.kubectl(&[
            "-n",
            "drawbridge-system",
            "get",
            "configmap",
            "drawbridge-node-ranges",
            "-o",
            "jsonpath={.data}",
        ]);
        let wanted = json!({
            "_cluster": "10.244.0.0/16,fd00:10:244::/48",
            "server1": "10.244.1.0/24,fd00:10:244:1::/64;", "server2": "10.244.2.0/24,fd00:10:244:2::/64;",
        });
        match serde_json::from_str::<Value>(&said.stdout) {
            Ok(now) if now == wanted => Ok(()),
            _ => Err(format!("{said:?}")),
        }
    });
    let ports = ["default_web-0", "default_web-1", "stor-server1", "stor-server2"];
    bench.becomes("pods with VFs have ports", "Logical_Switch_Port", "name", &ports);
    bench.becomes("nodes have switches", "Logical_Switch", "name", &["server1", "server2"]);

    // The endpoints are the controller manager's: it takes them from the pods' statuses.
    bench.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.7.7", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.244.1.5", "podIPs": [{"ip": "10.244.1.5"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let patch = ["patch", "pod", "web-0", "--subresource=status", "--type=merge", "-p"];
    bench.plane.kubectl(&[&patch[..], &[&status.to_string()]].concat()).ok();
    until("the Service has its endpoint", PATIENCE, || {
        let now = bench.column("Load_Balancer", "vips");
        if now.iter().any(|vips| vips == "10.96.7.7:80=10.244.1.5:8080") {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });

    // A pod that is gone, and one that is finished, have no port any more.
    bench.plane.kubectl(&["delete", "pod", "web-1", "--force", "--grace-period=0"]).ok();
    bench.becomes(
        "the deleted pod's port is gone",
        "Logical_Switch_Port",
        "name",
        &[ports[0], ports[2], ports[3]],
    );
    bench.plane.kubectl(&[&patch[..5], &["-p", r#"{"status": {"phase": "Succeeded"}}"#]].concat()).ok();
    bench.becomes("the finished pod's port is gone", "Logical_Switch_Port", "name", &ports[2..]);

    // What its NIC's agent has reported of a running pod: a northbound that is lost does not cost it its address. While
    // nothing is lost, it is OVN that gives addresses.
    bench.apply(&pod("web-2", "server1", true));
    let uid = bench.plane.kubectl(&["get", "pod", "web-2", "-o", "jsonpath={.metadata.uid}"]).stdout;
    bench.apply(&json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "PodAttachment",
        "metadata": {"name": "web-2-eth0", "namespace": "default"},
        "spec": {"pod": {"name": "web-2", "uid": uid}, "interface": "eth0", "nodeName": "server1", "vf": {"pf": 0, "vf": 2}},
    }));
    let seen = json!({"status": {
        "logicalPort": "default_web-2", "mac": "0a:00:00:00:00:07", "ips": ["10.244.1.7", "fd00:10:244:1::7"],
    }});
    let patch = ["patch", "podattachment", "web-2-eth0", "--subresource=status", "--type=merge", "-p"];
    bench.plane.kubectl(&[&patch[..], &[&seen.to_string()]].concat()).ok();
    let had = "0a:00:00:00:00:07 10.244.1.7 fd00:10:244:1::7";
    let keeps_it = |when: &str| {
        until(when, PATIENCE, || match bench.column("Logical_Switch_Port", "addresses") {
            now if now.iter().any(|it| it == had) => Ok(()),
            now => Err(format!("{now:?}")),
        });
    };
    bench.becomes("it has a port", "Logical_Switch_Port", "name", &["default_web-2", ports[2], ports[3]]);
    bench.becomes("which asks OVN", "Logical_Switch_Port", "addresses", &["dynamic", "router", "router"]);

    // The API is gone: what is written stands. It comes back: what was lost meanwhile is written again.
    bench.plane.stop(Program::ApiServer);
    assert_eq!(bench.column("Logical_Switch", "name"), ["server1", "server2"]);
    bench.wipe();
    bench.plane.start_again(Program::ApiServer);
    bench.becomes("it is written again", "Logical_Switch", "name", &["server1", "server2"]);
    keeps_it("the port has it again");

    // The leader ends, and gives the Lease up; or is killed, and it runs out.
    let (leader, other, other_name) =
        if bench.leader() == "first" { (first, second, "second") } else { (second, first, "first") };
    (leader.cancel)();
    bench.runtime.block_on(leader.task).unwrap();
    until("the other leads", PATIENCE, || {
        if bench.leader() == other_name { Ok(()) } else { Err(bench.leader()) }
    });
    bench.plane.kubectl(&["delete", "node", "server2"]).ok();
    bench.becomes("the other writes", "Logical_Switch", "name", &["server1"]);
    other.task.abort();
    let _third = bench.copy("third");
    bench.plane.kubectl(&["delete", "node", "server1"]).ok();
    bench.becomes("the third writes", "Logical_Switch", "name", &[]);
    assert_eq!(bench.leader(), "third");
}
