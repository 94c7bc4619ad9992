//! `docs/trust.md` says of every field that we read who can write it: the types that read them are walked here, as they
//! stand in the source.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of a directory, one after the other; its tests are in one of their own.
fn read_all(path: &str) -> String {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|it| it != "tests.rs").map(|it| read(&format!("{path}/{it}"))).collect()
}

/// Fields as they are called outside, with the text of their types.
type Structs = BTreeMap<String, Vec<(String, String)>>;

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| format!("{text}{}{}", part[..1].to_uppercase(), &part[1..]))
}

/// Without the tests at its end.
fn code(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// The structs of a Rust file, as serde reads them; for `table!`, as OVSDB has them.
fn structs(source: &str) -> Structs {
    let mut found = Structs::new();
    let mut attributes: Vec<&str> = Vec::new();
    let mut within: Option<(String, bool)> = None;
    for line in code(source).lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push(line);
            continue;
        }
        if line.starts_with("//") || line.is_empty() {
            continue;
        }
        match &within {
            None => {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let Some(at) = words.iter().position(|word| *word == "struct")
                    && line.ends_with('{')
                {
                    // `table!` names the table besides.
                    let name = words[at + 1].trim_end_matches(':');
                    let name = words
                        .get(at + 2)
                        .filter(|it| it.starts_with('"'))
                        .map_or(name, |it| it.trim_matches('"'));
                    let renamed = attributes.iter().any(|it| it.contains("rename_all = \"camelCase\""));
                    found.entry(name.to_owned()).or_default();
                    within = Some((name.to_owned(), renamed));
                }
            }
            Some(_) if line == "}" => within = None,
            Some((owner, renamed)) => {
                if let Some((name, kind)) = line.split_once(':') {
                    let name = ["pub(super) ", "pub(crate) ", "pub "]
                        .iter()
                        .fold(name, |name, visible| name.trim_start_matches(visible));
                    let quoted =
                        |text: &str| Some(text.split_once("rename = \"")?.1.split('"').next()?.to_owned());
                    let column =
                        kind.split_once("= \"").map(|(_, it)| it.split('"').next().unwrap().to_owned());
                    let said = attributes.iter().find_map(|it| quoted(it)).or(column);
                    let name = said.unwrap_or_else(|| if *renamed { camel(name) } else { name.to_owned() });
                    found.get_mut(owner).unwrap().push((name, kind.to_owned()));
                }
            }
        }
        attributes.clear();
    }
    found
}

/// The messages of a `.proto` file.
fn messages(source: &str) -> Structs {
    let mut found = Structs::new();
    let mut stack: Vec<String> = Vec::new();
    for line in source.lines() {
        let line = line.split("//").next().unwrap().trim();
        if let Some(rest) = line.strip_prefix("message ") {
            let name = rest.split_whitespace().next().unwrap().trim_end_matches("{}").to_owned();
            found.entry(name.clone()).or_default();
            if !line.ends_with('}') {
                stack.push(name);
            }
        } else if line == "}" {
            stack.pop();
        } else if let (Some(owner), Some((declared, _))) = (stack.last(), line.split_once('=')) {
            let mut words = declared.split_whitespace().rev();
            let name = words.next().unwrap().to_owned();
            found.get_mut(owner).unwrap().push((name, words.next().unwrap().to_owned()));
        }
    }
    found
}

/// What is read below this struct, by paths; objects' metadata apart.
fn leaves(structs: &Structs, name: &str, path: &str, found: &mut BTreeSet<String>) {
    for (field, kind) in &structs[name] {
        if field == "metadata" {
            continue;
        }
        let mut words = kind.split(|c: char| !c.is_alphanumeric() && c != '_');
        let of = words.rfind(|word| structs.contains_key(*word));
        let path = format!("{path}.{field}");
        match of {
            Some(of) => leaves(structs, of, &path, found),
            None => drop(found.insert(path)),
        }
    }
}

/// Which parts of objects' metadata a file reads: kube's type has all of them.
fn metadata(source: &str, found: &mut BTreeSet<String>) {
    let code = code(source);
    for begin in ["metadata.", "meta.", "meta().", "/metadata/"] {
        for (at, _) in code.match_indices(begin) {
            if at > 0 && code.as_bytes()[at - 1].is_ascii_alphanumeric() {
                continue;
            }
            let rest = &code[at + begin.len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // A function of kube's, or of ours.
            if !name.is_empty() && !rest[name.len()..].starts_with('(') {
                let name = if name == "resourceVersion" { "resource_version".to_owned() } else { name };
                found.insert(format!("*.metadata.{name}"));
            }
        }
    }
}

fn all_that_is_read() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut walk = |structs: &Structs, roots: &[(&str, &str)]| {
        for (name, path) in roots {
            leaves(structs, name, path, &mut found);
        }
    };
    let controller = read("cluster-controller/src/cluster/object.rs");
    walk(
        &structs(&read("cluster-controller/src/cluster/object/raw.rs")),
        &[
            ("NodeObject", "Node"),
            ("NicNodeObject", "NicNode"),
            ("AttachmentObject", "PodAttachment"),
            ("PodObject", "Pod"),
        ],
    );
    let services = read("nic-agent/services/src/raw.rs");
    walk(&structs(&services), &[("Service", "Service"), ("EndpointSlice", "EndpointSlice")]);
    let raw = read("nic-agent/src/policy/model/raw.rs");
    walk(&structs(&raw), &[("Pod", "Pod"), ("Namespace", "Namespace")]);
    let word = read("nic-agent/src/policy/model/raw/word.rs");
    walk(
        &structs(&word),
        &[("PodAttachment", "PodAttachment"), ("NicNode", "NicNode"), ("NodeRange", "NodeRange")],
    );
    let policy = structs(&read("nic-agent/src/policy/model/raw/network_policy.rs"));
    // Of what is below its rules the table speaks as a whole.
    let policy: Structs = policy.into_iter().filter(|(name, _)| name != "Rule").collect();
    walk(&policy, &[("Policy", "NetworkPolicy")]);
    let nic_node = structs(&read("nic-agent/api/src/nic_node.rs"));
    walk(&nic_node, &[("NicNodeSpec", "NicNode.spec")]);
    let ranges = structs(&read("nic-agent/api/src/node_range.rs"));
    walk(&ranges, &[("NodeRangeSpec", "NodeRange.spec"), ("NodeRangeStatus", "NodeRange.status")]);
    let southbound = structs(&read("nic-agent/ovsdb/src/rows/southbound.rs"));
    walk(&southbound, &[("Port_Binding", "Port_Binding"), ("Chassis", "Chassis")]);
    let shim = messages(&read("proto/proto/nic_agent.proto"));
    let requests = ["AttachRequest", "DetachRequest", "CheckRequest", "ListRequest", "StatusRequest"];
    walk(&shim, &requests.map(|it| (it, it)));
    let agent = read("nic-agent/src/cluster/object.rs");
    let kinds = read_all("nic-agent/src/cluster/kinds");
    for source in [
        &kinds,
        &controller,
        &agent,
        &services,
        &read("cluster-controller/src/watch.rs"),
        &read("cluster-controller/src/ranges.rs"),
    ] {
        metadata(source, &mut found);
    }
    found
}

/// In the first column of a table, between backticks.
fn table() -> BTreeSet<String> {
    let text = read("docs/trust.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| line.split('|').nth(1).unwrap());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_field_that_is_read_is_in_the_table() {
    let (read, table) = (all_that_is_read(), table());
    assert!(read.len() > 90, "the types are not found where they were: {read:?}");
    let missing: Vec<&String> = read.difference(&table).collect();
    assert!(missing.is_empty(), "docs/trust.md does not say who writes {missing:#?}");
    // Read by a path in a text, or where no type says so.
    let elsewhere = ["Node.status.addresses", "Namespace"];
    let unread: Vec<&String> = table
        .difference(&read)
        .filter(|it| !it.contains(".yaml") && !elsewhere.contains(&it.as_str()))
        .collect();
    assert!(unread.is_empty(), "docs/trust.md speaks of what nobody reads: {unread:#?}");
    for path in elsewhere {
        assert!(table.contains(path), "{path}");
    }
}

/// Does the walk see a field at all?
#[test]
fn a_field_that_is_added_is_seen() {
    let source = "#[derive(Deserialize)]\n#[serde(rename_all = \"camelCase\")]\npub struct Outer {\n    metadata: ObjectMeta,\n    \
                  /// Text.\n    some_list: Vec<Inner>,\n}\n\nstruct Inner {\n    #[serde(default, rename = \"podIP\")]\n    \
                  pod_ip: Option<String>,\n    plain_name: String,\n}\n";
    let mut found = BTreeSet::new();
    leaves(&structs(source), "Outer", "Kind", &mut found);
    assert_eq!(found, ["Kind.someList.podIP", "Kind.someList.plain_name"].map(str::to_owned).into());
    let proto = "message Vf {\n  uint32 pf = 1; // of it\n}\nmessage Request {\n  repeated Vf vf = 1;\n  string name = 2;\n}\n";
    let mut found = BTreeSet::new();
    leaves(&messages(proto), "Request", "Request", &mut found);
    assert_eq!(found, ["Request.vf.pf", "Request.name"].map(str::to_owned).into());
}
