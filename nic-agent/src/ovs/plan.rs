//! What must change in the Open_vSwitch database, as a pure function. All steps of one plan go into one transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::datapath::Unsupported;
use super::spec::{Bridge, BridgeSpec, OvsSpec, PortSpec, is_ours};
use super::view::{BridgeView, InterfaceView, OvsView, StringMap};

/// One change. Maps are changed by key: what others keep there stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum OvsStep {
    SetRoot { external_ids: MapChange, other_config: MapChange },
    AddBridge(BridgeSpec),
    MendBridge(BridgeSpec),
    AddPort { bridge: String, port: PortSpec },
    RemovePort { bridge: String, port: String },
    MendInterface { port: PortSpec, external_ids: MapChange },
}

impl OvsStep {
    /// The port that is added or taken away.
    pub fn moved(&self) -> Option<&str> {
        match self {
            Self::AddPort { port, .. } => Some(&port.name),
            Self::RemovePort { port, .. } => Some(port),
            Self::SetRoot { .. } | Self::AddBridge(_) | Self::MendBridge(_) | Self::MendInterface { .. } => {
                None
            }
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MapChange {
    pub set: StringMap,
    pub remove: BTreeSet<String>,
}

impl MapChange {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    fn between(wanted: impl Iterator<Item = (String, Option<String>)>, have: &StringMap) -> Self {
        let mut change = Self::default();
        for (key, value) in wanted {
            match value {
                Some(value) if have.get(&key) != Some(&value) => {
                    change.set.insert(key, value);
                }
                None if have.contains_key(&key) => {
                    change.remove.insert(key);
                }
                _ => {}
            }
        }
        change
    }
}

/// Something of others stands in the way; nothing of theirs is touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("bridge {0} exists and is not ours: delete it, or name another in edge.bridge")]
    ForeignBridge(String),
    #[error("port {port} is on bridge {bridge}, which is not ours: take it out there")]
    ForeignPort { port: String, bridge: String },
    #[error("bridge {0} does not exist: is ovn-controller running?")]
    NoIntegrationBridge(String),
    /// Nothing is planned then.
    #[error(transparent)]
    Datapath(#[from] Unsupported),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OvsPlan {
    pub steps: Vec<OvsStep>,
    pub conflicts: Vec<Conflict>,
}

pub fn plan(spec: &OvsSpec, view: &OvsView) -> OvsPlan {
    let mut plan = OvsPlan::default();
    let owned = |keys: &BTreeMap<String, Option<String>>| keys.clone().into_iter();
    let external_ids = MapChange::between(owned(&spec.external_ids), &view.external_ids);
    let other_config = MapChange::between(owned(&spec.other_config), &view.other_config);
    if !external_ids.is_empty() || !other_config.is_empty() {
        plan.steps.push(OvsStep::SetRoot { external_ids, other_config });
    }
    match view.bridges.get(&spec.edge.name) {
        None => plan.steps.push(OvsStep::AddBridge(spec.edge.clone())),
        Some(bridge) if !is_ours(&bridge.external_ids) => {
            plan.conflicts.push(Conflict::ForeignBridge(spec.edge.name.clone()));
            return plan;
        }
        Some(bridge) if !is_as_specified(&spec.edge, bridge) => {
            plan.steps.push(OvsStep::MendBridge(spec.edge.clone()));
        }
        Some(_) => {}
    }
    remove_strays(spec, view, &mut plan);
    for port in &spec.ports {
        plan_port(spec, view, port, &mut plan);
    }
    plan
}

fn contains(have: &StringMap, wanted: &StringMap) -> bool {
    wanted.iter().all(|(k, v)| have.get(k) == Some(v))
}

fn is_as_specified(spec: &BridgeSpec, bridge: &BridgeView) -> bool {
    let local = bridge.ports.get(&spec.name).and_then(|p| p.interface.as_ref());
    bridge.fail_mode.as_deref() == Some(BridgeSpec::FAIL_MODE)
        && bridge.protocols == BridgeSpec::protocols()
        && bridge.datapath_type == BridgeSpec::DATAPATH_TYPE
        && contains(&bridge.other_config, &BridgeSpec::other_config())
        && local.is_some_and(|l| contains(&l.external_ids, &spec.local_external_ids()))
}

/// On `br-edge`, which is ours as a whole, every port but its own; elsewhere what bears our mark.
fn remove_strays(spec: &OvsSpec, view: &OvsView, plan: &mut OvsPlan) {
    let wanted: BTreeSet<&str> = spec.ports.iter().map(|p| p.name.as_str()).collect();
    for (name, bridge) in &view.bridges {
        for (port, row) in &bridge.ports {
            let ours = if *name == spec.edge.name {
                *port != spec.edge.name
            } else {
                row.interface.as_ref().is_some_and(|i| is_ours(&i.external_ids))
            };
            if ours && !wanted.contains(port.as_str()) {
                plan.steps.push(OvsStep::RemovePort { bridge: name.clone(), port: port.clone() });
            }
        }
    }
}

fn plan_port(spec: &OvsSpec, view: &OvsView, port: &PortSpec, plan: &mut OvsPlan) {
    let bridge = match port.bridge {
        Bridge::Edge => &spec.edge.name,
        Bridge::Integration => &spec.integration,
    };
    if port.bridge == Bridge::Integration && !view.bridges.contains_key(bridge) {
        let conflict = Conflict::NoIntegrationBridge(bridge.clone());
        if !plan.conflicts.contains(&conflict) {
            plan.conflicts.push(conflict);
        }
        return;
    }
    let add = || OvsStep::AddPort { bridge: bridge.clone(), port: port.clone() };
    let Some(holder) = view.bridge_of(&port.name) else {
        plan.steps.push(add());
        return;
    };
    let replace = |plan: &mut OvsPlan| {
        plan.steps.push(OvsStep::RemovePort { bridge: holder.to_owned(), port: port.name.clone() });
        plan.steps.push(add());
    };
    match view.interface(&port.name) {
        // A stray on br-edge under one of our names, as a bond or otherwise malformed, is ours to replace.
        None if holder == spec.edge.name => replace(plan),
        None => {
            plan.conflicts.push(Conflict::ForeignPort { port: port.name.clone(), bridge: holder.to_owned() });
        }
        Some(row) if holder != spec.edge.name && !is_ours(&row.external_ids) => {
            plan.conflicts.push(Conflict::ForeignPort { port: port.name.clone(), bridge: holder.to_owned() });
        }
        Some(row)
            if holder != bridge || row.kind != port.kind || !port.is_same_attachment(&row.external_ids) =>
        {
            replace(plan);
        }
        Some(row) => {
            let external_ids = MapChange::between(
                port.external_ids.iter().map(|(k, v)| (k.clone(), Some(v.clone()))),
                &row.external_ids,
            );
            if !external_ids.is_empty() || row.options != port.options || !has_ofport(port, row) {
                plan.steps.push(OvsStep::MendInterface { port: port.clone(), external_ids });
            }
        }
    }
}

fn has_ofport(port: &PortSpec, row: &InterfaceView) -> bool {
    port.ofport.is_none_or(|wanted| row.ofport_request == Some(i64::from(wanted.get())))
}

#[cfg(test)]
mod tests;
