//! What a port's `addresses` shall say in this transaction, and so which ports ask OVN for some. Pure.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};

use k8s_openapi::jiff::Timestamp;
use ovsdb_session::{Atom, Row, Uuid};

use super::super::addresses::{DYNAMIC, fits, given, taken};
use super::super::observed::Observed;
use super::super::{ADDRESSES, Had, Key, SINCE, Said, WantedRow};

pub(super) struct Ports<'a> {
    observed: &'a Observed,
    now: Timestamp,
    /// MACs and IPs of the northbound's ports: made when a port wants back what it had.
    taken: OnceCell<HashMap<String, BTreeSet<Uuid>>>,
}

impl<'a> Ports<'a> {
    pub fn new(observed: &'a Observed, now: Timestamp) -> Self {
        Self { observed, now, taken: OnceCell::new() }
    }

    /// With what OVN has given the port, or had given it, or asking for it.
    pub fn with_addresses(&self, wanted: &WantedRow, kept: Option<Uuid>, row: Option<&Row>) -> WantedRow {
        match self.known(wanted, kept, row) {
            Some(known) => wanted.clone().column("addresses", known).key("external_ids", ADDRESSES, known),
            None => wanted.clone().column("addresses", DYNAMIC),
        }
    }

    /// Will it ask OVN? Then what others have must be in the northbound before it: OVN gives what it does not see there.
    pub fn asks(&self, key: &Key, wanted: &WantedRow) -> bool {
        if wanted.assigned.is_empty() {
            return false;
        }
        let kept = self.observed.of(key).next();
        let row = kept.and_then(|uuid| self.observed.get(key.table, uuid));
        self.known(wanted, kept, row).is_none()
    }

    fn known<'b>(&self, wanted: &'b WantedRow, kept: Option<Uuid>, row: Option<&'b Row>) -> Option<&'b str> {
        let given = row.and_then(|row| given(row, &wanted.assigned));
        let had = || wanted.had.as_ref().filter(|had| self.comes_back(wanted, kept, had));
        given.or_else(|| had().map(|had| &*had.addresses))
    }

    /// Does the port get back what it had?
    fn comes_back(&self, wanted: &WantedRow, kept: Option<Uuid>, had: &Had) -> bool {
        let switch = wanted.parent.as_ref().and_then(|(key, _)| {
            let uuid = self.observed.of(key).next()?;
            self.observed.get(key.table, uuid)
        });
        let lost = switch.and_then(since).unwrap_or(self.now);
        let taken = self.taken.get_or_init(|| taken(self.observed));
        let mut parts = had.addresses.split(' ');
        fits(&had.addresses, &wanted.assigned)
            && had.said.is_before(lost)
            && parts.all(|part| {
                let mut others = taken.get(part).into_iter().flatten().filter(|uuid| Some(**uuid) != kept);
                others.next().is_none()
            })
    }
}

impl Said {
    fn is_before(self, lost: Timestamp) -> bool {
        match self {
            Self::At(created) => created.is_some_and(|created| created < lost),
            Self::Undated => true,
        }
    }
}

/// Since when the switch is there.
pub(super) fn since(row: &Row) -> Option<Timestamp> {
    let mark = row.get("external_ids")?.value_of(&Atom::from(SINCE))?;
    mark.as_str()?.parse().ok()
}
