//! What the agent writes stays as it is, byte for byte, unless somebody means to change it: `br-edge`'s flows, Open vSwitch's
//! rows that are ours, and what closes a representor, of six pods under three policies, on both NICs.
//!
//! Held against `dumps/nic1.txt` and `dumps/nic2.txt`. Numbers that follow from what happened before in the same lab have names
//! there: a conntrack zone is its pod's, a rule set its first pod's, a cookie and a mark the text of their rule. Whoever means to
//! change what is written takes the dump that this prints for the new file, and reads the difference.
//!
//! Flows of the datapath are not in it: which there are follows from the packets of the last seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use regex::{Captures, Regex};
use serde_json::{Value, json};
use tests::Nic;
use tests::nic::NICS;
use tests::policy_lab::{PolicyLab, ROLES, policy_of};

fn policies() -> Vec<Value> {
    let policy = |namespace: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace, "name": name},
            "spec": spec,
        })
    };
    vec![
        policy(
            "a",
            "web",
            json!({
                "podSelector": {"matchLabels": {"app": "a2"}},
                "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": "a1"}}}],
                     "ports": [{"port": "http"}, {"protocol": "UDP", "port": 1000, "endPort": 1009}]},
                    {"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.64/26"]}}]},
                ],
            }),
        ),
        policy(
            "b",
            "egress",
            json!({
                "podSelector": {},
                "policyTypes": ["Egress"],
                "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a"}}}]}],
            }),
        ),
        policy("c", "nothing", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
    ]
}

/// What the agent says of its numbers.
struct Names {
    zones: BTreeMap<u64, String>,
    sets: BTreeMap<u64, String>,
    cookies: BTreeMap<u64, String>,
    marks: BTreeMap<u64, String>,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|e| panic!("{text}: {e}"))
}

impl Names {
    fn of(nic: Nic) -> Self {
        let said = policy_of(nic).unwrap();
        let (mut zones, mut sets) = (BTreeMap::new(), BTreeMap::new());
        // In an order that no number has a part in.
        let pods: BTreeMap<&str, &Value> =
            said["pods"].as_array().unwrap().iter().map(|pod| (pod["name"].as_str().unwrap(), pod)).collect();
        for (name, pod) in pods {
            zones.insert(pod["zone"].as_u64().unwrap(), format!("<zone of {name}>"));
            for direction in ["egress", "ingress"] {
                // 0 is no policy.
                let set = pod[format!("{direction}RuleSet")].as_u64().filter(|set| *set != 0);
                let Some(set) = set else { continue };
                sets.entry(set).or_insert_with(|| format!("<{direction} of {name}>"));
            }
        }
        let cookies = said["rules"].as_object().unwrap().iter();
        let marks = said["marks"].as_object().unwrap().iter();
        Self {
            zones,
            sets,
            cookies: cookies
                .map(|(cookie, rule)| (hex(cookie), format!("<{}>", rule.as_str().unwrap())))
                .collect(),
            marks: marks
                .map(|(mark, it)| (mark.parse().unwrap(), format!("<{}>", it["rule"].as_str().unwrap())))
                .collect(),
        }
    }

    /// A flow as `ovs-ofctl` prints it, with names for numbers.
    fn named(&self, flow: &str) -> String {
        let replace = |text: String, pattern: &str, name: &dyn Fn(&Captures<'_>) -> Option<String>| {
            let pattern = Regex::new(pattern).unwrap();
            let with = |found: &Captures<'_>| name(found).unwrap_or_else(|| found[0].to_owned());
            pattern.replace_all(&text, with).into_owned()
        };
        let zone_of_cookie =
            |cookie: u64| self.zones.get(&(cookie & 0xffff)).map(|it| format!("cookie={it}"));
        let text = replace(flow.to_owned(), r"cookie=(0x[0-9a-f]+)", &|it| {
            let cookie = hex(&it[1]);
            let rule = self.cookies.get(&cookie).map(|it| format!("cookie={it}"));
            rule.or_else(|| (cookie >> 56 == 0xdb).then(|| zone_of_cookie(cookie)).flatten())
        });
        let text = replace(text, r"zone=(\d+)", &|it| {
            self.zones.get(&it[1].parse().unwrap()).map(|zone| format!("zone={zone}"))
        });
        let text = replace(text, r"reg0=(0x[0-9a-f]+|\d+)\b", &|it| {
            let set = if it[1].starts_with("0x") { hex(&it[1]) } else { it[1].parse().unwrap() };
            self.sets.get(&set).map(|set| format!("reg0={set}"))
        });
        let text = replace(text, r"set_field:(0x[0-9a-f]+)->reg0\b", &|it| {
            self.sets.get(&hex(&it[1])).map(|set| format!("set_field:{set}->reg0"))
        });
        let text = replace(text, r"set_field:(0x[0-9a-f]+)->reg2\b", &|it| {
            self.zones.get(&hex(&it[1])).map(|zone| format!("set_field:{zone}->reg2"))
        });
        replace(text, r"set_field:(0x[0-9a-f]+)->reg5\b", &|it| {
            self.marks.get(&hex(&it[1])).map(|mark| format!("set_field:{mark}->reg5"))
        })
    }
}

/// Ours, as OVSDB has them, without what Open vSwitch fills in.
fn rows(nic: Nic) -> Vec<String> {
    let table = |name: &str, columns: &str| -> Vec<Vec<Value>> {
        let columns = format!("--columns={columns}");
        let said = nic.vsctl(&["--format=json", &columns, "list", name]);
        let said: Value = serde_json::from_str(&said).unwrap();
        said["data"].as_array().unwrap().iter().map(|row| row.as_array().unwrap().clone()).collect()
    };
    // OVSDB has a map's pairs in order of their keys. A sandbox and a pod's uid are made for each run.
    let random = Regex::new(r#"\["(drawbridge.dev/sandbox|iface-id-ver)","[^"]*"\]"#).unwrap();
    let row = |kind: &str, values: &[Value]| {
        let text: Vec<String> = values.iter().map(ToString::to_string).collect();
        random.replace_all(&format!("{kind} {}", text.join(" ")), r#"["$1",…]"#).into_owned()
    };
    let ours = |text: &String| text.contains("drawbridge.dev/owner");
    let bridges = table("Bridge", "name,datapath_type,fail_mode,protocols,external_ids,other_config");
    let interfaces = table("Interface", "name,type,options,ofport_request,external_ids");
    let mut rows: Vec<String> = bridges.iter().map(|it| row("Bridge", it)).filter(ours).collect();
    // ovn-controller marks what it has installed, and the kernel what it made of a port.
    let theirs =
        Regex::new(r#",?\["(ovn-installed|ovn-installed-ts|ovn-netdev-flags:[a-z]+)","[^"]*"\]"#).unwrap();
    let interfaces = interfaces.iter().map(|it| theirs.replace_all(&row("Interface", it), "").into_owned());
    rows.extend(interfaces.filter(ours));
    rows.sort();
    rows
}

/// What closes a representor that nobody holds, and that the held are up.
fn representors(nic: Nic) -> Vec<String> {
    let closed = nic.run(&["tc", "-s", "filter", "show", "dev", "pf0vf30", "ingress"]).ok();
    let counters = Regex::new(r"(?m)^\s*(Sent|backlog|Action statistics:|index|used_hw_stats|installed).*\n|\s+(in_hw_count|ref|bind) \d+|installed \d+ sec.*").unwrap();
    let up: BTreeSet<String> = nic.representors().into_iter().filter(|it| it.1).map(|it| it.0).collect();
    let filters = counters.replace_all(&closed, "").into_owned();
    let filters =
        filters.lines().map(str::trim).filter(|it| !it.is_empty()).map(|it| format!("pf0vf30: {it}"));
    filters.chain([format!("up: {}", up.into_iter().collect::<Vec<_>>().join(" "))]).collect()
}

fn dump(nic: Nic) -> String {
    let names = Names::of(nic);
    let mut flows: Vec<String> = nic.flows().iter().map(|flow| names.named(flow)).collect();
    flows.sort();
    let parts = [("flows", flows), ("rows", rows(nic)), ("representors", representors(nic))];
    parts.iter().map(|(name, lines)| format!("# {name}\n{}\n", lines.join("\n"))).collect()
}

/// The lines in which two texts differ.
fn difference(wanted: &str, got: &str) -> Vec<String> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (wanted, got) = (lines(wanted), lines(got));
    let gone = wanted.difference(&got).map(|line| format!("- {line}"));
    gone.chain(got.difference(&wanted).map(|line| format!("+ {line}"))).collect()
}

#[test]
fn what_is_written_is_what_was_written() {
    let mut lab = PolicyLab::start();
    assert_eq!(ROLES.len(), 6);
    let mut items = lab.objects();
    items.extend(policies());
    lab.enforce(&items);
    lab.settle();
    let wanted = [include_str!("dumps/nic1.txt"), include_str!("dumps/nic2.txt")];
    let dumps = NICS.map(|nic| {
        nic.settle();
        dump(nic)
    });
    for (nic, (wanted, got)) in NICS.iter().zip(wanted.iter().zip(&dumps)) {
        if wanted != got {
            println!("=== {}.txt\n{got}===", nic.place());
        }
    }
    for (nic, (wanted, got)) in NICS.iter().zip(wanted.iter().zip(&dumps)) {
        assert_eq!(difference(wanted, got), [""; 0], "{nic:?}");
        assert!(*wanted == got.as_str(), "{nic:?}: the same lines in another order, or one of them twice");
    }
}
