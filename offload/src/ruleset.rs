//! Sets of rules as flows of `br-edge`'s tables 5 and 10.
//!
//! A pure compiler. Pods with equal rules share one [`RuleSetId`], and so one set of flows: tables 4 and 9 leave the id in a
//! register ([`crate::tables::RULE_SET`]), and every flow here asks for it. What the pod may start and what may
//! reach it live in different tables, so both directions number from one space of ids, and rules that serve both have
//! one id.
//!
//! What it never does: it asks nobody, and it never leaves a rule out. Rules that do not fit are [`TooLarge`], and then
//! there are no flows at all: a packet whose rule set has no flows meets none, and nothing new passes.
//!
//! | priority | meets | does |
//! |---|---|---|
//! | 50000 | ICMP errors about established connections | passes, whatever the rules are (`boundary.rs`) |
//! | 49999, 49997, … | a rule of the first, second, … run, written out | the rule's action |
//! | 49998, 49996, … | the same, as clauses of a conjunction, and where they lead | the rule's action |
//! | 101 | what no rule of the stage matches | what the tier says of it |
//! | 100 | rule set 0 | passes (`boundary.rs`) |
//!
//! A *run* is a row of rules with the same action: among them the order has no meaning, so they share a priority, and
//! where two of them come to the same match, the first one's cookie stands there. A *stage* is a tier, or several in a
//! row of which all but the last hand everything that they do not decide to the next ([`stages()`]). Its number is in
//! [`crate::tables::TIER`]; to pass is to count on and look again. All flows ask for `+new`.
//!
//! A rule of m peers and n ports is written out as m · n flows, or as m + n clauses and one flow to which they lead if
//! that is less. The ids of conjunctions count within a stage: clauses are only put together by OVS if they match the
//! same packet at the same priority (`find_conjunctive_match()`), and all of them ask for the rule set and the stage.
//! A flow may not be both clause and decision, hence two priorities for a run.
//!
//! Every flow bears the cookie of the rule, or of the tier, that it comes from: [`crate::policy::Origin`]. One that
//! admits connections also leaves the [`RuleMark`] of its rule in them; none, where the rule has none and where what
//! passes was decided by no rule (it has come to the end of all tiers). Of rules of one run that match the same packet
//! any may be the one that is named: each of them admits it.
//!
//! Sources: `ovs-fields(7)` on conjunctive matches, `classifier_lookup__()` in Open vSwitch's `lib/classifier.c`,
//! `MAX_DEPTH` in its `ofproto/ofproto-dpif-xlate.c`.

use crate::openflow::{Action, Cookie, CtFlags, Flow, Match, Reg, SetField, TableId};
use crate::policy::{self, Direction, Origin, RuleMark, Rules};
use crate::tables::{EGRESS, INGRESS, RELATED, RULE_SET, TIER, UNRULED, allow};

mod family;
mod ids;
mod run;
mod stages;

pub use ids::{RuleSetId, RuleSets};

use run::Verdict;
use stages::{Stage, stages};

/// What no rule of a stage matches.
const OTHERWISE: u16 = UNRULED + 1;
/// Two priorities each, between [`OTHERWISE`] and [`RELATED`].
const MAX_RUNS: usize = ((RELATED - OTHERWISE - 1) / 2) as usize;
/// OVS nests 64 lookups in one table or an earlier one, and OVN wants some of them.
const MAX_STAGES: usize = 16;

/// More than OVS's tables hold. Without flows nothing new passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error("{0} tiers that cannot be joined, at most {MAX_STAGES}")]
    Stages(usize),
    #[error("{0} runs of rules with one action in a row of tiers, at most {MAX_RUNS}")]
    Runs(usize),
}

/// Table 5 or 10.
pub const fn table(direction: Direction) -> TableId {
    match direction {
        Direction::Egress => EGRESS,
        Direction::Ingress => INGRESS,
    }
}

/// Which mark a rule leaves in the connections that it admits.
pub type Marks<'a> = &'a dyn Fn(Origin) -> Option<RuleMark>;

/// The flows of one rule set in one direction. They need [`crate::boundary::common_flows`] beside them, which holds
/// all that there is to [`RuleSetId::NONE`] with open rules.
pub fn flows(
    id: RuleSetId,
    direction: Direction,
    rules: &Rules,
    marks: Marks<'_>,
) -> Result<Vec<Flow>, TooLarge> {
    if id == RuleSetId::NONE && rules.is_open() {
        return Ok(Vec::new());
    }
    let stages = stages(rules);
    if stages.len() > MAX_STAGES {
        return Err(TooLarge::Stages(stages.len()));
    }
    let mut flows = Vec::new();
    for (number, stage) in (0u32..).zip(&stages) {
        let is_last = stages.len() == usize::try_from(number).unwrap_or(usize::MAX).saturating_add(1);
        let here = Place { id, direction, number, is_last, marks };
        here.compile(stage, &mut flows)?;
    }
    Ok(flows)
}

/// A stage of a rule set.
#[derive(Clone, Copy)]
struct Place<'a> {
    id: RuleSetId,
    direction: Direction,
    number: u32,
    is_last: bool,
    marks: Marks<'a>,
}

impl Place<'_> {
    fn compile(self, stage: &Stage<'_>, flows: &mut Vec<Flow>) -> Result<(), TooLarge> {
        let runs = run::runs(stage, |action| self.verdict(action));
        if runs.len() > MAX_RUNS {
            return Err(TooLarge::Runs(runs.len()));
        }
        let priorities = (OTHERWISE + 1..RELATED).rev().step_by(2);
        for (run, priority) in runs.iter().zip(priorities) {
            run.compile(self, priority, flows);
        }
        let (action, origin) = stage.otherwise;
        let verdict = self.verdict(action);
        let cookie = Cookie(origin.0);
        let actions = self.actions(verdict, (self.marks)(origin));
        let (table, matches) = (table(self.direction), self.base());
        flows.push(Flow { table, priority: OTHERWISE, cookie, matches, actions });
        Ok(())
    }

    /// After the last tier: allowed.
    fn verdict(self, action: policy::Action) -> Verdict {
        match action {
            policy::Action::Allow => Verdict::Allow,
            policy::Action::Pass if self.is_last => Verdict::Through,
            policy::Action::Pass => Verdict::Pass,
            policy::Action::Deny => Verdict::Deny,
        }
    }

    fn base(self) -> Match {
        let new = CtFlags::TRK | CtFlags::NEW;
        Match::any().ct_state(new, CtFlags::NONE).reg(RULE_SET, self.id.0).reg(TIER, self.number)
    }

    fn actions(self, verdict: Verdict, mark: Option<RuleMark>) -> Vec<Action> {
        let set = |reg: Reg, value: u32| Action::Set(SetField::Reg(reg, value.into()));
        match verdict {
            Verdict::Allow => allow(mark),
            Verdict::Through => allow(None),
            Verdict::Deny => Vec::new(),
            Verdict::Pass => {
                vec![set(TIER, self.number.saturating_add(1)), Action::Resubmit(table(self.direction))]
            }
        }
    }
}

#[cfg(test)]
mod tests;
