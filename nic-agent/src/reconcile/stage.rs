//! How far an attachment has come: what the host-shim, `nic-agent status` and the log say is missing.

use crate::attachment::{self, Attachment};
use crate::ovs::plan::Conflict;
use crate::ovs::view::OvsView;
use crate::reconcile::links::RepView;
use crate::southbound::IdentityError;

/// What is known of a logical port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortState {
    /// The southbound cannot be asked.
    Disconnected { why: String },
    /// Asked, not answered.
    Asking,
    Missing,
    NoIdentity(IdentityError),
    Known { chassis: ChassisState },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChassisState {
    Unbound,
    Ours,
    /// Bound elsewhere; `requested` when the CMS asks for us all the same (`options:requested-chassis`).
    Other { name: String, requested: bool },
}

impl PortState {
    /// May our integration bridge claim the port? One that another chassis has bound is left there: two that claim it
    /// take it from each other for ever.
    pub fn may_plug(&self) -> bool {
        !matches!(
            self,
            Self::Known { chassis: ChassisState::Other { requested: false, .. } } | Self::Missing
        )
    }
}

/// All that an attachment's readiness depends on.
pub struct Facts<'a> {
    pub representor: Option<&'a RepView>,
    /// Or why it cannot be read.
    pub ovs: Result<&'a OvsView, &'a str>,
    pub port: &'a PortState,
    pub conflicts: &'a [Conflict],
    /// The boundary's flows are in, or why not.
    pub flows: Result<(), &'a str>,
    /// Flows wait for OVS to serve again after its restart.
    pub restoring: bool,
}

/// The first thing that is missing, or nothing.
pub fn missing(of: &Attachment, facts: &Facts<'_>) -> Option<String> {
    let (vf, port) = (of.claim.vf, &of.logical_port);
    let Some(representor) = facts.representor else {
        return Some(format!("{vf} has no representor"));
    };
    let ovs = match facts.ovs {
        Ok(ovs) => ovs,
        Err(why) => return Some(format!("Open vSwitch not connected: {why}")),
    };
    if let Some(stage) = logical(of, facts.port) {
        return Some(stage);
    }
    if let Some(conflict) = facts.conflicts.first() {
        return Some(conflict.to_string());
    }
    let (edge, int) = (attachment::edge_patch(vf), attachment::int_patch(vf));
    for name in [&representor.name, &edge, &int] {
        match ovs.interface(name) {
            None => return Some(format!("port {name} not in Open vSwitch")),
            Some(row) => match (&row.error, row.ofport) {
                (Some(error), _) => return Some(format!("port {name} failed in Open vSwitch: {error}")),
                (None, None) => return Some(format!("port {name} not taken by ovs-vswitchd: is it running?")),
                (None, Some(-1)) => return Some(format!("port {name} failed in Open vSwitch")),
                (None, Some(given)) => {
                    if row.ofport_request.is_some_and(|wanted| wanted != given) {
                        return Some(format!("port {name} has OpenFlow number {given}, not the one asked for"));
                    }
                }
            },
        }
    }
    if let Err(why) = facts.flows {
        return Some(format!("flows not installed: {why}"));
    }
    if facts.restoring {
        return Some("Open vSwitch is being restored".to_owned());
    }
    let installed = ovs.interface(&int).and_then(|row| row.external_ids.get("ovn-installed"));
    if installed.map(String::as_str) != Some("true") {
        return Some(match facts.port {
            PortState::Known { chassis: ChassisState::Unbound } => {
                format!("logical port {port} not bound by ovn-controller")
            }
            _ => format!("flows of logical port {port} not installed by ovn-controller"),
        });
    }
    if !representor.up || representor.closed {
        return Some(format!("representor {} not open", representor.name));
    }
    None
}

/// What OVN lacks. A port whose identity is known from before does not wait for the southbound.
fn logical(of: &Attachment, state: &PortState) -> Option<String> {
    let port = &of.logical_port;
    match state {
        PortState::Known { chassis: ChassisState::Other { name, requested: false } } => {
            Some(format!("logical port {port} is bound by chassis {name}"))
        }
        PortState::Known { .. } => None,
        PortState::NoIdentity(error) => Some(format!("logical port {port} gives no identity: {error}")),
        PortState::Missing => Some(format!("logical port {port} is not in the southbound")),
        _ if of.binding.is_some() => None,
        PortState::Disconnected { why } => Some(format!("OVN southbound not connected: {why}")),
        PortState::Asking => Some(format!("logical port {port} not yet answered by the southbound")),
    }
}
