//! The tables and registers of `br-edge`, in which a boundary and the rule sets meet.

use crate::openflow::{Action, Reg, SetField, TableId};
use crate::policy::RuleMark;

/// Every frame begins here.
pub const CLASSIFY: TableId = TableId(0);
/// Neighbour and listener discovery that a pod sends.
pub const LINK_FROM_POD: TableId = TableId(1);
/// What a pod sends, behind conntrack.
pub const FROM_POD: TableId = TableId(4);
/// What a pod may start.
pub const EGRESS: TableId = TableId(5);
/// Neighbour and listener discovery that a pod is sent.
pub const LINK_TO_POD: TableId = TableId(6);
/// ARP that may be an announcement.
pub const ANNOUNCED: TableId = TableId(7);
/// What a pod is sent, behind conntrack.
pub const TO_POD: TableId = TableId(9);
/// What may reach a pod.
pub const INGRESS: TableId = TableId(10);
/// What is allowed and not established.
pub const COMMIT: TableId = TableId(12);

/// Id of the set of rules that the packet is held against. Zero: no policy, every new connection is allowed.
pub const RULE_SET: Reg = Reg::R0;
/// The port to which the packet goes if it may.
pub const AHEAD: Reg = Reg::R1;
/// The pod's conntrack zone.
pub const ZONE: Reg = Reg::R2;
/// How far the packet has come in the tiers of its rule set.
pub const TIER: Reg = Reg::R3;
/// 1: the pod has a policy, in whichever direction.
pub const RULED: Reg = Reg::R4;
/// The [`RuleMark`] of the rule that has allowed the packet; 0: none has one.
pub const ADMITTED_BY: Reg = Reg::R5;

/// Priorities in tables 5 and 10: what a rule set allows or denies lies between [`UNRULED`] and [`RELATED`].
pub const RELATED: u16 = 50_000;
pub const UNRULED: u16 = 100;

/// What is done to a new connection that is allowed, and by which rule.
pub(crate) fn allow(by: Option<RuleMark>) -> Vec<Action> {
    let mark = by.map_or(0, RuleMark::get);
    vec![Action::Set(SetField::Reg(ADMITTED_BY, mark.into())), Action::Resubmit(COMMIT)]
}
