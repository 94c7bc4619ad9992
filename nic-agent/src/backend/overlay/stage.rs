//! How far an attachment has come: what the answer to the host-shim, the PodAttachment and the log say is missing.

use crate::attachment::{self, Attachment, OverlayPort};
use crate::backend::{Missing, Who};
use crate::kernel::view::RepView;
use crate::ovs::plan::Conflict;
use crate::ovs::view::OvsView;
use crate::southbound::state::{ChassisState, PortState};

/// Which of an attachment's ports shall be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugging {
    Nothing,
    /// Its representor and the patch behind it, with nothing on the patch's other end: a representor out of every bridge
    /// would be a device of the NIC's own.
    Boundary,
    All,
}

/// `plugged`: the integration bridge has it; `behind`: its boundary has it.
pub fn plugging(port: Option<&PortState>, plugged: bool, behind: bool) -> Plugging {
    let Some(port) = port else { return if plugged { Plugging::All } else { Plugging::Nothing } };
    match (port.is_lost(), port.may_plug() || plugged) {
        (true, _) if behind => Plugging::Boundary,
        (false, true) => Plugging::All,
        _ => Plugging::Nothing,
    }
}

/// All that an attachment's readiness depends on, but for its CMS.
pub struct Sight<'a> {
    pub representor: Option<&'a RepView>,
    /// Open vSwitch has this very device.
    pub taken: bool,
    /// Or why it cannot be read.
    pub ovs: Result<&'a OvsView, &'a str>,
    pub port: &'a PortState,
    pub conflicts: &'a [Conflict],
    /// The boundary's flows are in, or why not.
    pub flows: Result<(), &'a str>,
    /// The pod's policy is known, or why not: then nothing passes.
    pub policy: Result<(), &'a str>,
    /// Flows wait for OVS to serve again after its restart.
    pub restoring: bool,
}

fn us(what: String) -> Missing {
    Missing { who: Who::Us, what }
}

fn ovn(what: String) -> Missing {
    Missing { who: Who::Ovn, what }
}

/// `Err` is the first thing that is missing.
pub fn ready(of: &Attachment, port: &OverlayPort, facts: &Sight<'_>) -> Result<(), Missing> {
    let vf = of.vf;
    let representor = facts.representor.ok_or_else(|| us(format!("{vf} has no representor")))?;
    let ovs = facts.ovs.map_err(|why| us(format!("Open vSwitch not connected: {why}")))?;
    logical(of, port, facts.port).map_or(Ok(()), |stage| Err(ovn(stage)))?;
    facts.conflicts.first().map_or(Ok(()), |conflict| Err(us(conflict.to_string())))?;
    let (edge, int) = (attachment::edge_patch(vf), attachment::int_patch(vf));
    for name in [&representor.name, &edge, &int] {
        ovs_port(ovs, name).map_or(Ok(()), |stage| Err(us(stage)))?;
    }
    if !facts.taken {
        let name = &representor.name;
        return Err(us(format!("port {name} was made again, and ovs-vswitchd has not taken the new one")));
    }
    facts.flows.map_err(|why| us(format!("flows not installed: {why}")))?;
    facts.policy.map_err(|why| us(format!("policy not known: {why}")))?;
    if facts.restoring {
        return Err(us("Open vSwitch is being restored".to_owned()));
    }
    installed(of, port, ovs, facts.port).map_or(Ok(()), |stage| Err(ovn(stage)))?;
    if !representor.up || representor.closed {
        return Err(us(format!("representor {} not open", representor.name)));
    }
    Ok(())
}

/// What a port of ours lacks in Open vSwitch.
fn ovs_port(ovs: &OvsView, name: &str) -> Option<String> {
    let Some(row) = ovs.interface(name) else {
        return Some(format!("port {name} not in Open vSwitch"));
    };
    match (&row.error, row.ofport) {
        (Some(error), _) => Some(format!("port {name} failed in Open vSwitch: {error}")),
        (None, None) => Some(format!("port {name} not taken by ovs-vswitchd: is it running?")),
        (None, Some(-1)) => Some(format!("port {name} failed in Open vSwitch")),
        (None, Some(given)) => row
            .ofport_request
            .filter(|wanted| *wanted != given)
            .map(|_| format!("port {name} has OpenFlow number {given}, not the one asked for")),
    }
}

/// `external_ids:ovn-installed`: ovn-controller has the port's flows in OVS (ovn-controller(8)).
fn installed(of: &Attachment, port: &OverlayPort, ovs: &OvsView, state: &PortState) -> Option<String> {
    let row = ovs.interface(&attachment::int_patch(of.vf));
    if row.and_then(|row| row.external_ids.get("ovn-installed")).is_some_and(|v| v == "true") {
        return None;
    }
    let port = &port.logical_port;
    Some(match state {
        PortState::Known { chassis: ChassisState::Unbound } => {
            format!("logical port {port} not bound by ovn-controller")
        }
        _ => format!("flows of logical port {port} not installed by ovn-controller"),
    })
}

/// What OVN lacks. A port whose identity is known from before does not wait for the southbound.
fn logical(of: &Attachment, of_network: &OverlayPort, state: &PortState) -> Option<String> {
    let OverlayPort { logical_port: port, binding, .. } = of_network;
    match state {
        PortState::Known { chassis: ChassisState::Other { name, requested: false } } => {
            Some(format!("logical port {port} is bound by chassis {name}"))
        }
        PortState::Known { chassis: ChassisState::Elsewhere { name } } => Some(format!(
            "logical port {port} is to be bound by chassis {name} (requested-chassis), not by this NIC's: let the CMS \
                 name this NIC's system-id or hostname"
        )),
        PortState::Known { chassis: ChassisState::Nowhere { requested, own, hostname } } => Some(format!(
            "logical port {port} is to be bound by a chassis {requested:?} (requested-chassis), and there is none; this \
             NIC's is {own:?}, hostname {hostname:?}: write chassis.hostname = {requested:?} into nic-agent.toml, or let the \
             CMS name {own:?}"
        )),
        PortState::OtherPod { uid } => {
            let own = of.owner.uid();
            Some(format!("logical port {port} is that of another pod of this name (uid {uid}, not {own})"))
        }
        PortState::Known { .. } => None,
        // Said by the southbound before.
        PortState::NoIdentity(_) if binding.is_some() => None,
        PortState::NoIdentity(error) => Some(format!("logical port {port} gives no identity: {error}")),
        PortState::Missing => Some(format!("logical port {port} is not in the southbound")),
        _ if binding.is_some() => None,
        PortState::Disconnected { why } => Some(format!("OVN southbound not connected: {why}")),
        PortState::Asking => Some(format!("logical port {port} not yet answered by the southbound")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_port_leaves_ovn_and_stays_behind_its_boundary() {
        let known = |chassis| PortState::Known { chassis };
        let lost = [
            PortState::OtherPod { uid: "u2".to_owned() },
            known(ChassisState::Elsewhere { name: "nic2".to_owned() }),
            known(ChassisState::Other { name: "nic2".to_owned(), requested: false }),
        ];
        for port in &lost {
            for plugged in [true, false] {
                assert_eq!(plugging(Some(port), plugged, true), Plugging::Boundary, "{port:?}");
                assert_eq!(plugging(Some(port), plugged, false), Plugging::Nothing, "{port:?}");
            }
        }
        let ours = [
            known(ChassisState::Unbound),
            known(ChassisState::Ours),
            known(ChassisState::Other { name: "nic2".to_owned(), requested: true }),
            PortState::Asking,
            PortState::Disconnected { why: String::new() },
        ];
        for port in &ours {
            assert_eq!(plugging(Some(port), false, false), Plugging::All, "{port:?}");
            assert_eq!(plugging(Some(port), true, true), Plugging::All, "{port:?}");
        }
        // What OVN takes away for a moment is not torn down, and not made before OVN has it.
        for (plugged, wanted) in [(true, Plugging::All), (false, Plugging::Nothing)] {
            assert_eq!(plugging(Some(&PortState::Missing), plugged, plugged), wanted);
            assert_eq!(plugging(None, plugged, plugged), wanted);
        }
    }
}
