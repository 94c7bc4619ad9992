//! Which number each chain of a program has, or will have, on a port where others stand.

use std::collections::{BTreeMap, BTreeSet};

use super::{anywhere, ours, reachable};
use crate::flower::{ChainIndex, End, NextChain, PortFilters, Pref, Rule};
use crate::underlay::program::{Fixed, PortProgram};

/// A port's program under the numbers that it has there.
pub struct Resolved {
    /// Rules in order of precedence.
    pub chains: BTreeMap<ChainIndex, Vec<(Pref, Rule)>>,
    /// Ordered chains that do not stand yet.
    pub fresh: BTreeSet<ChainIndex>,
}

type Content = Vec<(Pref, Rule)>;

/// Standing ordered chains by content. A chain that holds a foreigner is none of them.
fn standing(program: &PortProgram, observed: &PortFilters) -> BTreeMap<Content, ChainIndex> {
    let mut found = BTreeMap::new();
    for chain in observed.chains.keys().filter(|chain| program.layout.is_ordered(**chain)) {
        let mut content: Content =
            ours(observed, *chain).map(|(pref, _, rule)| (pref, anywhere(rule))).collect();
        if content.len() == observed.chain(*chain).count() {
            content.sort();
            found.entry(content).or_insert(*chain);
        }
    }
    found
}

/// Of a representor, which of the two numbers for `dispatch` is taken: the one that stands, unless egress rules and
/// dispatch change both.
pub fn resolve(program: &PortProgram, observed: &PortFilters) -> Resolved {
    let known = standing(program, observed);
    let Some((first, second)) = program.layout.other_dispatch() else {
        return number(program, observed, &known, None);
    };
    let live = reachable(observed);
    let stands = |resolved: &Resolved, chain: ChainIndex| {
        let wanted: BTreeSet<(Pref, Rule)> = resolved
            .chains
            .get(&chain)
            .into_iter()
            .flatten()
            .map(|(pref, rule)| (*pref, anywhere(rule)))
            .collect();
        let has: BTreeSet<(Pref, Rule)> =
            ours(observed, chain).map(|(pref, _, rule)| (pref, anywhere(rule))).collect();
        wanted == has
    };
    let candidates = [first, second].map(|slot| {
        let resolved = number(program, observed, &known, Some((first, slot)));
        let same_state = stands(&resolved, Fixed::REPRESENTOR.state.index());
        let same_dispatch = stands(&resolved, slot.index());
        let in_use = live.contains(&slot.index());
        let fitness = match (same_state, same_dispatch, in_use) {
            (true, true, _) => 4,
            // Nothing changes about what may be started: dispatch changes where it stands.
            (true, false, true) => 3,
            // Dispatch does not change.
            (false, true, _) => 2,
            (_, false, false) => 1,
            (false, false, true) => 0,
        };
        (fitness, resolved)
    });
    let [(fitness, here), (other_fitness, there)] = candidates;
    if other_fitness > fitness { there } else { here }
}

/// Bottom-up: in a program, an ordered chain leads only to fixed ones and to ordered ones of lower numbers.
fn number(
    program: &PortProgram,
    observed: &PortFilters,
    known: &BTreeMap<Content, ChainIndex>,
    moved: Option<(NextChain, NextChain)>,
) -> Resolved {
    let mut numbers: BTreeMap<ChainIndex, ChainIndex> = BTreeMap::new();
    if let Some((from, to)) = moved {
        numbers.insert(from.index(), to.index());
    }
    let mut free = program.layout.first_ordered();
    let mut resolved = Resolved { chains: BTreeMap::new(), fresh: BTreeSet::new() };
    let (ordered, fixed): (Vec<_>, Vec<_>) =
        program.chains.iter().partition(|(chain, _)| program.layout.is_ordered(**chain));
    for (chain, rules) in ordered {
        let rules: Content = rules.rules().map(|(pref, rule)| (pref, renumber(rule, &numbers))).collect();
        let mut content: Content = rules.iter().map(|(pref, rule)| (*pref, anywhere(rule))).collect();
        content.sort();
        let number = known.get(&content).copied().unwrap_or_else(|| {
            while observed.chains.contains_key(&free.index()) {
                free = free.after(1);
            }
            let number = free.index();
            free = free.after(1);
            resolved.fresh.insert(number);
            number
        });
        numbers.insert(*chain, number);
        resolved.chains.insert(number, rules);
    }
    for (chain, rules) in fixed {
        let number = numbers.get(chain).copied().unwrap_or(*chain);
        let rules = rules.rules().map(|(pref, rule)| (pref, renumber(rule, &numbers))).collect();
        resolved.chains.insert(number, rules);
    }
    resolved
}

fn renumber(rule: &Rule, numbers: &BTreeMap<ChainIndex, ChainIndex>) -> Rule {
    let mut rule = rule.clone();
    if let End::Goto(next) = rule.actions.end
        && let Some(number) = numbers.get(&next.index())
        && let Some(next) = NextChain::new(number.0)
    {
        rule.actions.end = End::Goto(next);
    }
    rule
}
