//! From what stands to what is wanted: steps between which no packet passes that both deny, and none is lost that both
//! let go to the same place.
//!
//! Three parts, and the hardware's word after each of the first two (`checker::settle`):
//!
//! 1. *build*: chains that no packet reaches yet, each beginning with its drop; chain 0's own drop before anything.
//!    And what only forbids more.
//! 2. *flip*: filters of chains that are in use, each replaced in place. Within a port: what leads in from chain 0 is
//!    taken away, then what `forward` no longer delivers, then the rules change, then `forward` delivers again, and
//!    chain 0 leads in.
//! 3. *clean*: what nobody leads to any more.
//!
//! An ordered chain is known by its content, whatever number it bears; so whoever comes anew finds its chains, and a
//! second plan is empty. Where a filter runs is no part of its content. Filters without our mark are never touched, nor
//! are their chains' numbers used.

use std::collections::{BTreeMap, BTreeSet};

use super::mark::is_ours;
use super::program::{Fixed, Layout, PortProgram, Program, pref};
use super::representor::DISPATCH_REST;
use crate::flower::overlap::Flat;
use crate::flower::{ChainIndex, Change, End, Filters, Installed, Place, PortFilters, Pref, Rule, Skip};
use crate::ids::IfIndex;

mod resolve;

use resolve::{Resolved, resolve};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub build: Vec<Change>,
    pub flip: Vec<Change>,
    pub clean: Vec<Change>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.build.is_empty() && self.flip.is_empty() && self.clean.is_empty()
    }

    pub fn steps(&self) -> impl Iterator<Item = &Change> {
        self.build.iter().chain(&self.flip).chain(&self.clean)
    }
}

/// What leads from `observed` to `wanted`. Ports that are not wanted lose what is ours on them.
pub fn plan(wanted: &Program, observed: &Filters) -> Plan {
    let mut plan = Plan::default();
    let nothing = PortFilters::default();
    for (port, program) in &wanted.ports {
        plan_port(&mut plan, *port, program, observed.get(port).unwrap_or(&nothing));
    }
    for (port, filters) in observed.iter().filter(|(port, _)| !wanted.ports.contains_key(port)) {
        clear_port(&mut plan, *port, filters);
    }
    plan
}

/// Chain 0 first: what led in, then its drop. Then what it led to.
fn clear_port(plan: &mut Plan, port: IfIndex, filters: &PortFilters) {
    for chain in filters.chains.keys() {
        for (pref, filter, _) in ours(filters, *chain) {
            plan.clean.push(delete(Place { port, chain: *chain, pref }, filter));
        }
    }
}

fn ours(filters: &PortFilters, chain: ChainIndex) -> impl Iterator<Item = (Pref, &Installed, &Rule)> {
    filters.chain(chain).filter_map(|(pref, filter)| {
        let rule = filter.rule.as_ref().filter(|rule| is_ours(rule))?;
        Some((pref, filter, rule))
    })
}

fn delete(at: Place, filter: &Installed) -> Change {
    Change::Delete { at, handle: filter.handle }
}

/// As it counts for a filter's identity.
fn anywhere(rule: &Rule) -> Rule {
    Rule { skip: Skip::None, ..rule.clone() }
}

fn plan_port(plan: &mut Plan, port: IfIndex, program: &PortProgram, observed: &PortFilters) {
    let target = resolve(program, observed);
    let live = reachable(observed);
    let mut changes = Changes::new(port, program.layout);
    for (chain, rules) in &target.chains {
        if program.layout.is_ordered(*chain) {
            if target.fresh.contains(chain) {
                let added = drop_first(rules)
                    .map(|(pref, rule)| changes.add(*chain, *pref, rule))
                    .collect::<Vec<_>>();
                changes.build.extend(added);
            }
        } else {
            changes.fixed(*chain, rules, observed, live.contains(chain));
        }
    }
    changes.forsaken(&target, observed);
    let Changes { first, build, late, out, off, rules, on, into, clean, .. } = changes;
    plan.build.extend(first.into_iter().chain(build).chain(late));
    plan.flip.extend(out.into_iter().chain(off).chain(rules).chain(on).chain(into));
    plan.clean.extend(clean);
}

/// The chains that a packet can come to.
fn reachable(filters: &PortFilters) -> BTreeSet<ChainIndex> {
    let (mut seen, mut ahead) = (BTreeSet::new(), vec![ChainIndex(0)]);
    while let Some(chain) = ahead.pop() {
        if seen.insert(chain) {
            ahead.extend(filters.chain(chain).filter_map(
                |(_, filter)| match filter.rule.as_ref()?.actions.end {
                    End::Goto(next) => Some(next.index()),
                    End::Drop | End::Trap | End::Redirect(_) => None,
                },
            ));
        }
    }
    seen
}

fn drop_first(rules: &[(Pref, Rule)]) -> impl Iterator<Item = &(Pref, Rule)> {
    let is_drop = |it: &&(Pref, Rule)| it.0 == Pref::LAST;
    rules.iter().filter(is_drop).chain(rules.iter().filter(move |it| !is_drop(it)))
}

/// What of a chain is not in hardware now: nothing new may go in under it.
struct Careful(Vec<(Pref, Flat)>);

impl Careful {
    fn new(chain: ChainIndex, observed: &PortFilters) -> Self {
        let missing = observed.chain(chain).filter(|(_, filter)| !filter.in_hw);
        // What cannot be read may match anything.
        let key = |filter: &Installed| filter.rule.as_ref().map(|rule| rule.key.clone()).unwrap_or_default();
        Self(missing.map(|(pref, filter)| (pref, Flat::of(&key(filter)))).collect())
    }

    fn rule(&self, pref: Pref, rule: &Rule) -> Rule {
        let flat = Flat::of(&rule.key);
        let blocked = self.0.iter().any(|(above, missing)| *above < pref && missing.overlaps(&flat));
        Rule { skip: if blocked { Skip::Hardware } else { rule.skip }, ..rule.clone() }
    }
}

/// What a fixed chain is for: it decides when its filters change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Classify,
    Link,
    Forward,
    Dispatch,
    Other,
}

/// Deletions, each with whether it was a drop.
fn changes_of(gone: Vec<(bool, Change)>) -> impl Iterator<Item = Change> {
    gone.into_iter().map(|(_, change)| change)
}

/// Steps of one port, by when they are done.
struct Changes {
    port: IfIndex,
    layout: Layout,
    first: Vec<Change>,
    build: Vec<Change>,
    late: Vec<Change>,
    out: Vec<Change>,
    off: Vec<Change>,
    rules: Vec<Change>,
    on: Vec<Change>,
    into: Vec<Change>,
    clean: Vec<Change>,
}

impl Changes {
    fn new(port: IfIndex, layout: Layout) -> Self {
        let none = Vec::new;
        Self {
            port,
            layout,
            first: none(),
            build: none(),
            late: none(),
            out: none(),
            off: none(),
            rules: none(),
            on: none(),
            into: none(),
            clean: none(),
        }
    }

    fn role(&self, chain: ChainIndex) -> Role {
        let at = Fixed::REPRESENTOR;
        match self.layout {
            _ if chain == ChainIndex(0) => Role::Classify,
            Layout::Representor if chain == at.link.index() => Role::Link,
            Layout::Representor if chain == at.forward.index() => Role::Forward,
            Layout::Representor if chain >= at.dispatch.index() => Role::Dispatch,
            Layout::Uplink if chain.0 % 4 == Fixed::vlan(1).link.get() % 4 => Role::Link,
            Layout::Uplink if chain.0 % 4 == Fixed::vlan(1).forward.get() % 4 => Role::Forward,
            Layout::Representor | Layout::Uplink => Role::Other,
        }
    }

    fn add(&self, chain: ChainIndex, pref: Pref, rule: &Rule) -> Change {
        Change::Add { at: Place { port: self.port, chain, pref }, rule: rule.clone() }
    }

    /// Filter by filter.
    fn fixed(&mut self, chain: ChainIndex, wanted: &[(Pref, Rule)], observed: &PortFilters, live: bool) {
        let role = self.role(chain);
        let mut standing: BTreeMap<(Pref, &crate::flower::Key), (&Installed, &Rule)> = BTreeMap::new();
        let (mut gone, mut changed, mut added) = (Vec::new(), Vec::new(), Vec::new());
        let place = |pref| Place { port: self.port, chain, pref };
        let careful = Careful::new(chain, observed);
        for (pref, filter, rule) in ours(observed, chain) {
            if standing.insert((pref, &rule.key), (filter, rule)).is_some() {
                // The kernel holds no key twice; a dump that was torn may.
                tracing::debug!(port = %self.port, %chain, %pref, "a filter is there twice in the dump");
            }
        }
        for (pref, rule) in drop_first(wanted) {
            match standing.remove(&(*pref, &rule.key)) {
                None => added.push(self.add(chain, *pref, &careful.rule(*pref, rule))),
                Some((_, old)) if anywhere(old) == anywhere(rule) => {}
                // Delivered elsewhere: in between it is not delivered, so that no rule made for one reaches the other.
                Some((filter, _)) if role == Role::Forward => {
                    gone.push((false, delete(place(*pref), filter)));
                    added.push(self.add(chain, *pref, &careful.rule(*pref, rule)));
                }
                Some((filter, _)) => {
                    let rule = careful.rule(*pref, rule);
                    changed.push(Change::Replace { at: place(*pref), handle: filter.handle, rule });
                }
            }
        }
        gone.extend(standing.iter().map(|((pref, _), (filter, rule))| {
            (rule.actions.end == End::Drop, delete(place(*pref), filter))
        }));
        if !live || observed.chains.get(&chain).is_none_or(BTreeMap::is_empty) && role != Role::Classify {
            self.build.extend(changes_of(gone).chain(changed).chain(added));
            return;
        }
        match role {
            Role::Classify => {
                let is_drop = |step: &Change| matches!(step, Change::Add { at, .. } if at.pref == Pref::LAST);
                let (drops, added): (Vec<Change>, Vec<Change>) = added.into_iter().partition(is_drop);
                self.first.extend(drops);
                self.out.extend(changes_of(gone));
                self.into.extend(changed.into_iter().chain(added));
            }
            // What drops comes before the rules change and goes after; what delivers, the other way round.
            Role::Forward => {
                let is_drop = |change: &Change| matches!(change, Change::Add { rule, .. } if rule.actions.end == End::Drop);
                let (drops, added): (Vec<Change>, Vec<Change>) = added.into_iter().partition(is_drop);
                let (opens, closes): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(is_drop, _)| *is_drop);
                self.late.extend(drops);
                self.off.extend(changes_of(closes));
                self.on.extend(added.into_iter().chain(changes_of(opens)));
            }
            Role::Link => self.rules.extend(added.into_iter().chain(changed).chain(changes_of(gone))),
            // A drop of local sources comes before the rules behind it change, and goes after they have.
            Role::Dispatch | Role::Other => {
                self.late.extend(added);
                if role == Role::Dispatch && !changed.is_empty() {
                    self.rules.extend(self.rest_to_software(chain, wanted, observed));
                }
                self.rules.extend(changed.into_iter().chain(changes_of(gone)));
            }
        }
    }

    /// While destinations change their rules, what accepts all others must not be in hardware: should the hardware
    /// refuse the new filter of a destination, packets would fall through to it there. Lowest first, as ever.
    fn rest_to_software(
        &self,
        chain: ChainIndex,
        wanted: &[(Pref, Rule)],
        observed: &PortFilters,
    ) -> Vec<Change> {
        let leave = |at: Pref| {
            let (_, filter, _) =
                ours(observed, chain).find(|(pref, filter, _)| *pref == at && filter.in_hw)?;
            let (_, rule) = wanted.iter().find(|(pref, _)| *pref == at)?;
            let rule = Rule { skip: Skip::Hardware, ..rule.clone() };
            Some(Change::Replace {
                at: Place { port: self.port, chain, pref: at },
                handle: filter.handle,
                rule,
            })
        };
        [Pref::LAST, pref(DISPATCH_REST)].into_iter().filter_map(leave).collect()
    }

    /// Chains of ours that are no part of the target.
    fn forsaken(&mut self, target: &Resolved, observed: &PortFilters) {
        for (chain, prefs) in &observed.chains {
            if *chain == ChainIndex(0) || target.chains.contains_key(chain) {
                continue;
            }
            let all_ours = prefs.values().flatten().all(|it| it.rule.as_ref().is_some_and(is_ours));
            if prefs.is_empty() {
                continue;
            }
            if all_ours {
                self.clean.push(Change::Flush { port: self.port, chain: *chain });
                continue;
            }
            let deletes = ours(observed, *chain)
                .map(|(pref, filter, _)| delete(Place { port: self.port, chain: *chain, pref }, filter));
            let deletes: Vec<Change> = deletes.collect();
            self.clean.extend(deletes);
        }
    }
}
