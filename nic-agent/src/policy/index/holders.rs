//! Who has an address.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use super::ids::Slot;

/// On one network.
#[derive(Debug, Default)]
pub struct Holders {
    /// The pod that has this address.
    one: BTreeMap<IpAddr, Slot>,
    /// Others that have it, too: while one is replaced there may be two.
    others: BTreeMap<IpAddr, Vec<Slot>>,
}

impl Holders {
    pub fn of(&self, ip: IpAddr) -> impl Iterator<Item = Slot> {
        let others = self.others.get(&ip).into_iter().flatten();
        self.one.get(&ip).into_iter().chain(others).copied()
    }

    pub fn are_several(&self, ip: IpAddr) -> bool {
        self.others.contains_key(&ip)
    }

    pub fn insert(&mut self, ip: IpAddr, slot: Slot) {
        match self.one.entry(ip) {
            Entry::Vacant(place) => {
                place.insert(slot);
            }
            Entry::Occupied(_) => self.others.entry(ip).or_default().push(slot),
        }
    }

    pub fn remove(&mut self, ip: IpAddr, slot: Slot) {
        let Entry::Occupied(mut holder) = self.one.entry(ip) else { return };
        let Some(others) = self.others.get_mut(&ip) else {
            holder.remove();
            return;
        };
        if let Some(at) = others.iter().position(|it| *it == slot) {
            others.swap_remove(at);
        } else if let Some(other) = others.pop() {
            holder.insert(other);
        }
        if others.is_empty() {
            self.others.remove(&ip);
        }
    }
}
