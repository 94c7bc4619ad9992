//! Whom a cluster's objects are believed from, read naively from docs/security.md: what is left of them when every word
//! that a node writes of others is taken out. Shares no code with the agent.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{list, text};

/// Addresses by the uids of the pods that have them: what a NIC holds itself.
pub type Held = BTreeMap<String, Vec<IpAddr>>;

/// "1.2.3.4", and nothing that other programs read otherwise.
fn address(said: &Value) -> Option<IpAddr> {
    let said = text(said);
    let ip: IpAddr = said.parse().ok()?;
    let as_written = ip.is_ipv6() || ip.to_string() == said;
    (as_written && !(said.contains(':') && said.contains('.'))).then_some(ip)
}

fn addresses(said: &Value) -> Vec<IpAddr> {
    list(said).iter().filter_map(address).collect()
}

fn said_ips(pod: &Value) -> Vec<IpAddr> {
    list(&pod["status"]["podIPs"]).iter().filter_map(|it| address(&it["ip"])).collect()
}

fn is_mirror(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    metadata["annotations"].get("kubernetes.io/config.mirror").is_some()
        || list(&metadata["ownerReferences"])
            .iter()
            .any(|it| it["kind"] == "Node" && it["apiVersion"] == "v1")
}

fn of_kind<'a>(items: &'a [Value], kind: &'static str) -> impl Iterator<Item = &'a Value> {
    items.iter().filter(move |it| it["kind"] == kind)
}

/// Of this node, if anything is confirmed or refused. What was confirmed of another Node of its name is nothing.
fn confirmed<'a>(items: &'a [Value], node: &Value) -> Option<&'a Value> {
    let status = of_kind(items, "NodeRange").find(|it| it["metadata"]["name"] == *node)?.get("status")?;
    let node = of_kind(items, "Node").find(|it| it["metadata"]["name"] == *node);
    let is_of_it = node.is_some_and(|it| it["metadata"]["uid"] == status["nodeUid"]);
    Some(if is_of_it { status } else { &Value::Null })
}

fn in_ranges(status: &Value, ip: IpAddr) -> bool {
    list(&status["ranges"]).iter().any(|it| text(it).parse::<IpNet>().unwrap().contains(&ip))
}

/// The addresses that are this pod's, to the NIC of the node `own`, which holds `held`.
fn believed_ips(items: &[Value], pod: &Value, own: &str, held: &Held) -> Vec<IpAddr> {
    let node = &pod["spec"]["nodeName"];
    let known = confirmed(items, node);
    let said = said_ips(pod);
    let is_finished = ["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"]));
    if is_mirror(pod) || is_finished {
        return Vec::new();
    }
    if pod["spec"]["hostNetwork"] == true {
        let of_host = known.map(|it| addresses(&it["addresses"])).unwrap_or_default();
        return said.into_iter().filter(|ip| of_host.contains(ip)).collect();
    }
    let uid = &pod["metadata"]["uid"];
    if *node == own {
        return held.get(text(uid)).cloned().unwrap_or_default();
    }
    let by_nic: Vec<&Value> = of_kind(items, "PodAttachment")
        .filter(|it| it["metadata"]["namespace"] == pod["metadata"]["namespace"])
        .filter(|it| it["spec"]["pod"]["name"] == pod["metadata"]["name"] && it["spec"]["pod"]["uid"] == *uid)
        .filter(|it| it["spec"]["nodeName"] == *node)
        .collect();
    if !by_nic.is_empty() {
        let ips = by_nic.iter().flat_map(|it| addresses(&it["status"]["ips"]));
        return ips.filter(|ip| known.is_none_or(|known| in_ranges(known, *ip))).collect();
    }
    if of_kind(items, "NicNode").any(|it| it["spec"]["nodeName"] == *node) {
        return Vec::new();
    }
    said.into_iter().filter(|ip| known.is_some_and(|known| in_ranges(known, *ip))).collect()
}

/// The same cluster, as somebody would write it down who knows the truth: every pod with the addresses that are its own,
/// mirror pods not at all, endpoints where their pods are.
pub fn believed(items: &[Value], own: &str, held: &Held) -> Vec<Value> {
    let truth = |item: &Value| match text(&item["kind"]) {
        "Pod" if is_mirror(item) => None,
        "Pod" => {
            let mut pod = item.clone();
            let ips = believed_ips(items, item, own, held);
            pod["status"]["podIPs"] = ips.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
            Some(pod)
        }
        "EndpointSlice" => {
            let mut slice = item.clone();
            let endpoints = list(&item["endpoints"]).iter().map(|it| {
                let mut endpoint = it.clone();
                let ips = endpoint_ips(items, it, own, held);
                endpoint["addresses"] = ips.iter().map(ToString::to_string).collect();
                endpoint
            });
            slice["endpoints"] = endpoints.collect();
            Some(slice)
        }
        _ => Some(item.clone()),
    };
    items.iter().filter_map(truth).collect()
}

fn endpoint_ips(items: &[Value], endpoint: &Value, own: &str, held: &Held) -> Vec<IpAddr> {
    // The others mean nothing.
    let said: Vec<IpAddr> = list(&endpoint["addresses"]).iter().take(1).filter_map(address).collect();
    let target = &endpoint["targetRef"];
    if target["kind"] != "Pod" {
        return said;
    }
    let is_it =
        |pod: &&Value| ["namespace", "name", "uid"].iter().all(|it| pod["metadata"][it] == target[it]);
    let Some(pod) = of_kind(items, "Pod").find(is_it) else { return Vec::new() };
    if !endpoint["nodeName"].is_null() && endpoint["nodeName"] != pod["spec"]["nodeName"] {
        return Vec::new();
    }
    let ips = believed_ips(items, pod, own, held);
    said.into_iter().filter(|ip| ips.contains(ip)).collect()
}
