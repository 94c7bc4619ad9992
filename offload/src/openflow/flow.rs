//! Flows, orders to change them, and the orders that turn one set of flows into another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::actions::Action;
use super::fields::{Cookie, TableId};
use super::matches::Match;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    pub table: TableId,
    pub priority: u16,
    pub cookie: Cookie,
    pub matches: Match,
    pub actions: Vec<Action>,
}

/// What makes a flow that flow: a switch holds at most one of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    pub table: TableId,
    pub priority: u16,
    pub matches: Match,
}

impl Flow {
    pub fn key(&self) -> FlowKey {
        FlowKey { table: self.table, priority: self.priority, matches: self.matches.clone() }
    }
}

/// A flow as the switch has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledFlow {
    pub flow: Flow,
    pub packets: u64,
    pub bytes: u64,
    pub duration: Duration,
    /// Ours never time out, carry no flags and no importance. Another's may.
    pub idle_timeout: u16,
    pub hard_timeout: u16,
    pub flags: u16,
    pub importance: u16,
}

impl InstalledFlow {
    /// As `flow` looks just after it was added.
    pub fn fresh(flow: Flow) -> Self {
        Self {
            flow,
            packets: 0,
            bytes: 0,
            duration: Duration::ZERO,
            idle_timeout: 0,
            hard_timeout: 0,
            flags: 0,
            importance: 0,
        }
    }

    fn is_permanent(&self) -> bool {
        (self.idle_timeout, self.hard_timeout, self.flags, self.importance) == (0, 0, 0, 0)
    }
}

/// An order to change flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowMod {
    /// Replaces the flow with the same key, its cookie and its counters included.
    Add(Flow),
    /// Other actions for the flow with that key, which keeps its counters and its cookie. Nothing if there is none.
    ModifyStrict(Flow),
    DeleteStrict(FlowKey),
    /// Every flow that matches all of this, and perhaps more.
    Delete {
        table: Option<TableId>,
        cookie: Option<Cookie>,
        matches: Match,
    },
}

/// The orders after which the switch holds exactly `wanted`: no more of them than needed, deletions first.
///
/// Flows that are not wanted are deleted, whoever made them: the bridge is ours alone. If `wanted` holds two flows of
/// one key, the last one counts.
pub fn diff(wanted: &[Flow], installed: &[InstalledFlow]) -> Vec<FlowMod> {
    let wanted: BTreeMap<FlowKey, &Flow> = wanted.iter().map(|flow| (flow.key(), flow)).collect();
    let observed: BTreeMap<FlowKey, &InstalledFlow> =
        installed.iter().map(|it| (it.flow.key(), it)).collect();
    let gone: BTreeSet<&FlowKey> = observed.keys().filter(|key| !wanted.contains_key(*key)).collect();
    let deletions = gone.into_iter().map(|key| FlowMod::DeleteStrict(key.clone()));
    let changes = wanted.iter().filter_map(|(key, flow)| change(flow, observed.get(key).copied()));
    deletions.chain(changes).collect()
}

fn change(wanted: &Flow, observed: Option<&InstalledFlow>) -> Option<FlowMod> {
    match observed {
        Some(it) if it.is_permanent() && it.flow.cookie == wanted.cookie => {
            if it.flow.actions == wanted.actions { None } else { Some(FlowMod::ModifyStrict(wanted.clone())) }
        }
        _ => Some(FlowMod::Add(wanted.clone())),
    }
}

#[cfg(test)]
mod tests;
