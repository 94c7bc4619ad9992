//! Would the hardware take now what it has refused?
//!
//! Nobody says when there is room again, and OVS does not ask twice. So one of the refused filters is written once more,
//! for hardware alone (`skip_sw`), and deleted in the same batch. Its copy stands on a representor that is closed: OVS
//! does not have that one, and what enters it is dropped at its first rule, in front of the copy and for all chains. A
//! table that is full is full for all ports; what a NIC refuses on one port only, a copy does not find out.

use std::time::{Duration, Instant};

use offload::flower::{ChainIndex, Cookie, Pref, Rule, Skip};
use offload::ids::IfIndex;
use offload::netlink::Error;
use offload::netlink::socket::NetlinkSocket;
use offload::netlink::tc::{self, Change, Filter, Handle, Place, Reasons};

use super::hardware::id;
use super::view::{FilterId, Flows};

const WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Room {
    since: Option<Instant>,
    /// The one that was asked about, so that the next time it is another one's turn.
    last: Option<FilterId>,
    is_there: bool,
}

impl Room {
    /// Which of the refused filters to ask about, if it is time to ask.
    fn turn<'a>(
        &mut self,
        filters: impl Iterator<Item = &'a Filter>,
        flows: &Flows,
        now: Instant,
    ) -> Option<(&'a Filter, &'a Rule)> {
        if flows.refused.is_empty() {
            *self = Self::default();
            return None;
        }
        if self.since.is_some_and(|since| now.duration_since(since) < WINDOW) {
            return None;
        }
        self.is_there = false;
        // Of others not all is known that they match.
        let rule = |filter: &'a Filter| Some((filter, filter.flower.as_ref()?.rule.as_ref().ok()?));
        let mut refused: Vec<_> =
            filters.filter(|it| flows.refused.contains(&id(it))).filter_map(rule).collect();
        refused.sort_by_key(|(filter, _)| id(filter));
        let next =
            refused.iter().find(|(filter, _)| Some(id(filter)) > self.last).or(refused.first()).copied();
        if let Some((filter, _)) = next {
            (self.since, self.last) = (Some(now), Some(id(filter)));
        }
        next
    }

    /// The answer, if it was time to ask. `beside`: a representor that is closed, on the eSwitch of this port, and the mark
    /// for what is written there.
    ///
    /// # Errors
    /// The session failed; a copy that stayed is removed with the closing rule, by its cookie.
    pub fn look<'a>(
        &mut self,
        route: &mut NetlinkSocket,
        beside: impl Fn(IfIndex) -> Option<(IfIndex, Cookie)>,
        filters: impl Iterator<Item = &'a Filter>,
        flows: &Flows,
        now: Instant,
    ) -> Result<Option<bool>, Error> {
        let Some((filter, rule)) = self.turn(filters, flows, now) else { return Ok(None) };
        let Some((ifindex, mark)) = beside(filter.ifindex) else { return Ok(None) };
        let Some((place, rule)) = copy(filter, rule, ifindex, mark) else { return Ok(None) };
        let changes = [Change::Add { place, rule: &rule }, Change::Delete { place }];
        let outcomes = tc::apply(route, &changes, Reasons::Skip)?;
        self.is_there = outcomes.first().is_some_and(Result::is_ok);
        Ok(Some(self.is_there))
    }

    /// As it was answered last.
    pub fn is_there(&self) -> bool {
        self.is_there
    }
}

fn copy(filter: &Filter, rule: &Rule, ifindex: IfIndex, mark: Cookie) -> Option<(Place, Rule)> {
    // Not chain 0, where packets enter. Else its own, as hardware only goes forward from there.
    let chain = ChainIndex(filter.chain.0.max(1));
    let (pref, handle) = (Pref::new(filter.pref)?, Handle::new(Handle::MAX)?);
    let actions = rule.actions.clone().cookie(mark);
    Some((Place { ifindex, chain, pref, handle }, Rule { actions, skip: Skip::Software, ..rule.clone() }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use offload::flower::{Actions, Key};
    use offload::netlink::tc::Flower;

    use super::*;

    fn filter(handle: u32, rule: Result<Rule, String>) -> Filter {
        let flower = Flower {
            rule,
            partial: None,
            actions: Vec::new(),
            in_hw: false,
            not_in_hw: true,
            skip_hw: false,
            skip_sw: false,
            in_hw_count: 0,
        };
        Filter {
            ifindex: IfIndex(7),
            block: None,
            chain: ChainIndex(0),
            pref: 2,
            protocol: 0x0800,
            handle,
            kind: "flower".to_owned(),
            flower: Some(flower),
            raw: Vec::new(),
        }
    }

    fn drop_all() -> Rule {
        Rule { key: Key::default(), actions: Actions::drop(), skip: Skip::None }
    }

    #[test]
    fn each_in_its_turn_and_not_too_often() {
        let filters = [1, 2, 3, 4].map(|handle| {
            filter(handle, if handle == 2 { Err("beyond".to_owned()) } else { Ok(drop_all()) })
        });
        let of = |handles: &[usize]| {
            let refused: BTreeSet<FilterId> = handles.iter().map(|it| id(&filters[*it - 1])).collect();
            Flows { refused, ..Flows::default() }
        };
        let (mut room, began) = (Room::default(), Instant::now());
        let mut turn = |flows: &Flows, second| {
            let now = began + Duration::from_secs(second);
            room.turn(filters.iter(), flows, now).map(|(filter, _)| filter.handle)
        };
        let flows = of(&[1, 2, 3]);
        let asked: Vec<_> = (0..40).filter_map(|second| Some((second, turn(&flows, second)?))).collect();
        assert_eq!(asked, [(0, 1), (10, 3), (20, 1), (30, 3)]);
        // Nothing is refused, then something is: at once.
        assert_eq!((turn(&of(&[]), 41), turn(&of(&[4]), 42)), (None, Some(4)));
        assert_eq!(turn(&of(&[2]), 60), None, "nobody can write it");
    }

    #[test]
    fn an_answer_holds_until_the_next_question() {
        let refused = BTreeSet::from([id(&filter(1, Ok(drop_all())))]);
        let flows = Flows { refused, ..Flows::default() };
        let (mut room, began) = (Room { is_there: true, ..Room::default() }, Instant::now());
        room.since = Some(began);
        let filters = [filter(1, Ok(drop_all()))];
        room.turn(filters.iter(), &flows, began + Duration::from_secs(9));
        assert!(room.is_there);
        room.turn(filters.iter(), &flows, began + Duration::from_secs(10));
        assert!(!room.is_there);
    }

    #[test]
    fn a_copy_is_for_hardware_alone_and_where_no_packet_comes() {
        let mark = Cookie::new(b"mark").unwrap();
        let (place, rule) = copy(&filter(1, Ok(drop_all())), &drop_all(), IfIndex(9), mark).unwrap();
        assert_eq!((place.ifindex, place.chain, place.pref.0.get()), (IfIndex(9), ChainIndex(1), 2));
        assert_eq!((rule.skip, rule.actions.cookie), (Skip::Software, Some(mark)));
        let deep = Filter { chain: ChainIndex(298), ..filter(1, Ok(drop_all())) };
        assert_eq!(copy(&deep, &drop_all(), IfIndex(9), mark).unwrap().0.chain, ChainIndex(298));
    }
}
