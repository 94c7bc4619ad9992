//! How many connections each pod's zone has, and which pods have as many as they may. Pure: it is told what was seen.
//!
//! A look counts exactly. Between two looks what begins is added up, as the listener hears it, and nothing is taken off
//! that ends: so an estimate is never too small, but for events that were lost, and those ask for a look themselves. A
//! zone whose estimate has come to the limit is looked at; if it is full, no connection begins there any more
//! (`offload::boundary`) until a later look finds some room.
//!
//! So a pod has no more connections than its limit, and what begins, at its rate, from the look that finds it full until
//! the tables say so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use offload::ids::CtZone;

/// Of the limit, in eighths, that a full zone must come below: who hovers at its limit does not have the tables written
/// with each connection.
const ROOM: u32 = 7;

/// Of a zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// At the last look.
    pub connections: u32,
    /// As many as it may have.
    pub full: bool,
    /// Begun since that look began, and until the next one does.
    begun: u32,
    /// Begun since the next one has: it may have missed them.
    meanwhile: u32,
}

impl Load {
    /// Not too small.
    fn estimate(self) -> u32 {
        self.connections.saturating_add(self.begun).saturating_add(self.meanwhile)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loads(BTreeMap<CtZone, Load>);

impl Loads {
    /// Pods have these zones.
    pub fn follow(&mut self, is_known: impl Fn(&CtZone) -> bool) {
        self.0.retain(|zone, _| is_known(zone));
    }

    pub fn began(&mut self, zone: CtZone, connections: u32) {
        let load = self.0.entry(zone).or_default();
        load.meanwhile = load.meanwhile.saturating_add(connections);
    }

    /// A look begins.
    pub fn look(&mut self) {
        for load in self.0.values_mut() {
            load.begun = load.begun.saturating_add(std::mem::take(&mut load.meanwhile));
        }
    }

    /// It has counted so many.
    pub fn counted(&mut self, zone: CtZone, connections: u32, limit: u32) {
        let load = self.0.entry(zone).or_default();
        let room = limit / 8 * ROOM;
        let full = connections >= limit || load.full && connections >= room;
        *load = Load { connections, full, begun: 0, ..*load };
    }

    /// Zones that are to be looked at: they may be full, and nobody has said so.
    pub fn doubtful(&self, limit: u32) -> impl Iterator<Item = CtZone> {
        let may_be_full = move |load: &Load| !load.full && load.estimate() >= limit;
        self.0.iter().filter(move |(_, load)| may_be_full(load)).map(|(zone, _)| *zone)
    }

    pub fn any_full(&self) -> bool {
        self.0.values().any(|load| load.full)
    }

    pub fn of(&self, zone: CtZone) -> Option<Load> {
        self.0.get(&zone).copied()
    }

    /// Do the same zones have no room?
    pub fn are_as_full(&self, other: &Self) -> bool {
        let full = |loads: &Self| -> Vec<CtZone> {
            loads.0.iter().filter(|(_, load)| load.full).map(|(zone, _)| *zone).collect()
        };
        full(self) == full(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(number: u16) -> CtZone {
        CtZone::new(number).unwrap()
    }

    #[test]
    fn what_begins_is_added_up_until_a_look_counts() {
        let mut loads = Loads::default();
        let doubtful = |loads: &Loads| loads.doubtful(100).collect::<Vec<_>>();
        loads.began(zone(1), 60);
        loads.counted(zone(2), 60, 100);
        assert!(doubtful(&loads).is_empty());
        loads.began(zone(1), 40);
        loads.began(zone(2), 40);
        assert_eq!(doubtful(&loads), [zone(1), zone(2)]);
        loads.look();
        // The look may have missed these.
        loads.began(zone(1), 69);
        loads.counted(zone(1), 30, 100);
        loads.counted(zone(2), 100, 100);
        assert!(doubtful(&loads).is_empty(), "one has room, the other is known to have none");
        loads.began(zone(1), 1);
        assert_eq!(doubtful(&loads), [zone(1)]);
        let full = |number| loads.of(zone(number)).unwrap().full;
        assert_eq!((full(1), full(2), loads.any_full()), (false, true, true));
        loads.follow(|it| *it == zone(1));
        assert_eq!((loads.of(zone(2)), loads.any_full()), (None, false));
    }

    #[test]
    fn a_full_zone_needs_some_room_to_begin_again() {
        let mut loads = Loads::default();
        let mut is_full = |connections| {
            loads.counted(zone(1), connections, 80);
            loads.any_full()
        };
        assert_eq!([79, 80, 79, 70, 69, 79].map(&mut is_full), [false, true, true, true, false, false]);
        let (mut some, mut others) = (Loads::default(), Loads::default());
        some.counted(zone(1), 90, 80);
        others.counted(zone(1), 80, 80);
        others.counted(zone(2), 5, 80);
        assert!(some.are_as_full(&others) && !some.are_as_full(&Loads::default()));
    }
}
