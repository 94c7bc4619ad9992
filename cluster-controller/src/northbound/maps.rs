//! Maps that we share with others: of each only our keys are ours. Pure.

use std::collections::BTreeMap;

use ovsdb_session::{Datum, Mutation};

use super::Table;

/// Our keys of a map, from what is there to what is wanted.
pub fn mutations(
    table: Table,
    column: &'static str,
    there: Option<&Datum>,
    wanted: &BTreeMap<&'static str, String>,
) -> Vec<Mutation> {
    let there: BTreeMap<&str, &str> = there
        .into_iter()
        .flat_map(Datum::pairs)
        .filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
        .collect();
    let stale = there
        .iter()
        .filter(|(key, value)| match wanted.get(*key) {
            Some(wanted) => wanted.as_str() != **value,
            None => table.owns_key(column, key),
        })
        .map(|(key, _)| *key);
    let missing = wanted
        .iter()
        .filter(|(key, value)| there.get(*key) != Some(&value.as_str()))
        .map(|(key, value)| (*key, value.as_str()));
    let (stale, missing) = (Datum::set(stale), Datum::map(missing));
    let mut mutations = Vec::new();
    if !stale.is_empty() {
        mutations.push(Mutation::delete(column, stale));
    }
    if !missing.is_empty() {
        mutations.push(Mutation::insert(column, missing));
    }
    mutations
}
