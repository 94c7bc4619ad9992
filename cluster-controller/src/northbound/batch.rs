//! The operations that bring some of our rows from what is there to what is wanted: one transaction. Pure.
//!
//! Removals come first, so that a name is free for who gets it next; ports that ask OVN for addresses come last, so that it
//! sees by then which ones others have, however many transactions it takes. Rows are found by their uuids, sets and maps are
//! changed by the elements that are wrong: what another writer does to the same row at the same time stays. An operation
//! on a row that is gone by then does nothing, which the answer's count tells ([`Batch::stale`]); the replica says the
//! rest, and the next batch puts it right.

mod ports;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use ovsdb_session::{Atom, Condition, Datum, Mutation, NamedUuid, Op, OpResult, Row, Uuid};

use super::band::{self, Band};
use super::maps;
use super::observed::{Observed, key_of};
use super::{COPP, Key, SINCE, Table, WantedRow};
use crate::plan::Plan;
use ports::{Ports, since};

/// Why a row cannot be as it shall be, for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// A row that is not ours has its name.
    #[error("the name {0:?} is taken by a row that is not ours")]
    Name(String),
    /// What it refers to is not there.
    #[error("{0} is not there")]
    Missing(Key),
    /// Rows that are not ours would go with it.
    #[error("rows that are not ours hang from it: remove them")]
    ForeignChildren,
    /// The server does not take it.
    #[error("refused: {0}")]
    Refused(String),
}

/// A transaction's operations.
#[derive(Debug, Default)]
pub struct Batch {
    pub ops: Vec<Op>,
    /// The keys that it is about.
    pub keys: BTreeSet<Key>,
    /// Those of them that have to wait.
    pub blocked: Vec<(Key, Blocked)>,
}

/// A row that is there, or will be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Is(Uuid),
    Will(NamedUuid),
}

impl Target {
    fn atom(&self) -> Atom {
        match self {
            Self::Is(uuid) => Atom::Uuid(*uuid),
            Self::Will(name) => Atom::NamedUuid(name.clone()),
        }
    }
}

/// Sets of references that get elements, or lose some: one operation for each set.
type Members = BTreeMap<(Table, Target, &'static str), BTreeSet<Atom>>;

struct Builder<'a> {
    plan: &'a Plan,
    observed: &'a Observed,
    ops: Vec<Op>,
    inserted: BTreeMap<Key, NamedUuid>,
    removed: BTreeSet<Uuid>,
    joined: Members,
    left: Members,
    now: Timestamp,
    ports: Ports<'a>,
}

impl Batch {
    /// What these keys need. At most `limit` of them are taken: the removals first, then in the order of their tables, but
    /// for the ports that ask OVN for addresses, which wait for all others.
    pub fn build(
        plan: &Plan,
        observed: &Observed,
        dirty: &BTreeSet<Key>,
        limit: usize,
        now: Timestamp,
    ) -> Self {
        let (wanted, unwanted): (Vec<&Key>, Vec<&Key>) =
            dirty.iter().partition(|key| plan.get(key).is_some());
        // From the end: ports before the switches that they hang from.
        let ports = Ports::new(observed, now);
        let asks = |key: &&&Key| plan.get(key).is_some_and(|row| ports.asks(key, row));
        let known = wanted.iter().filter(|key| !asks(key));
        let asking = wanted.iter().filter(asks);
        let first = unwanted.iter().rev().chain(known);
        let keys: Vec<&Key> = first.chain(asking).copied().take(limit).collect();
        let mut builder = Builder {
            plan,
            observed,
            ops: Vec::new(),
            inserted: BTreeMap::new(),
            removed: BTreeSet::new(),
            joined: Members::new(),
            left: Members::new(),
            now,
            ports,
        };
        let mut batch = Self::default();
        for key in keys {
            let done = match plan.get(key) {
                Some(row) => builder.ensure(key, row),
                None => builder.remove_all(key),
            };
            if let Err(blocked) = done {
                batch.blocked.push((key.clone(), blocked));
            }
            batch.keys.insert(key.clone());
        }
        batch.ops = builder.finish();
        batch
    }

    /// Was a row gone that an operation was about? Then the replica will say so, and these keys must be looked at again.
    pub fn stale(results: &[OpResult]) -> bool {
        results.iter().any(|result| result.count() == Some(0))
    }
}

impl Builder<'_> {
    fn remove_all(&mut self, key: &Key) -> Result<(), Blocked> {
        for uuid in self.observed.of(key) {
            self.remove(key.table, uuid)?;
        }
        Ok(())
    }

    fn remove(&mut self, table: Table, uuid: Uuid) -> Result<(), Blocked> {
        if self.observed.has_foreign_children(table, uuid) {
            return Err(Blocked::ForeignChildren);
        }
        if !self.removed.insert(uuid) {
            return Ok(());
        }
        if table.is_root() {
            // By the end of the transaction nothing may refer to it.
            for (holder_table, holder, column) in self.observed.holders(uuid) {
                if holder_table.memberships().iter().any(|it| it.column == column) {
                    self.leave(holder_table, holder, column, uuid);
                }
            }
            self.ops.push(Op::delete(table.name()).when(Condition::uuid(uuid)).into());
        } else {
            for (holder_table, holder, column) in self.observed.holders(uuid) {
                self.leave(holder_table, holder, column, uuid);
            }
        }
        Ok(())
    }

    fn leave(&mut self, table: Table, holder: Uuid, column: &'static str, member: Uuid) {
        self.left.entry((table, Target::Is(holder), column)).or_default().insert(Atom::Uuid(member));
    }

    fn ensure(&mut self, key: &Key, wanted: &WantedRow) -> Result<(), Blocked> {
        if key.table.is_of_copp() && self.observed.lacks_copp() {
            return Ok(());
        }
        let mut rows = self.observed.of(key);
        let kept = rows.next();
        let spare: Vec<Uuid> = rows.collect();
        let row = kept.and_then(|uuid| self.observed.get(key.table, uuid));
        let filled_in;
        let wanted = if wanted.dated {
            let since = row.and_then(since).unwrap_or(self.now);
            filled_in = wanted.clone().key("external_ids", SINCE, since.to_string());
            &filled_in
        } else if wanted.assigned.is_empty() {
            wanted
        } else {
            filled_in = self.ports.with_addresses(wanted, kept, row);
            &filled_in
        };
        self.free_name(key, wanted, kept)?;
        // Everything that it refers to, before anything is written.
        let parent = wanted.parent.as_ref().map(|(key, column)| Ok((self.find(key)?, key.table, *column)));
        let parent: Option<(Target, Table, &'static str)> = parent.transpose()?;
        let (mut references, unbounded) = self.references(wanted)?;
        let mut members: BTreeMap<&'static str, BTreeSet<Atom>> = BTreeMap::new();
        for (column, keys) in &wanted.members {
            let atoms = keys.iter().map(|key| Ok(self.find(key)?.atom()));
            members.insert(column, atoms.collect::<Result<_, Blocked>>()?);
        }
        if let Some(band) = wanted.band {
            references.insert("bands", self.band(key, band, row));
        }
        for uuid in spare {
            self.remove(key.table, uuid)?;
        }
        let target = match kept.and_then(|uuid| Some((uuid, self.observed.get(key.table, uuid)?))) {
            Some((uuid, row)) => {
                self.correct(key.table, uuid, row, wanted, &references, &members);
                Target::Is(uuid)
            }
            None => self.insert(key, wanted, references, members),
        };
        if let Some((holder, table, column)) = parent {
            self.hang(key.table, &target, table, holder, column);
        }
        unbounded.map_or(Ok(()), Err)
    }

    /// The rows that it refers to, and why one of them is left out: a switch without bounds is better than none.
    fn references(
        &self,
        wanted: &WantedRow,
    ) -> Result<(BTreeMap<&'static str, Atom>, Option<Blocked>), Blocked> {
        let mut references = BTreeMap::new();
        let mut left_out = None;
        for (column, key) in &wanted.references {
            match self.find(key) {
                _ if *column == COPP && self.observed.lacks_copp() => {}
                Ok(target) => drop(references.insert(*column, target.atom())),
                Err(blocked) if *column == COPP => left_out = Some(blocked),
                Err(blocked) => return Err(blocked),
            }
        }
        Ok((references, left_out))
    }

    /// The Meter's band if it is as it shall be, or a new one.
    fn band(&mut self, meter: &Key, band: Band, row: Option<&Row>) -> Atom {
        let there = row.and_then(|row| row.get("bands")).and_then(Datum::as_atom);
        if let Some(Atom::Uuid(uuid)) = there
            && self.observed.snapshot().get(band::TABLE, *uuid).is_some_and(|row| band.is(row))
        {
            return Atom::Uuid(*uuid);
        }
        let name = NamedUuid::new(&format!("{}/{}", band::TABLE, meter.id));
        self.ops.push(band.insert().named(&name).into());
        Atom::NamedUuid(name)
    }

    /// Where names must differ: nobody else has it, or only a row of ours that goes anyway.
    fn free_name(&mut self, key: &Key, wanted: &WantedRow, kept: Option<Uuid>) -> Result<(), Blocked> {
        let Some(name) = wanted.unique_name(key.table) else { return Ok(()) };
        for uuid in self.observed.named(key.table, name).filter(|uuid| Some(*uuid) != kept) {
            let owner = self.observed.get(key.table, uuid).and_then(|row| key_of(key.table, row));
            match owner {
                Some(owner) if self.plan.get(&owner).is_none() || owner == *key => {
                    self.remove(key.table, uuid)?;
                }
                _ => return Err(Blocked::Name(name.to_owned())),
            }
        }
        Ok(())
    }

    fn find(&self, key: &Key) -> Result<Target, Blocked> {
        let there = self.observed.of(key).next().map(Target::Is);
        there
            .or_else(|| self.inserted.get(key).cloned().map(Target::Will))
            .ok_or_else(|| Blocked::Missing(key.clone()))
    }

    fn insert(
        &mut self,
        key: &Key,
        wanted: &WantedRow,
        references: BTreeMap<&'static str, Atom>,
        members: BTreeMap<&'static str, BTreeSet<Atom>>,
    ) -> Target {
        let name = NamedUuid::new(&format!("{}/{}", key.table.name(), key.id));
        let mut insert = Op::insert(key.table.name()).named(&name);
        for (column, value) in &wanted.columns {
            insert = insert.set(column, value.clone());
        }
        for (column, pairs) in &wanted.maps {
            insert = insert.set(column, Datum::map(pairs.iter().map(|(key, value)| (*key, value.as_str()))));
        }
        for (column, atom) in references {
            insert = insert.set(column, atom);
        }
        for (column, atoms) in members {
            insert = insert.set(column, Datum::set(atoms));
        }
        self.ops.push(insert.into());
        self.inserted.insert(key.clone(), name.clone());
        Target::Will(name)
    }

    fn correct(
        &mut self,
        table: Table,
        uuid: Uuid,
        row: &Row,
        wanted: &WantedRow,
        references: &BTreeMap<&'static str, Atom>,
        members: &BTreeMap<&'static str, BTreeSet<Atom>>,
    ) {
        let mut update = Op::update(table.name()).when(Condition::uuid(uuid));
        let mut updated = false;
        let references = references.iter().map(|(column, atom)| (*column, Datum::from(atom.clone())));
        let columns = wanted.columns.iter().map(|(column, value)| (*column, value.clone()));
        for (column, value) in columns.chain(references) {
            if row.get(column) != Some(&value) {
                update = update.set(column, value);
                updated = true;
            }
        }
        if updated {
            self.ops.push(update.into());
        }
        let mut mutations = Vec::new();
        let no_members = BTreeSet::new();
        // Every map that may hold keys of ours, also when none is wanted any more.
        let none = BTreeMap::new();
        for column in table.columns().iter().filter(|column| !wanted.columns.contains_key(*column)) {
            let pairs = wanted.maps.get(column).unwrap_or(&none);
            mutations.extend(maps::mutations(table, column, row.get(column), pairs));
        }
        for slot in table.memberships() {
            let there: BTreeSet<&Atom> = row.get(slot.column).into_iter().flat_map(Datum::atoms).collect();
            let wanted = members.get(slot.column).unwrap_or(&no_members);
            let is_ours = |atom: &Atom| {
                let Atom::Uuid(uuid) = atom else { return false };
                let row = self.observed.get(slot.holds, *uuid);
                row.is_some_and(|row| key_of(slot.holds, row).is_some())
            };
            let gone = there.iter().filter(|it| !wanted.contains(**it) && is_ours(it));
            let gone: BTreeSet<Atom> = gone.map(|it| (*it).clone()).collect();
            let new: BTreeSet<Atom> = wanted.iter().filter(|it| !there.contains(it)).cloned().collect();
            if !gone.is_empty() {
                mutations.push(Mutation::delete(slot.column, Datum::set(gone)));
            }
            if !new.is_empty() {
                mutations.push(Mutation::insert(slot.column, Datum::set(new)));
            }
        }
        if !mutations.is_empty() {
            self.ops.push(Op::mutate(table.name()).when(Condition::uuid(uuid)).with_all(mutations).into());
        }
    }

    /// Makes the row hang from its holder; and, where a row hangs from one only, from no other.
    fn hang(
        &mut self,
        table: Table,
        target: &Target,
        holder_table: Table,
        holder: Target,
        column: &'static str,
    ) {
        let mut hangs = false;
        if let Target::Is(uuid) = target {
            for (other_table, other, other_column) in self.observed.holders(*uuid) {
                if Target::Is(other) == holder && other_column == column {
                    hangs = true;
                } else if !table.is_root() {
                    self.leave(other_table, other, other_column, *uuid);
                }
            }
        }
        if !hangs {
            self.joined.entry((holder_table, holder, column)).or_default().insert(target.atom());
        }
    }

    fn finish(mut self) -> Vec<Op> {
        let sets: BTreeSet<_> = self.left.keys().chain(self.joined.keys()).cloned().collect();
        for set in sets {
            let (table, target, column) = &set;
            if matches!(target, Target::Is(uuid) if self.removed.contains(uuid)) {
                continue;
            }
            let mut mutations = Vec::new();
            if let Some(members) = self.left.remove(&set) {
                mutations.push(Mutation::delete(column, Datum::set(members)));
            }
            if let Some(members) = self.joined.remove(&set) {
                mutations.push(Mutation::insert(column, Datum::set(members)));
            }
            let row = Condition::equal("_uuid", target.atom());
            self.ops.push(Op::mutate(table.name()).when(row).with_all(mutations).into());
        }
        self.ops
    }
}
