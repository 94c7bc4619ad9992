//! A case that was wrong once, as a file: `tests/fixtures/policy/*.json`. Pods stand in it by their role; their addresses
//! and uids are those of the lab that replays it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Difference, Kind, PolicyLab, Probe, ROLES};

/// A case to try again.
#[derive(Debug)]
pub struct Fixture {
    pub path: PathBuf,
    pub items: Vec<Value>,
    pub probe: Probe,
}

/// Where the fixtures are kept.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/policy")
}

/// Replaces addresses, alone or as a prefix.
fn readdress(value: &mut Value, known: &[(String, String)]) {
    match value {
        Value::String(text) => {
            let (address, length) = text.split_once('/').map_or((text.as_str(), None), |(a, l)| (a, Some(l)));
            if let Some((_, new)) = known.iter().find(|(old, _)| old == address) {
                *text = length.map_or_else(|| new.clone(), |length| format!("{new}/{length}"));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|it| readdress(it, known)),
        Value::Object(map) => map.values_mut().for_each(|it| readdress(it, known)),
        _ => {}
    }
}

impl PolicyLab {
    /// `why`: how it came about.
    pub fn to_fixture(&self, why: &str, items: &[Value], difference: &Difference) -> Value {
        let addresses = (0..ROLES.len()).map(|it| (ROLES[it].name.to_owned(), json!(self.addresses(it))));
        let pods = items.iter().filter(|it| it["kind"] == "Pod").map(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let ports = &pod["spec"]["containers"][0]["ports"];
            (name, json!({"labels": pod["metadata"]["labels"], "ports": ports}))
        });
        let others: Vec<&Value> = items.iter().filter(|it| it["kind"] != "Pod").collect();
        let probe = difference.probe;
        json!({
            "why": why,
            "difference": self.describe(difference),
            "probe": {"from": ROLES[probe.from].name, "to": probe.to, "kind": probe.kind.to_string()},
            "addresses": addresses.collect::<Map<_, _>>(),
            "pods": pods.collect::<Map<_, _>>(),
            "objects": others,
        })
    }

    #[track_caller]
    pub fn fixture(&self, path: &Path) -> Fixture {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let stored: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut known = Vec::new();
        for (index, role) in ROLES.iter().enumerate() {
            let old = stored["addresses"][role.name].as_array().expect("the pod's addresses").clone();
            let new = self.addresses(index);
            known.extend(
                old.iter()
                    .zip(new)
                    .map(|(old, new)| (old.as_str().unwrap_or_default().to_owned(), new.to_string())),
            );
        }
        let mut items = stored["objects"].as_array().expect("objects").clone();
        for item in &mut items {
            readdress(item, &known);
        }
        for (index, role) in ROLES.iter().enumerate() {
            let pod = &stored["pods"][role.name];
            items.push(self.pod_object(index, &pod["labels"], &pod["ports"]));
        }
        let mut probe = stored["probe"].clone();
        readdress(&mut probe, &known);
        let text =
            |key: &str| probe[key].as_str().unwrap_or_else(|| panic!("{}: probe.{key}", path.display()));
        let to: IpAddr = text("to").parse().expect("an address");
        let kind = Kind::parse(text("kind")).unwrap_or_else(|| panic!("{}: probe.kind", path.display()));
        Fixture { path: path.to_owned(), items, probe: Probe { from: self.index(text("from")), to, kind } }
    }

    /// All fixtures there are, by name.
    #[track_caller]
    pub fn fixtures(&self) -> Vec<Fixture> {
        let directory = directory();
        let entries =
            std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("a file").path()).collect();
        paths.retain(|it| it.extension().is_some_and(|it| it == "json"));
        paths.sort();
        paths.iter().map(|it| self.fixture(it)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_replaced_whole() {
        let known =
            [("10.0.0.1".to_owned(), "10.9.9.9".to_owned()), ("fd00::1".to_owned(), "fd09::9".to_owned())];
        let mut value =
            json!({"a": ["10.0.0.1/32", "10.0.0.10", "10.0.0.0/8"], "b": {"c": "fd00::1"}, "d": 1});
        readdress(&mut value, &known);
        assert_eq!(
            value,
            json!({"a": ["10.9.9.9/32", "10.0.0.10", "10.0.0.0/8"], "b": {"c": "fd09::9"}, "d": 1})
        );
    }
}
