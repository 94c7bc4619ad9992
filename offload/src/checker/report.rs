//! For people: which rules run in software, why, and what differs from the prediction.

use super::{Profile, Reason, check};
use crate::flower::{Filters, Installed, Place, Rule, Skip};
use crate::policy::Origin;
use crate::underlay::{is_ours, origin_of};

/// A filter of ours that software runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InSoftware {
    /// `None`: it belongs to what holds the rules together.
    pub origin: Option<Origin>,
    pub at: Place,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Why {
    #[error("this hardware has none of it: {0}")]
    Expected(Reason),
    /// The table is full, or the prediction is wrong. What the driver said is logged by who wrote the filter.
    #[error("the hardware has refused it")]
    Refused,
    #[error("it stands under a filter that is not in hardware")]
    Below,
}

/// Hardware and prediction disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mismatch {
    /// Should have been taken.
    Refused { at: Place, origin: Option<Origin> },
    /// Should have been refused.
    Taken { at: Place, origin: Option<Origin>, reason: Reason },
}

/// What runs in software, in the order of ports, chains and precedence.
pub fn in_software(filters: &Filters, profile: &Profile) -> Vec<InSoftware> {
    own(filters)
        .filter(|(_, filter, _)| !filter.in_hw)
        .map(|(at, _, rule)| {
            let why = match (check(&offered(rule), at, profile), rule.skip) {
                (Err(reason), _) => Why::Expected(reason),
                (Ok(()), Skip::Hardware) => Why::Below,
                (Ok(()), Skip::None | Skip::Software) => Why::Refused,
            };
            InSoftware { origin: origin_of(rule), at, why }
        })
        .collect()
}

/// Where what was predicted and what the hardware says differ.
pub fn compare(filters: &Filters, profile: &Profile) -> Vec<Mismatch> {
    own(filters)
        .filter(|(_, _, rule)| rule.skip != Skip::Hardware)
        .filter_map(|(at, filter, rule)| {
            let origin = origin_of(rule);
            match (check(rule, at, profile), filter.in_hw) {
                (Ok(()), false) => Some(Mismatch::Refused { at, origin }),
                (Err(reason), true) => Some(Mismatch::Taken { at, origin, reason }),
                (Ok(()), true) | (Err(_), false) => None,
            }
        })
        .collect()
}

fn offered(rule: &Rule) -> Rule {
    Rule { skip: Skip::None, ..rule.clone() }
}

fn own(filters: &Filters) -> impl Iterator<Item = (Place, &Installed, &Rule)> {
    filters.iter().flat_map(|(port, filters)| {
        filters.chains.keys().flat_map(move |chain| {
            filters.chain(*chain).filter_map(move |(pref, filter)| {
                let rule = filter.rule.as_ref().filter(|rule| is_ours(rule))?;
                Some((Place { port: *port, chain: *chain, pref }, filter, rule))
            })
        })
    })
}
