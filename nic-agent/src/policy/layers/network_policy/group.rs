//! The pods that the same policies isolate on egress, and which Services these policies together cover.
//!
//! A ClusterIP is what the sending pod's boundary sees; Kubernetes' rules speak of the pods behind it. So it is allowed
//! when every ready backend is, by whichever rule, and never in part. Where a rule names the address itself (an ipBlock
//! that holds it), it is refused before that rule is asked.

mod judge;
mod ruled;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offload::policy::Rule;

use crate::policy::budget::Excess;
use crate::policy::index::{Front, FrontId, Moved, Services};
use crate::policy::layers::NETWORK;
use crate::policy::model::ObjectName;
use crate::policy::origins::Origins;
pub use judge::{Standing, is_covered_for, is_open};
use ruled::Ruled;

#[derive(Debug, Default)]
pub struct Group {
    pub users: BTreeSet<ObjectName>,
    /// All that its policies allow together, to have at hand: a change of a Service asks every group.
    pub rules: Vec<Rule>,
    standings: BTreeMap<FrontId, Standing>,
    /// Of these, those that are refused.
    refused: BTreeSet<FrontId>,
    /// How many Services' ports take a rule of their own, by namespace, and in all.
    counts: BTreeMap<Arc<str>, usize>,
    count: usize,
    /// Made of `standings`.
    ruled: Ruled,
    /// Made of `ruled`: refusals, to stand first, and allowances.
    pub refusals: Vec<Rule>,
    pub allowances: Vec<Rule>,
    /// The Services of these namespaces are too many, and refused as a whole where they are not allowed.
    pub excess: Option<(Vec<Arc<str>>, Excess)>,
}

/// What a group's Services are judged by.
pub struct Law<'a> {
    pub services: &'a Services,
    pub origins: &'a Origins,
    /// So many ports of Services may have a rule of their own.
    pub most: usize,
}

impl Group {
    pub fn standing(&self, id: FrontId) -> Option<&Standing> {
        self.standings.get(&id)
    }

    pub fn refused(&self) -> impl Iterator<Item = (FrontId, &Standing)> {
        self.refused.iter().filter_map(|id| Some((*id, self.standings.get(id)?)))
    }

    /// Asks about every Service that a rule has to do with. Says whether anything changed.
    pub fn judge_all(&mut self, law: &Law<'_>) -> bool {
        let candidates =
            if is_open(&self.rules) { BTreeSet::new() } else { law.services.concerned(NETWORK, &self.rules) };
        let judge = |id: &FrontId| Some((*id, judge::judge(&self.rules, law.services.front(*id)?)?));
        let standings: BTreeMap<_, _> = candidates.iter().filter_map(judge).collect();
        let is_changed = self.standings != standings;
        let (users, rules) = (std::mem::take(&mut self.users), std::mem::take(&mut self.rules));
        *self = Self { users, rules, ..Self::default() };
        for (id, standing) in standings {
            if let Some(front) = law.services.front(id) {
                self.enter(id, front, standing);
            }
        }
        self.coarsen(law);
        (self.refusals, self.allowances) = self.ruled.rules(law.origins);
        is_changed
    }

    /// Asks about these alone, besides what became of the Services.
    pub fn judge_some(&mut self, touched: &BTreeSet<FrontId>, moved: &Moved, law: &Law<'_>) -> bool {
        let mut is_changed = false;
        for (id, front) in &moved.gone {
            is_changed |= self.strike(*id, front);
        }
        let open = is_open(&self.rules);
        for id in touched.union(&moved.new) {
            let Some(front) = law.services.front(*id).filter(|it| it.network == NETWORK) else { continue };
            let standing = if open { None } else { judge::judge(&self.rules, front) };
            if self.standings.get(id) == standing.as_ref() {
                continue;
            }
            is_changed = true;
            self.strike(*id, front);
            if let Some(standing) = standing {
                self.enter(*id, front, standing);
            }
        }
        if is_changed {
            self.coarsen(law);
            (self.refusals, self.allowances) = self.ruled.rules(law.origins);
        }
        is_changed
    }

    fn is_coarse(&self, front: &Front) -> bool {
        self.excess.as_ref().is_some_and(|(namespaces, _)| namespaces.contains(&front.service.namespace))
    }

    fn enter(&mut self, id: FrontId, front: &Front, standing: Standing) {
        self.ruled.put(front, &standing, self.is_coarse(front));
        if needs_rule(front, &standing) {
            *self.counts.entry(front.service.namespace.clone()).or_default() += 1;
            self.count += 1;
        }
        if matches!(standing, Standing::Refused { .. }) {
            self.refused.insert(id);
        }
        self.standings.insert(id, standing);
    }

    /// Says whether there was anything.
    fn strike(&mut self, id: FrontId, front: &Front) -> bool {
        let Some(standing) = self.standings.remove(&id) else { return false };
        self.ruled.take(front, &standing, self.is_coarse(front));
        self.refused.remove(&id);
        let namespace = &front.service.namespace;
        if needs_rule(front, &standing)
            && let Some(count) = self.counts.get_mut(namespace)
        {
            *count -= 1;
            self.count -= 1;
            if *count == 0 {
                self.counts.remove(namespace);
            }
        }
        true
    }

    /// Other namespaces that are too much change what is said of all their Services.
    fn coarsen(&mut self, law: &Law<'_>) {
        let excess = self.coarsened(law.most);
        let namespaces =
            |it: &Option<(Vec<Arc<str>>, Excess)>| it.as_ref().map(|(namespaces, _)| namespaces.clone());
        let is_other = namespaces(&self.excess) != namespaces(&excess);
        self.excess = excess;
        if !is_other {
            return;
        }
        let mut ruled = Ruled::default();
        for (id, standing) in &self.standings {
            if let Some(front) = law.services.front(*id) {
                ruled.put(front, standing, self.is_coarse(front));
            }
        }
        self.ruled = ruled;
    }

    /// The namespaces that have the most Services' ports with a rule of their own, while these are more than `most` in all.
    /// That of the pods themselves comes last.
    fn coarsened(&self, most: usize) -> Option<(Vec<Arc<str>>, Excess)> {
        let found = self.count;
        if found <= most {
            return None;
        }
        let own = self.users.first().map(|it| &it.namespace);
        let mut by_count: Vec<(bool, Reverse<usize>, &Arc<str>)> =
            self.counts.iter().map(|(name, count)| (own == Some(name), Reverse(*count), name)).collect();
        by_count.sort();
        let (mut left, mut coarse) = (found, Vec::new());
        for (_, Reverse(count), namespace) in by_count {
            if left <= most {
                break;
            }
            left -= count;
            coarse.push(namespace.clone());
        }
        coarse.sort();
        let excess = Excess { what: "ports of Services", found, most, key: "pod-service-flows" };
        Some((coarse, excess))
    }

    /// Refusals and allowances, with these allowed besides.
    pub fn rules_besides(
        &self,
        besides: &BTreeSet<FrontId>,
        services: &Services,
        origins: &Origins,
    ) -> (Vec<Rule>, Vec<Rule>) {
        let mut ruled = self.ruled.clone();
        for (id, front) in besides.iter().filter_map(|id| Some((id, services.front(*id)?))) {
            if let Some(standing) = self.standings.get(id) {
                ruled.take(front, standing, self.is_coarse(front));
            }
            ruled.allow(front);
        }
        ruled.rules(origins)
    }
}

fn needs_rule(front: &Front, standing: &Standing) -> bool {
    let is_said =
        matches!(standing, Standing::Covered { is_named: false } | Standing::Refused { is_named: true, .. });
    is_said && !front.is_whole
}
