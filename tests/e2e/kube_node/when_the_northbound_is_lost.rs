//! The northbound is gone, with all that was in it, and is made again empty. By their names these tests are the last: ports that
//! are made from then on have another MAC than before, and a server whose port is made again keeps the link-local address of the
//! old one.

use std::net::IpAddr;

use tests::cluster::{Namespace, PATIENCE};
use tests::command::{daemon, sh};
use tests::{Nic, place, until};

use crate::crowd::Crowd;
use crate::{API, NAMESPACE, PODS, Server, health, isolated, pod, ready};

fn nbctl(arguments: &[&str]) -> Result<String, String> {
    let said = place("central", &[&["ovn-nbctl", "--timeout=60"], arguments].concat());
    if said.is_ok() { Ok(said.stdout.trim().to_owned()) } else { Err(said.stderr) }
}

/// OVN makes it at random with each database, and MACs and IPv6 addresses from it.
fn mac_prefix() -> Result<String, String> {
    let said = nbctl(&["--if-exists", "get", "NB_Global", ".", "options:mac_prefix"])?;
    if said.is_empty() { Err("northd has made none yet".to_owned()) } else { Ok(said) }
}

/// Of the namespace's pods.
fn ports() -> Result<usize, String> {
    let names = nbctl(&["--bare", "--columns=name", "find", "Logical_Switch_Port"])?;
    Ok(names.split_whitespace().filter(|name| name.starts_with(&format!("{NAMESPACE}_"))).count())
}

/// Whatever runs keeps its MAC and addresses, and a pod that waited for one meanwhile gets none of theirs. By its name that
/// pod is the first. Returns how often the pod that ran was started again.
fn lose_the_northbound() -> u64 {
    let server = Server(Nic(1));
    let good = health("good").unwrap();
    let link = || server.shown(&["link", "show", "dev", &server.device()])[0]["address"].to_string();
    let (addresses, mac, prefix) = (server.addresses(), link(), mac_prefix().unwrap());
    let all = ports().unwrap();
    println!("before: {addresses:?} {mac} {prefix} {:?}, {all} ports", good.addresses);

    for name in ["northd", "nb"] {
        daemon("central", name, "stop");
    }
    let remake = "rm -f /run/central/ovnnb.db /run/central/.ovnnb.db.~lock~; \
                  ovsdb-tool create /run/central/ovnnb.db /usr/share/ovn/ovn-nb.ovsschema";
    sh("central", remake).ok();
    API.create(PODS, &pod("a-new", 8080, 8080));
    for name in ["nb", "northd"] {
        daemon("central", name, "start");
    }
    let again = until("northd has begun anew", PATIENCE, mac_prefix);
    assert_ne!(again, prefix, "the new database makes other MACs");
    let port = format!("{NAMESPACE}_good");
    let wanted: Vec<String> = good.addresses.iter().map(ToString::to_string).collect();
    until("the running pod's port is as it was", PATIENCE, || {
        let said = nbctl(&["lsp-get-addresses", &port])?;
        if wanted.iter().all(|ip| said.contains(ip.as_str())) { Ok(()) } else { Err(said) }
    });
    let new = ready("a-new");
    let taken: Vec<IpAddr> = good.addresses.iter().chain(&addresses).copied().collect();
    assert!(new.addresses.iter().all(|ip| !taken.contains(ip)), "{new:?} and {taken:?}");
    server.attached();
    assert_eq!((server.addresses(), link()), (addresses, mac.clone()));
    let bound = nbctl(&["lsp-get-addresses", &format!("k8s-{}", server.place())]).unwrap();
    assert!(addresses.iter().all(|ip| bound.contains(&ip.to_string())), "{bound}");
    // Who asks again is told the same.
    server.dhcp_again();
    server.is_configured();
    for (pod, ips) in [("good", &good.addresses), ("a-new", &new.addresses)] {
        for ip in ips {
            until(&format!("the server reaches {pod} at {ip}"), PATIENCE, || {
                if server.fetch(*ip).as_deref() == Some(pod) { Ok(()) } else { Err(String::new()) }
            });
        }
    }
    let pods = API.list(PODS).len();
    until("all pods have ports again", PATIENCE, || match ports()? {
        now if now == pods => Ok(()),
        now => Err(format!("{now} of {pods}")),
    });
    let now = ready("good");
    assert_eq!(now.addresses, good.addresses);
    println!("after: {addresses:?} {mac} {again} {:?}, and the new pod {:?}", now.addresses, new.addresses);
    now.restarts - good.restarts
}

fn with_a_pod(then: impl FnOnce()) {
    let server = Server(Nic(1));
    server.attached();
    server.is_configured();
    let _namespaces = Namespace::create(&API, NAMESPACE);
    isolated("good");
    then();
}

#[test]
fn whatever_runs_keeps_what_it_has() {
    with_a_pod(|| assert_eq!(lose_the_northbound(), 0, "kubelet's probes went on"));
}

/// The one that runs is by its name the last of all, in the second transaction. Until that is written nothing passes, and how
/// long that takes follows the machine: on a slow one kubelet starts the container again.
#[test]
fn also_with_more_ports_than_one_transaction_writes() {
    with_a_pod(|| {
        let crowd = Crowd::gather(&API, PODS, 3, 200);
        until("the northbound has the crowd's ports", PATIENCE, || match ports()? {
            few if few < 600 => Err(format!("{few}")),
            _ => Ok(()),
        });
        let restarts = lose_the_northbound();
        println!("the container was started again {restarts} times");
        drop(crowd);
    });
}
