//! The northbound as it is: the monitor's replica, with what is needed to find our rows in it. Pure.
//!
//! [`Observed::update`] costs what has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ovsdb_session::rows::northbound::NbGlobal;
use ovsdb_session::{Atom, Datum, MonitorTable, Row, Snapshot, Uuid};

use super::{COPP, GROUP_NAME, KEY, Key, OWNER, OWNER_VALUE, Table, ZONE_GROUPS, band};

/// The tables that a replica must hold.
pub fn monitored() -> Vec<MonitorTable> {
    let tables = Table::ALL.into_iter().map(|table| MonitorTable {
        name: table.name().to_owned(),
        columns: table.columns().iter().map(|column| (*column).to_owned()).collect(),
        conditions: ovsdb_session::Rows::All,
    });
    tables.chain([band::monitored(), MonitorTable::of::<NbGlobal>()]).collect()
}

/// The rows, ours by their keys.
#[derive(Debug, Default)]
pub struct Observed {
    snapshot: Snapshot,
    keys: BTreeMap<Key, BTreeSet<Uuid>>,
    names: BTreeMap<(Table, Arc<str>), BTreeSet<Uuid>>,
    /// Which rows refer to a row, and in which columns.
    holders: HashMap<Uuid, BTreeSet<(Table, Uuid, &'static str)>>,
}

/// The row's key, if it is ours.
pub fn key_of(table: Table, row: &Row) -> Option<Key> {
    if table == Table::LoadBalancerGroup {
        let name = name_of(row)?;
        return (name == GROUP_NAME || name.starts_with(ZONE_GROUPS)).then(|| Key::new(table, name));
    }
    let marks = row.get("external_ids")?;
    let mark = |name: &str| marks.value_of(&Atom::from(name)).and_then(Atom::as_str);
    // With our mark and without a key it is nothing that is wanted: it goes.
    (mark(OWNER)? == OWNER_VALUE).then(|| Key::new(table, mark(KEY).unwrap_or_default()))
}

fn name_of(row: &Row) -> Option<&str> {
    row.get("name").and_then(Datum::as_str)
}

fn uuids(row: Option<&Row>, column: &str) -> BTreeSet<Uuid> {
    let atoms = row.and_then(|row| row.get(column)).into_iter().flat_map(Datum::atoms);
    atoms.filter_map(|atom| if let Atom::Uuid(uuid) = atom { Some(*uuid) } else { None }).collect()
}

impl Observed {
    /// Takes the replica as it is now, and returns the keys whose rows, or references to them, are others.
    pub fn update(&mut self, snapshot: Snapshot) -> BTreeSet<Key> {
        let changes = snapshot.changes_since(&self.snapshot);
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        let mut touched = BTreeSet::new();
        for change in &changes {
            if &*change.table == band::TABLE {
                // Whose it is or was: few enough to look at them all.
                let meters = self.keys.range(Key::new(Table::Meter, "")..).map(|(key, _)| key);
                touched.extend(meters.take_while(|key| key.table == Table::Meter).cloned());
                continue;
            }
            let Some(table) = Table::of(&change.table) else { continue };
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            let (old_key, new_key) =
                (old.and_then(|row| key_of(table, row)), new.and_then(|row| key_of(table, row)));
            if old_key != new_key {
                if let Some(key) = &old_key {
                    forget(&mut self.keys, key, &change.uuid);
                }
                if let Some(key) = &new_key {
                    self.keys.entry(key.clone()).or_default().insert(change.uuid);
                }
            }
            touched.extend(old_key.into_iter().chain(new_key));
            if table.unique_names() {
                self.rename(table, change.uuid, old, new);
            }
            for slot in table.slots().iter().chain(table.memberships()) {
                let (was, is) = (uuids(old, slot.column), uuids(new, slot.column));
                let holder = (table, change.uuid, slot.column);
                for child in was.symmetric_difference(&is) {
                    if is.contains(child) {
                        self.holders.entry(*child).or_default().insert(holder);
                    } else {
                        forget_hashed(&mut self.holders, child, &holder);
                    }
                    let row = [&self.snapshot, &before]
                        .into_iter()
                        .find_map(|snapshot| snapshot.get(slot.holds.name(), *child));
                    touched.extend(row.and_then(|row| key_of(slot.holds, row)));
                }
            }
        }
        touched
    }

    fn rename(&mut self, table: Table, uuid: Uuid, old: Option<&Row>, new: Option<&Row>) {
        let (old, new) = (old.and_then(name_of), new.and_then(name_of));
        if old == new {
            return;
        }
        if let Some(old) = old {
            forget(&mut self.names, &(table, old.into()), &uuid);
        }
        if let Some(new) = new {
            self.names.entry((table, new.into())).or_default().insert(uuid);
        }
    }

    /// The replica itself.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Can the server not hold all that control plane protection takes?
    pub fn lacks_copp(&self) -> bool {
        self.snapshot.missing.iter().any(|missing| {
            let (table, column) = missing.split_once('.').unwrap_or((missing, ""));
            column == COPP || table == band::TABLE || Table::of(table).is_some_and(Table::is_of_copp)
        })
    }

    /// Rows that bear this key. More than one only if somebody has copied our mark: the first counts.
    pub fn of(&self, key: &Key) -> impl Iterator<Item = Uuid> {
        self.keys.get(key).into_iter().flatten().copied()
    }

    /// All keys of which there are rows.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys()
    }

    /// A row.
    pub fn get(&self, table: Table, uuid: Uuid) -> Option<&Row> {
        self.snapshot.get(table.name(), uuid)
    }

    /// The rows that have this name.
    pub fn named(&self, table: Table, name: &str) -> impl Iterator<Item = Uuid> {
        self.names.get(&(table, name.into())).into_iter().flatten().copied()
    }

    /// Who refers to this row, and in which column.
    pub fn holders(&self, uuid: Uuid) -> impl Iterator<Item = (Table, Uuid, &'static str)> {
        self.holders.get(&uuid).into_iter().flatten().copied()
    }

    /// Do rows hang from this one that are not ours, and would be gone with it?
    pub fn has_foreign_children(&self, table: Table, uuid: Uuid) -> bool {
        let row = self.get(table, uuid);
        let strong = table.slots().iter().filter(|slot| !slot.holds.is_root());
        strong
            .flat_map(|slot| uuids(row, slot.column).into_iter().map(move |child| (slot.holds, child)))
            .any(|(table, child)| self.get(table, child).is_some_and(|row| key_of(table, row).is_none()))
    }
}

fn forget<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = index.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            index.remove(key);
        }
    }
}

fn forget_hashed<V: Ord>(index: &mut HashMap<Uuid, BTreeSet<V>>, key: &Uuid, value: &V) {
    if let Some(set) = index.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            index.remove(key);
        }
    }
}
