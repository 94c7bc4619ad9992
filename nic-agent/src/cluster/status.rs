//! What the agent says of itself: `NicNode.status`.
//!
//! A pure function of the agent's state makes it; [`run`] writes it, level-triggered, by server-side apply on the status
//! subresource. Conditions, addresses and versions are written when they change; figures and the heartbeat with them, or
//! once a minute. Nothing waits for it: whatever the API does, the agent goes on.

use std::time::Duration;

use drawbridge_api::{
    Address, AddressType, Condition, ConditionStatus, ManagedPort, NicNodeStatus, OffloadFigures, Versions,
    VfCount, conditions as kinds,
};

use super::configuration::{Report, Verdict};
use super::machine::Machine;
use super::words::{few, status_of};
use crate::config::Config;
use crate::ovs::daemons::Daemons;
use crate::preflight::watch::Preflight;
use crate::published::{ManagementPort, Published};

mod preflight;
mod write;
pub use write::{Inputs, run};

/// A shim speaks when pods come and go, and when it is asked how it is: silence means nothing.
const HEARD: &str = "Heard";

/// Conditions that are not worth a write of their own: one changes with the traffic, the other as a server likes, and every
/// NIC watches these objects.
const AT_LEISURE: [&str; 2] = [kinds::OFFLOADED, kinds::NODE_BELIEVED];

/// All that the status is made of.
pub struct Facts<'a> {
    pub published: &'a Published,
    pub config: &'a Config,
    pub report: &'a Report,
    pub machine: &'a Machine,
    pub daemons: &'a Daemons,
    pub preflight: &'a Preflight,
    /// Has the server's shim asked for anything since the agent started?
    pub shim_heard: bool,
    /// `metadata.generation` as last seen.
    pub generation: Option<i64>,
}

/// `before` is what the API has; `now` is the time, RFC 3339.
pub fn status(facts: &Facts<'_>, before: &NicNodeStatus, now: &str) -> NicNodeStatus {
    let Facts { published, config, machine, daemons, .. } = facts;
    let conditions = conditions(facts).into_iter();
    let management = published.management.iter().flat_map(|it| &it.ips);
    // As long as there is to be one: what it had is what cluster-controller gives back after a loss of the northbound.
    let had = config.edge.management_port.and(before.management_port.as_ref());
    NicNodeStatus {
        observed_generation: facts.generation,
        last_heartbeat_time: Some(now.to_owned()),
        versions: Versions {
            agent: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ovs: published.health.ovs_version.as_ref().or(daemons.ovs.as_ref()).cloned(),
            ovn: daemons.ovn.clone(),
            kernel: machine.kernel.clone(),
            firmware: machine.firmware.clone(),
        },
        chassis: Some(config.chassis.system_id.clone()),
        serial: machine.serial.clone(),
        vfs: VfCount::new(published.attachments.len(), published.health.vfs),
        offload: figures(published),
        addresses: config
            .chassis
            .ovn_encap_ip
            .iter()
            .map(|ip| Address { kind: AddressType::Encapsulation, address: ip.to_string() })
            .chain(management.map(|ip| Address { kind: AddressType::Management, address: ip.to_string() }))
            .collect(),
        management_port: published.management.as_ref().and_then(managed).or_else(|| had.cloned()),
        conditions: conditions.map(|it| it.of(facts.generation).after(&before.conditions, now)).collect(),
    }
}

fn managed(port: &ManagementPort) -> Option<ManagedPort> {
    let ips = port.ips.iter().map(ToString::to_string);
    Some(ManagedPort { mac: port.mac?.to_string(), ips: ips.collect() })
}

/// What changes with the traffic, and is not worth a write of its own, is taken from `before`.
#[must_use]
pub fn without_figures(status: &NicNodeStatus, before: &NicNodeStatus) -> NicNodeStatus {
    let mut status = status.clone();
    status.last_heartbeat_time.clone_from(&before.last_heartbeat_time);
    status.offload = before.offload;
    for kind in AT_LEISURE {
        let Some(old) = before.conditions.iter().find(|it| it.kind == kind) else { continue };
        for new in status.conditions.iter_mut().filter(|it| it.kind == kind) {
            new.clone_from(old);
        }
    }
    status
}

fn figures(published: &Published) -> OffloadFigures {
    let pods = published.policy.pods.iter().map(|pod| &pod.offload);
    let all = pods.chain(published.policy.from_outside.values());
    let mut figures = OffloadFigures::default();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    for offload in all {
        figures.hardware_rules = figures.hardware_rules.saturating_add(count(offload.hardware));
        figures.software_rules = figures.software_rules.saturating_add(count(offload.software.len()));
    }
    figures
}

fn conditions(facts: &Facts<'_>) -> Vec<Condition> {
    let Facts { published, config, .. } = facts;
    let health = &published.health;
    let bad = |kind: &str, reason: &str, why: &str| Condition::new(kind, ConditionStatus::False, reason, why);
    let good =
        |kind: &str, reason: &str, what: &str| Condition::new(kind, ConditionStatus::True, reason, what);
    let ready = match (&health.representors, &health.ovs, &health.ovn, &health.cluster) {
        (Some(why), _, _, _) => bad(kinds::READY, "RepresentorsUnreadable", why),
        (_, Some(why), _, _) => bad(kinds::READY, "OVSNotReady", why),
        (_, _, Some(why), _) => bad(kinds::READY, "OVNNotConnected", why),
        (_, _, _, Some(why)) => bad(kinds::READY, "ClusterNotRead", why),
        _ => good(kinds::READY, "Ready", "a pod can be attached"),
    };
    let shim = if facts.shim_heard {
        good(kinds::HOST_SHIM_CONNECTED, HEARD, "the server's shim has asked, with the server's certificate")
    } else {
        let what =
            format!("nobody with a certificate of {} has asked since the start", config.node.host_identity);
        Condition::new(kinds::HOST_SHIM_CONNECTED, ConditionStatus::Unknown, "NotHeardYet", what)
    };
    let ovs = match &health.ovs {
        None => good(kinds::OVS_READY, "Ready", "the database answers and br-edge's flows are in"),
        Some(why) if health.datapath_refused => bad(kinds::OVS_READY, "DatapathNotSupported", why),
        Some(why) => bad(kinds::OVS_READY, "NotReady", why),
    };
    let ovn = match &health.ovn {
        None => good(kinds::OVN_CONNECTED, "Connected", "the southbound database answers"),
        Some(why) => bad(kinds::OVN_CONNECTED, "NotConnected", why),
    };
    let mut all = vec![
        ready,
        configured(facts.report),
        shim,
        ovs,
        ovn,
        enforced(published),
        offloaded(published, config),
        believed(published),
        preflight::condition(facts.preflight),
    ];
    all.extend(published.management.as_ref().map(|port| match &port.state {
        Ok(()) => {
            let what = format!("{} is attached; the server asks OVN for its address by DHCP", port.vf);
            good(kinds::MANAGEMENT_PORT, "Attached", &what)
        }
        Err(why) => bad(kinds::MANAGEMENT_PORT, "Waiting", why),
    }));
    all
}

fn configured(report: &Report) -> Condition {
    let Report { generation, verdict, .. } = report;
    let shown = generation.map_or_else(|| "the file alone".to_owned(), |it| format!("generation {it}"));
    let of = |status, reason: &str, what: String| Condition::new(kinds::CONFIGURED, status, reason, what);
    match verdict {
        Verdict::Pending => {
            of(ConditionStatus::Unknown, "Pending", "the spec has not been looked at yet".to_owned())
        }
        Verdict::InForce => of(ConditionStatus::True, "InForce", format!("{shown} is in force")),
        Verdict::NeedsRestart { paths } => of(
            ConditionStatus::False,
            "NeedsRestart",
            format!("in force but for {}: restart nic-agent", paths.join(", ")),
        ),
        Verdict::Refused { problems } => of(
            ConditionStatus::False,
            "Refused",
            format!("the last good configuration stays in force ({shown}); {}", problems.join("; ")),
        ),
    }
}

fn enforced(published: &Published) -> Condition {
    let pods = &published.policy.pods;
    let named = |keep: &dyn Fn(&crate::published::PodStatus) -> bool| {
        few(pods.iter().filter(|pod| keep(pod)).map(|pod| format!("{}/{}", pod.namespace, pod.name)))
    };
    let kind = kinds::POLICY_ENFORCED;
    if let Some(closed) = named(&|pod| pod.closed.is_some()) {
        let why = pods.iter().find_map(|pod| pod.closed.as_deref()).unwrap_or_default();
        let what = format!("nothing passes to or from {closed}: {why}");
        return Condition::new(kind, ConditionStatus::False, "PolicyUnknown", what);
    }
    if let Some(unsettled) = named(&|pod| !pod.settled) {
        let what = format!("connections that policy denies are being ended, of {unsettled}");
        return Condition::new(kind, ConditionStatus::False, "Settling", what);
    }
    let what = format!("of all {} attachments", pods.len());
    Condition::new(kind, ConditionStatus::True, "Enforced", what)
}

/// What others' pods never see, and an operator should.
fn believed(published: &Published) -> Condition {
    let of = |status, reason: &str, what: &str| Condition::new(kinds::NODE_BELIEVED, status, reason, what);
    let policy = &published.policy;
    if let Some(first) = policy.disbelieved.first() {
        let all: Vec<&str> = policy.disbelieved.iter().map(|it| it.what.as_str()).collect();
        return of(ConditionStatus::False, first.reason, &all.join("; "));
    }
    match &policy.source {
        None => of(ConditionStatus::Unknown, "ClusterNotRead", "the cluster's pods are not known yet"),
        Some(_) => {
            of(ConditionStatus::True, "Believed", "nothing that the server says of its pods is ignored")
        }
    }
}

fn offloaded(published: &Published, config: &Config) -> Condition {
    let figures = figures(published);
    let pods = published.policy.pods.iter().map(|pod| &pod.offload);
    let reasons = pods
        .chain(published.policy.from_outside.values())
        .flat_map(|offload| &offload.software)
        .map(|rule| rule.why.clone());
    status_of(
        kinds::OFFLOADED,
        config.chassis.hw_offload,
        (figures.hardware_rules, figures.software_rules),
        reasons,
    )
}

/// How often the heartbeat and the figures are written; a quarter more at most.
const HEARTBEAT: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
