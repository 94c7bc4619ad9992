//! Rules of one action in a row, as flows of one pair of priorities.

use std::collections::BTreeMap;

use super::family::{Family, V4, V6, l4_matches};
use super::stages::Stage;
use super::{Place, table};
use crate::openflow::{Action, Cookie, Flow, L4Match, Masked, Match};
use crate::policy::{self, Rule, RuleMark};

/// A flow holds at most some 4000 of them: 16 bytes each, in a message of 64 KiB.
const MAX_CONJUNCTIONS: usize = 2000;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// Allowed by nobody: the last tier leaves it to the next.
    Through,
    Deny,
    /// On to the next stage.
    Pass,
}

/// Rules with one action. Which of them a packet meets does not matter.
pub struct Run<'a> {
    verdict: Verdict,
    /// With their ids for conjunctions.
    rules: Vec<(u32, &'a Rule)>,
}

/// Cut where the verdict changes, and where a clause could come to belong to too many rules.
pub fn runs<'a>(stage: &Stage<'a>, verdict: impl Fn(policy::Action) -> Verdict) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    let meets_something = |rule: &&Rule| !rule.peers.is_empty() && !rule.traffic.is_empty();
    for (id, rule) in (1u32..).zip(stage.rules.iter().copied().filter(meets_something)) {
        let verdict = verdict(rule.action);
        match runs.last_mut() {
            Some(run) if run.verdict == verdict && run.rules.len() < MAX_CONJUNCTIONS => {
                run.rules.push((id, rule));
            }
            _ => runs.push(Run { verdict, rules: vec![(id, rule)] }),
        }
    }
    runs
}

impl Run<'_> {
    /// `priority`, and the one below it for conjunctions.
    pub fn compile(&self, place: Place<'_>, priority: u16, flows: &mut Vec<Flow>) {
        self.compile_family::<V4>(place, priority, flows);
        self.compile_family::<V6>(place, priority, flows);
    }

    fn compile_family<F: Family>(&self, place: Place<'_>, priority: u16, flows: &mut Vec<Flow>) {
        let mut out = Parts::<F>::default();
        for (id, rule) in &self.rules {
            let named = Named { cookie: Cookie(rule.origin.0), mark: (place.marks)(rule.origin) };
            out.add(*id, rule, named);
        }
        let base = place.base();
        let part = |(peer, l4)| Match { payload: F::payload(place.direction, peer, l4), ..base.clone() };
        let flow = |priority, cookie, matches, actions| Flow {
            table: table(place.direction),
            priority,
            cookie,
            matches,
            actions,
        };
        let below = priority.saturating_sub(1);
        for (key, by) in out.written_out {
            flows.push(flow(priority, by.cookie, part(key), place.actions(self.verdict, by.mark)));
        }
        for (key, (cookie, actions)) in out.clauses {
            flows.push(flow(below, cookie, part(key), actions));
        }
        for (id, by) in out.conjunctions {
            let matches = part((Masked::any(), L4Match::Any)).conj_id(id);
            flows.push(flow(below, by.cookie, matches, place.actions(self.verdict, by.mark)));
        }
    }
}

type Key<F> = (Masked<<F as Family>::Addr>, L4Match<<F as Family>::Icmp>);

/// What a flow says of the rule that it comes from: itself, and in the connections that it admits.
#[derive(Clone, Copy)]
struct Named {
    cookie: Cookie,
    mark: Option<RuleMark>,
}

/// What the rules of a run come to in one version of IP. Of equal keys there is one flow, which names the first rule.
struct Parts<F: Family> {
    written_out: BTreeMap<Key<F>, Named>,
    clauses: BTreeMap<Key<F>, (Cookie, Vec<Action>)>,
    conjunctions: Vec<(u32, Named)>,
}

impl<F: Family> Default for Parts<F> {
    fn default() -> Self {
        Self { written_out: BTreeMap::new(), clauses: BTreeMap::new(), conjunctions: Vec::new() }
    }
}

impl<F: Family> Parts<F> {
    fn add(&mut self, id: u32, rule: &Rule, named: Named) {
        let (peers, l4) = (F::nets(&rule.peers), l4_matches::<F>(&rule.traffic));
        let product = peers.len().saturating_mul(l4.len());
        if product <= peers.len().saturating_add(l4.len()).saturating_add(1) {
            for peer in peers {
                for l4 in &l4 {
                    self.written_out.entry((peer, l4.clone())).or_insert(named);
                }
            }
            return;
        }
        for peer in peers {
            self.add_clause((peer, L4Match::Any), named.cookie, id, 1);
        }
        for l4 in l4 {
            self.add_clause((Masked::any(), l4), named.cookie, id, 2);
        }
        self.conjunctions.push((id, named));
    }

    fn add_clause(&mut self, key: Key<F>, cookie: Cookie, id: u32, clause: u8) {
        let (_, actions) = self.clauses.entry(key).or_insert_with(|| (cookie, Vec::new()));
        actions.push(Action::Conjunction { id, clause, clauses: 2 });
    }
}
