//! Meters of a bridge: so many packets a second, and what is more is dropped.
//!
//! Where Open vSwitch offloads, it makes each meter a police action of TC, which the flows that name it share.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// One band, which drops, in packets per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Meter {
    pub id: u32,
    /// Packets per second.
    pub rate: u32,
    /// Packets at once.
    pub burst: u32,
}

/// A meter that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledMeter {
    pub id: u32,
    /// `None`: of another kind than ours.
    pub meter: Option<Meter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum MeterMod {
    Add(Meter),
    Modify(Meter),
    /// Open vSwitch deletes the flows that name it, too.
    Delete(u32),
}

/// What a meter has seen since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterStats {
    pub id: u32,
    pub packets: u64,
    pub dropped: u64,
}

/// What is done before flows change, which may name new meters, and after that, when no flow names the old ones any more.
pub fn diff(wanted: &[Meter], installed: &[InstalledMeter]) -> (Vec<MeterMod>, Vec<MeterMod>) {
    let there: BTreeMap<u32, Option<Meter>> = installed.iter().map(|it| (it.id, it.meter)).collect();
    let change = |meter: &Meter| match there.get(&meter.id) {
        None => Some(MeterMod::Add(*meter)),
        Some(known) if *known != Some(*meter) => Some(MeterMod::Modify(*meter)),
        Some(_) => None,
    };
    let before = wanted.iter().filter_map(change).collect();
    let ids: BTreeSet<u32> = wanted.iter().map(|meter| meter.id).collect();
    (before, there.into_keys().filter(|id| !ids.contains(id)).map(MeterMod::Delete).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_or_other_comes_before_the_flows_and_what_is_old_goes_after_them() {
        let meter = |id, rate| Meter { id, rate, burst: rate };
        let of = |id, meter| InstalledMeter { id, meter };
        let installed = [of(1, Some(meter(1, 5))), of(2, Some(meter(2, 5))), of(3, None), of(9, None)];
        let wanted = [meter(1, 5), meter(2, 6), meter(3, 5), meter(4, 5)];
        let (before, after) = diff(&wanted, &installed);
        let expected =
            [MeterMod::Modify(meter(2, 6)), MeterMod::Modify(meter(3, 5)), MeterMod::Add(meter(4, 5))];
        assert_eq!((&before[..], &after[..]), (&expected[..], &[MeterMod::Delete(9)][..]));
        let now: Vec<InstalledMeter> = wanted.iter().map(|it| of(it.id, Some(*it))).collect();
        assert_eq!(diff(&wanted, &now), (Vec::new(), Vec::new()));
    }
}
