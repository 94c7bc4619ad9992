//! The closure rule, made true.

use super::{Profile, check};
use crate::flower::overlap::{Flat, FlatIndex};
use crate::flower::{Change, Filters, Installed, Place, PortFilters, Pref, Rule, Skip};
use crate::ids::IfIndex;
use crate::underlay::{Program, is_ours};

/// Tells software to run what hardware would refuse, and what stands under it.
pub fn place(program: &mut Program, profile: &Profile) {
    for (port, program) in &mut program.ports {
        for (chain, rules) in &mut program.chains {
            let mut above = FlatIndex::default();
            for (pref, rule) in rules.rules_mut() {
                let flat = Flat::of(&rule.key);
                let at = Place { port: *port, chain: *chain, pref };
                if above.meets(&flat) || check(rule, at, profile).is_err() {
                    rule.skip = Skip::Hardware;
                    above.insert(flat);
                }
            }
        }
    }
}

/// The next steps that make the closure rule true of what stands, and give hardware back what it may have. To be asked
/// again with what the hardware made of them, until there are none: what it refused once is not offered again here.
///
/// Of each chain either what must leave the hardware, lowest precedence first, so that at no time a packet falls
/// through to something it did not reach before; or what may enter it, because all that stands above is there.
pub fn settle(filters: &Filters, profile: &Profile) -> Vec<Change> {
    each_chain(filters, |chain| {
        let leave: Vec<Change> = chain.must_leave().collect();
        if leave.is_empty() { chain.may_enter(profile, |rule, _| rule.skip == Skip::Hardware) } else { leave }
    })
}

/// Offers the hardware again what it has refused, as far as nothing above is missing there. [`settle`] follows.
pub fn recover(filters: &Filters, profile: &Profile) -> Vec<Change> {
    each_chain(filters, |chain| {
        chain.may_enter(profile, |rule, filter| rule.skip == Skip::None && !filter.in_hw)
    })
}

/// Takes all that is ours out of hardware, of each chain the lowest precedence first: for when the hardware is not to be
/// believed any more. [`settle`] gives it back.
pub fn withdraw(filters: &Filters) -> Vec<Change> {
    each_chain(filters, |chain| {
        let there = chain.lines.iter().rev().filter(|line| line.filter.in_hw);
        there.filter_map(|line| line.replaced(Skip::Hardware)).collect()
    })
}

fn each_chain(filters: &Filters, steps: impl Fn(&Standing<'_>) -> Vec<Change>) -> Vec<Change> {
    let chains = filters
        .iter()
        .flat_map(|(port, filters)| filters.chains.keys().map(|chain| Standing::new(*port, *chain, filters)));
    chains.flat_map(|chain| steps(&chain)).collect()
}

/// A chain's filters by precedence.
struct Standing<'a> {
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    at: Place,
    filter: &'a Installed,
    /// Something above that a packet for this one can meet is not in hardware, or must leave it.
    blocked: bool,
}

impl<'a> Standing<'a> {
    fn new(port: IfIndex, chain: crate::flower::ChainIndex, filters: &'a PortFilters) -> Self {
        let mut above = FlatIndex::default();
        // What cannot be read may match anything.
        let mut unknown = false;
        let mut lines = Vec::new();
        let mut level: Vec<Flat> = Vec::new();
        let mut last: Option<Pref> = None;
        for (pref, filter) in filters.chain(chain) {
            if last != Some(pref) {
                level.drain(..).for_each(|flat| above.insert(flat));
                last = Some(pref);
            }
            let Some(rule) = &filter.rule else {
                unknown |= !filter.in_hw;
                continue;
            };
            let flat = Flat::of(&rule.key);
            let blocked = unknown || above.meets(&flat);
            let runs_in_software = rule.skip != Skip::Software;
            if (blocked || !filter.in_hw) && runs_in_software {
                // Filters of one preference exclude each other.
                level.push(flat);
            }
            lines.push(Line { at: Place { port, chain, pref }, filter, blocked });
        }
        Self { lines }
    }

    fn must_leave(&self) -> impl Iterator<Item = Change> {
        let leaving = self.lines.iter().rev().filter(|line| line.blocked && line.filter.in_hw);
        leaving.filter_map(|line| line.replaced(Skip::Hardware))
    }

    fn may_enter(&self, profile: &Profile, which: impl Fn(&Rule, &Installed) -> bool) -> Vec<Change> {
        let may = |line: &&Line<'_>| {
            !line.blocked
                && line.filter.rule.as_ref().is_some_and(|rule| {
                    let free = Rule { skip: Skip::None, ..rule.clone() };
                    which(rule, line.filter) && check(&free, line.at, profile).is_ok()
                })
        };
        self.lines.iter().filter(may).filter_map(|line| line.replaced(Skip::None)).collect()
    }
}

impl Line<'_> {
    /// `None`: it is not ours.
    fn replaced(&self, skip: Skip) -> Option<Change> {
        let rule = self.filter.rule.as_ref().filter(|rule| is_ours(rule))?;
        Some(Change::Replace { at: self.at, handle: self.filter.handle, rule: Rule { skip, ..rule.clone() } })
    }
}
