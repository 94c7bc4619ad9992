//! Rules that the hardware has lost without a word, after a reset for instance.
//!
//! The kernel goes on saying `in_hw`: that is what the driver said when the filter was written. Software, which has all
//! rules, then does the hardware's work, so nothing passes that may not; but nothing brings the rules back either, and a
//! rule that is written afterwards may stand in hardware under others that are not.
//!
//! What gives the loss away is what software counts. A filter of chain 0 that tracks no connection and is in hardware is
//! met there, with all that stands above it; what the hardware cannot end goes on in a later chain. So software never
//! runs it. When its count grows from one look to the next, and it was in hardware at both, the hardware has it no
//! longer. Those of ARP and neighbour discovery are such filters, and frames for them come all the time.

use std::collections::BTreeMap;

use crate::flower::{ChainIndex, Handle, Place, Pref, Rule, Step};
use crate::ids::IfIndex;
use crate::netlink::tc;

/// What software ran of what hardware should have.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<(Place, Handle), u64>);

impl Counts {
    pub fn note(&mut self, port: IfIndex, pref: Pref, filter: &tc::Filter) {
        let Some(flower) = &filter.flower else { return };
        let is_sign = flower.is_offloaded() && flower.rule.as_ref().is_ok_and(tracks_nothing);
        if filter.chain == ChainIndex(0) && is_sign {
            let at = Place { port, chain: filter.chain, pref };
            self.0.insert((at, Handle(filter.handle)), flower.statistics().software().packets);
        }
    }

    /// A filter that is written anew counts from zero.
    pub fn grew_since(&self, before: &Self) -> bool {
        self.0.iter().any(|(filter, count)| before.0.get(filter).is_some_and(|earlier| earlier < count))
    }
}

/// After a ct step that the hardware does not finish, software goes on in the middle of the filter and counts it.
fn tracks_nothing(rule: &Rule) -> bool {
    !rule.actions.steps.iter().any(|step| matches!(step, Step::Ct(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_in_one_place_is_a_sign() {
        let counts = |all: &[(u32, u64)]| {
            let key =
                |port| (Place { port: IfIndex(port), chain: ChainIndex(0), pref: Pref::FIRST }, Handle(1));
            Counts(all.iter().map(|(port, count)| (key(*port), *count)).collect())
        };
        let before = counts(&[(1, 5), (2, 5)]);
        assert!(counts(&[(1, 5), (2, 6)]).grew_since(&before));
        // The same; written anew; not there before; gone.
        assert!(!counts(&[(1, 5), (2, 0), (3, 9)]).grew_since(&before));
        assert!(!counts(&[]).grew_since(&before));
    }
}
