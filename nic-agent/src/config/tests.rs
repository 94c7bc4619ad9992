use std::collections::BTreeSet;

use proptest::prelude::*;
use toml::{Table, Value};

use super::*;

const EXAMPLE: &str = include_str!("../../../packaging/nic-agent.example.toml");

/// The example with its commented keys in force: those with a default, or those marked as an example too.
fn uncommented(examples_too: bool) -> String {
    let mut text = String::new();
    let mut example = false;
    for line in EXAMPLE.lines() {
        let key = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        match key {
            Some(key) if !example || examples_too => text.push_str(key),
            _ => text.push_str(line),
        }
        text.push('\n');
        // An example table lasts until the next empty line.
        example = line == "# Example" || (example && in_table(&text));
    }
    text
}

fn in_table(text: &str) -> bool {
    text.lines()
        .rev()
        .take_while(|line| !line.is_empty())
        .any(|line| line.trim_start_matches('#').starts_with("[["))
}

fn example() -> Config {
    EXAMPLE.parse().unwrap()
}

/// Every key of the full example, as messages name it.
fn keys(prefix: &str, table: &Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(table) => all.extend(keys(&path, table)),
            Value::Array(items) if items.iter().all(Value::is_table) => {
                for (index, item) in items.iter().enumerate() {
                    all.extend(keys(&format!("{path}[{index}]"), item.as_table().unwrap()));
                }
            }
            _ => {
                all.insert(path);
            }
        }
    }
    all
}

fn slot<'a>(mut table: &'a mut Table, key: &'a str) -> (&'a mut Table, &'a str) {
    let mut path: Vec<_> = key.split('.').collect();
    let last = path.pop().unwrap();
    for part in path {
        table = match part.split_once('[') {
            Some((name, index)) => {
                let index: usize = index.trim_end_matches(']').parse().unwrap();
                table[name].as_array_mut().unwrap()[index].as_table_mut().unwrap()
            }
            None => table.entry(part).or_insert_with(|| Value::Table(Table::new())).as_table_mut().unwrap(),
        };
    }
    (table, last)
}

fn full() -> Table {
    uncommented(true).parse().unwrap()
}

fn parse(table: &Table) -> Result<Config, Vec<Problem>> {
    match table.to_string().parse() {
        Ok(config) => Ok(config),
        Err(ConfigError::Invalid(problems)) => Err(problems),
        Err(other) => panic!("{other}"),
    }
}

fn with(key: &str, value: impl Into<Value>) -> Result<Config, Vec<Problem>> {
    let mut table = full();
    let (slot, last) = slot(&mut table, key);
    slot.insert(last.to_owned(), value.into());
    parse(&table)
}

/// Wrong values for each key, beyond those of a wrong type.
fn wrong() -> Vec<(&'static str, Vec<Value>)> {
    let text = |values: &[&str]| values.iter().map(|value| Value::from(*value)).collect::<Vec<_>>();
    let number = |values: &[i64]| values.iter().map(|value| Value::from(*value)).collect::<Vec<_>>();
    let paths = || text(&["", "relative/path", "~/file"]);
    let listen = vec![
        Value::Array(vec![]),
        vec!["192.168.100.2"].into(),
        vec!["host:8443"].into(),
        vec!["fd00::2:8443"].into(),
        vec!["10.0.0.1:70000"].into(),
        vec!["10.0.0.1:1", "10.0.0.1:1"].into(),
        vec![5].into(),
    ];
    let remotes =
        ["", "192.0.2.1:6642", "tcp:192.0.2.1", "tcp:192.0.2.1:0", "tcp:192.0.2.1:x", "ssl:fd00::1:6642"];
    let remotes =
        [&remotes[..], &["udp:192.0.2.1:6642", "unix:relative", "tcp:[192.0.2.1]:1", "tcp:a b:1"]].concat();
    let southbound = [&remotes[..], &["tcp:192.0.2.1:1,", "tcp:192.0.2.1:1,tcp:192.0.2.1:1"]].concat();
    let ranges = ["", "5", "0-10", "10-5", "1-65536", "a-b", "1-2-3", "-1-5", "+1-5", " 1-5"];
    let names = ["", "sixteen-letters-", "a/b", "a b", "a:b", ".", "a,b"];
    vec![
        ("node.name", text(&["", "Server1", "under_score", "-a", "a..b", "two words"])),
        ("node.host-identity", text(&["", "a b", "https://server1", "192.0.2.1 "])),
        ("server.listen", listen),
        ("server.cert", paths()),
        ("server.key", paths()),
        ("server.client-ca", paths()),
        ("server.attach-timeout-seconds", number(&[-1, 0, 4, 111, i64::MAX])),
        ("server.max-connections", number(&[-1, 0, 1025, i64::MIN])),
        ("ovs.db", text(&[&remotes[..], &["ssl:192.0.2.1:6640"]].concat())),
        ("ovs.run-dir", paths()),
        ("ovs.system-id-file", paths()),
        ("ovn.run-dir", paths()),
        ("chassis.system-id", text(&["", "two words", "a,b", "a\"b", "a\nb"])),
        ("chassis.hostname", text(&["", "Upper", "a_b"])),
        ("chassis.ovn-remote", text(&southbound)),
        ("chassis.ovn-encap-type", text(&["", "stt", "gre", "geneve,", "geneve,geneve", "Geneve"])),
        (
            "chassis.ovn-encap-ip",
            text(&[
                "",
                "host",
                "192.0.2.1/24",
                "0.0.0.0",
                "::",
                "127.0.0.1",
                "::1",
                "224.0.0.1",
                "ff02::1",
                "1.2.3.4,",
            ]),
        ),
        ("chassis.ovn-bridge", text(&names)),
        (
            "chassis.ovn-bridge-mappings",
            text(&["physnet1", ":br", "p:", "p:br,", "p:a/b", "p:sixteen-letters-"]),
        ),
        ("chassis.ovn-transport-zones", text(&["a,", "a b", "a,a"])),
        ("chassis.ct-zone-range", text(&ranges)),
        ("chassis.hw-offload", text(&["true"])),
        ("chassis.tc-policy", text(&["", "skip-sw", "both"])),
        ("southbound.private-key", paths()),
        ("southbound.certificate", paths()),
        ("southbound.ca-cert", paths()),
        ("edge.bridge", text(&[&names[..], &["br-int"]].concat())),
        (
            "edge.ct-zones",
            text(&[&ranges[..], &["61000-61255", "59999-60000", "1-1", "59000-59100"]].concat()),
        ),
        ("edge.pod-connections", number(&[-1, 0, 63, 4_000_001])),
        ("edge.pod-connection-rate", number(&[-1, 0, 9, 1_000_001])),
        ("edge.mtu", number(&[-1, 1, 1279, 9979, i64::MAX])),
        ("eswitch.device", text(&["pci", "pci/", "/0000:03:00.0", "pci/a/b", "pci/a b"])),
        ("eswitch.controller", number(&[-1, 256])),
        ("profile.kind", text(&["", "ovnkubernetes", "Plain"])),
        (
            "profile.template",
            text(&[
                "",
                "{name}",
                "{namespace}",
                "pod",
                "{namespace}_{name",
                "{namespace}_{nam}",
                "{namespace} {name}",
                "{namespace}-{name}",
                "{name}.{namespace}.{network}.ovn",
            ]),
        ),
        ("profile.dhcp", number(&[1])),
        ("profile.dhcp-servers", text(&["ovn", "0.0.0.0", "10.0.0.1,10.0.0.1", "10.0.0.0/8", "ff02::1:2"])),
        ("profile.ipv4.prefix-length", number(&[-1, 0, 33, 256])),
        (
            "profile.ipv4.gateway",
            text(&["fd00::1", "10.0.0.1/24", "0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1"]),
        ),
        ("profile.ipv6.prefix-length", number(&[-1, 0, 129])),
        ("profile.ipv6.gateway", text(&["10.0.0.1", "fd00::1/64", "::", "ff02::1", "::1", "fe80::1%eth0"])),
        (
            "profile.routes[0].destination",
            text(&["", "10.96.0.0", "10.96.0.1/16", "10.96.0.0/33", "fd00::1/64", "default"]),
        ),
        ("profile.routes[0].gateway", text(&["fd00::1", "gateway", "0.0.0.0", "10.0.0.0/8"])),
        ("cluster.kubeconfig", text(&["relative/path", "~/file"])),
        ("directory.file", paths()),
        ("policy.file", text(&["policy.json"])),
        ("policy.node-addresses", text(&["node1", "0.0.0.0", "10.0.0.1,10.0.0.1", "10.0.0.0/8", "ff02::1"])),
        ("policy.budget.policy-rules", number(&[-1, 0, 5_001, i64::MAX])),
        ("policy.budget.policy-prefixes", number(&[-1, 0, 1_000_001, i64::MAX])),
        ("policy.budget.policy-ports", number(&[-1, 0, 1_000_001, i64::MAX])),
        ("policy.budget.policy-bytes", number(&[-1, 0, 1_073_741_825, i64::MAX])),
        ("policy.budget.namespace-rules", number(&[-1, 0, 1_000_001, i64::MAX])),
        ("policy.budget.namespace-prefixes", number(&[-1, 0, 10_000_001, i64::MAX])),
        ("policy.budget.namespace-ports", number(&[-1, 0, 10_000_001, i64::MAX])),
        ("policy.budget.namespace-bytes", number(&[-1, 0, 4_294_967_297, i64::MAX])),
        ("policy.budget.service-ports", number(&[-1, 0, 65_536, i64::MAX])),
        ("policy.budget.service-endpoints", number(&[-1, 0, 10_000_001, i64::MAX])),
        ("policy.budget.namespace-service-ports", number(&[-1, 0, 1_000_001, i64::MAX])),
        ("policy.budget.namespace-service-endpoints", number(&[-1, 0, 100_000_001, i64::MAX])),
        ("policy.budget.pod-flows", number(&[-1, 0, 10_000_001, i64::MAX])),
        ("policy.budget.pod-service-flows", number(&[-1, 0, 1_000_001, i64::MAX])),
        ("state.dir", paths()),
        ("metrics.listen", text(&["127.0.0.1", "localhost:9464", "9464", ":9464"])),
        (
            "log.level",
            text(&["", "verbose", "INFO", "nic_agent", "info,", "=debug", "a=b", "info,a b=debug"]),
        ),
        ("log.format", text(&["", "xml", "Json"])),
    ]
}

#[test]
fn example_states_the_defaults() {
    let spelt: Config = uncommented(false).parse().unwrap();
    assert_eq!(spelt, example());
    // Not a comparison of nothing with itself: the keys really are there.
    assert!(keys("", &uncommented(false).parse().unwrap()).contains("log.format"));
    assert!(!keys("", &EXAMPLE.parse().unwrap()).contains("log.format"));
}

#[test]
fn manual_names_every_key_and_its_section() {
    let manual = include_str!("../../man/nic-agent.toml.5");
    let words: BTreeSet<_> = manual.split_whitespace().collect();
    for key in keys("", &full()) {
        let (section, rest) = key.split_once('.').unwrap();
        let name = rest.replace("routes[0].", "");
        assert!(words.contains(name.as_str()), "{key} is not in nic-agent.toml(5)");
        assert!(words.contains(format!("[{section}]").as_str()), "[{section}] is not in nic-agent.toml(5)");
    }
}

#[test]
fn example_with_all_keys_is_valid() {
    let config = parse(&full()).unwrap();
    assert_eq!(config.eswitch.controller, Some(1));
    assert_eq!(config.profile.routes.len(), 1);
    assert!(config.southbound.tls.is_some());
}

#[test]
fn defaults_as_documented() {
    let config = example();
    assert_eq!(config.node.host_identity, "server1");
    assert_eq!(config.server.listen, ["192.0.2.21:8443".parse().unwrap()]);
    assert_eq!(config.server.attach_timeout, Duration::from_mins(1));
    assert_eq!(config.ovs.db, Remote::Unix("/run/openvswitch/db.sock".into()));
    assert_eq!(config.chassis.hostname, None);
    assert_eq!(config.chassis.ovn_encap_type, [EncapType::Geneve]);
    assert_eq!(config.chassis.ovn_bridge_mappings, []);
    assert_eq!(config.edge.ct_zones.size(), 255);
    assert_eq!(config.edge.mtu, None);
    assert_eq!(config.eswitch, Eswitch { device: None, controller: None });
    assert_eq!(config.profile.kind, ProfileKind::Plain { template: "{namespace}_{name}".parse().unwrap() });
    assert_eq!(config.policy.budget, crate::policy::Budget::default());
    assert_eq!(config.metrics.listen, Some("127.0.0.1:9464".parse().unwrap()));
}

#[test]
fn every_key_has_wrong_values_and_each_is_named() {
    let table = wrong();
    let tried: BTreeSet<_> = table.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(tried, keys("", &full()), "this table and the example must name the same keys");
    let date: Value = "d = 1979-05-27".parse::<Table>().unwrap()["d"].clone();
    for (key, mut values) in table {
        values.extend([date.clone(), Value::Float(1.5), Value::Table(Table::new())]);
        for value in values {
            let shown = value.to_string();
            let Err(problems) = with(key, value) else { panic!("{key} = {shown} was taken") };
            let [problem] = &problems[..] else { panic!("{key} = {shown}: {problems:?}") };
            assert_eq!(problem.key, key, "{problem}");
            assert_eq!(problem.value.as_ref(), Some(&shown), "{problem}");
            assert!(problem.remedy.len() > 10, "{problem}");
            let text = ConfigError::Invalid(problems.clone()).to_string();
            assert!(text.contains(key) && text.contains(&shown) && text.contains(&problem.remedy), "{text}");
        }
    }
}

#[test]
fn required_keys_are_asked_for() {
    let Err(ConfigError::Invalid(problems)) = "".parse::<Config>() else { panic!("an empty file was taken") };
    let missing: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), &problem.value)).collect();
    let required =
        ["node.name", "server.listen", "chassis.system-id", "chassis.ovn-remote", "chassis.ovn-encap-ip"];
    assert_eq!(missing, required.map(|key| (key, &None)));
    assert!(problems[0].to_string().contains("node.name is missing: write"), "{}", problems[0]);
}

#[test]
fn unknown_keys_are_refused_everywhere() {
    for section in
        ["", "node.", "server.", "ovs.", "chassis.", "southbound.", "edge.", "eswitch.", "profile."]
    {
        unknown(&format!("{section}colour"));
    }
    for section in [
        "profile.ipv4.",
        "profile.ipv6.",
        "profile.routes[0].",
        "cluster.",
        "directory.",
        "policy.",
        "policy.budget.",
        "state.",
        "metrics.",
        "log.",
    ] {
        unknown(&format!("{section}colour"));
    }
}

fn unknown(key: &str) {
    let problems = with(key, "red").unwrap_err();
    let [problem] = &problems[..] else { panic!("{key}: {problems:?}") };
    assert_eq!((problem.key.as_str(), problem.value.as_deref()), (key, Some("\"red\"")));
    assert!(problem.remedy.starts_with("unknown key, remove it"), "{problem}");
}

#[test]
fn all_mistakes_at_once() {
    let mut table = full();
    for (key, value) in
        [("node.name", "A"), ("edge.ct-zones", "1-2"), ("log.format", "xml"), ("misspelt", "x")]
    {
        let (slot, last) = slot(&mut table, key);
        slot.insert(last.to_owned(), value.into());
    }
    let named: Vec<_> = parse(&table).unwrap_err().into_iter().map(|problem| problem.key).collect();
    assert_eq!(named, ["node.name", "edge.ct-zones", "log.format", "misspelt"]);
}

#[test]
fn a_section_of_the_wrong_kind() {
    let problems = with("chassis", "nic1").unwrap_err();
    assert_eq!(problems[0].to_string(), "chassis = \"nic1\": write a table: [chassis]");
    let problems = with("profile.routes", "10.0.0.0/8").unwrap_err();
    assert_eq!(problems[0].to_string(), "profile.routes = \"10.0.0.0/8\": write tables: [[profile.routes]]");
    let problems = with("profile.routes", vec!["10.0.0.0/8"]).unwrap_err();
    assert_eq!(problems[0].key, "profile.routes[0]");
}

#[test]
fn not_toml_says_where() {
    let Err(error @ ConfigError::Syntax(_)) = "[node]\nname = server1\n".parse::<Config>() else { panic!() };
    assert!(error.to_string().contains("line 2"), "{error}");
    assert!("[node]\nname = \"a\"\nname = \"b\"\n".parse::<Config>().is_err(), "a key stands once");
}

#[test]
fn ssl_remotes_need_all_of_southbound() {
    let mut table = full();
    table.remove("southbound");
    assert_eq!(parse(&table).unwrap().southbound.tls, None);
    table["chassis"]["ovn-remote"] = "tcp:192.0.2.1:6642,ssl:[fd00::1]:6642".into();
    let problems = parse(&table).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["southbound.private-key", "southbound.certificate", "southbound.ca-cert"]);
    assert!(problems[0].remedy.contains("ssl:"), "{}", problems[0]);

    let mut table = full();
    table["southbound"].as_table_mut().unwrap().remove("certificate");
    let problems = parse(&table).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, "southbound.certificate");
}

#[test]
fn a_cluster_takes_the_place_of_the_files() {
    assert_eq!(parse(&full()).unwrap().cluster, None);
    let mut table = full();
    table["cluster"]["kubeconfig"] = "/etc/nic-agent/kubeconfig".into();
    table["policy"]["file"] = "/etc/nic-agent/policy.json".into();
    let problems = parse(&table).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["directory.file", "policy.file"]);
    assert!(
        problems.iter().all(|it| it.remedy.starts_with("remove it: with cluster.kubeconfig")),
        "{problems:?}"
    );

    table["directory"].as_table_mut().unwrap().remove("file");
    table["policy"].as_table_mut().unwrap().remove("file");
    let old = parse(&table).unwrap();
    let cluster = old.cluster.clone().unwrap();
    assert_eq!(cluster.kubeconfig.to_str(), Some("/etc/nic-agent/kubeconfig"));
    table["cluster"]["kubeconfig"] = "/other".into();
    let new = parse(&table).unwrap();
    assert_eq!((old.needs_restart(&new), old.adopt(&new)), (vec!["cluster"], old.clone()));
}

#[test]
fn other_profiles_have_their_own_template() {
    let mut table = full();
    table["profile"]["kind"] = "kube-ovn".into();
    let problems = parse(&table).unwrap_err();
    assert_eq!(problems[0].key, "profile.template");
    table["profile"].as_table_mut().unwrap().remove("template");
    assert_eq!(parse(&table).unwrap().profile.kind, ProfileKind::KubeOvn);
}

#[test]
fn edge_bridge_is_nobody_elses() {
    let mut table = full();
    table["chassis"]["ovn-bridge-mappings"] = "physnet1:br-phys,physnet2:br-edge".into();
    let problems = parse(&table).unwrap_err();
    assert_eq!(problems[0].key, "edge.bridge");
}

#[test]
fn ipv6_everywhere() {
    for (key, value) in [
        ("chassis.ovn-encap-ip", "fd00::1"),
        ("chassis.ovn-remote", "ssl:[fd00::1]:6642,tcp:sb.example.org:6642,unix:/run/ovn/sb.sock"),
        ("metrics.listen", "[::1]:9464"),
        ("ovs.db", "tcp:[::1]:6640"),
        ("profile.ipv6.gateway", "fe80::1"),
    ] {
        assert!(with(key, value).is_ok(), "{key} = {value}: {:?}", with(key, value));
    }
    let config = with("server.listen", vec!["[fd00::2]:8443", "192.168.100.2:8443"]).unwrap();
    assert_eq!(config.server.listen.len(), 2);
}

#[test]
fn a_long_value_is_shown_by_its_beginning() {
    let problems = with("log.format", "x".repeat(5000)).unwrap_err();
    assert!(problems[0].to_string().len() < 400, "{}", problems[0]);
}

#[test]
fn templates_render() {
    let fields = Fields { namespace: "default", name: "web-0", uid: "u", network: "ovn", interface: "eth0" };
    for (template, port) in [
        ("{namespace}_{name}", "default_web-0"),
        ("{name}.{namespace}", "web-0.default"),
        ("{namespace}_{name}_{network}", "default_web-0_ovn"),
        ("{uid}:{interface}", "u:eth0"),
    ] {
        let parsed: Template = template.parse().unwrap();
        assert_eq!(parsed.render(fields), port);
        assert_eq!(parsed.to_string(), template);
    }
}

#[test]
fn which_keys_need_a_restart() {
    let old = parse(&full()).unwrap();
    assert!(old.needs_restart(&old).is_empty());
    for (key, value) in [
        ("node.name", "other"),
        ("node.host-identity", "other"),
        ("server.cert", "/other"),
        ("server.key", "/other"),
        ("server.client-ca", "/other"),
        ("ovs.db", "unix:/other"),
        ("ovs.run-dir", "/other"),
        ("ovs.system-id-file", "/other"),
        ("ovn.run-dir", "/other"),
        ("chassis.system-id", "other"),
        ("chassis.hostname", "other"),
        ("directory.file", "/other"),
        ("policy.file", "/other"),
        ("policy.node-addresses", "10.99.0.1"),
        ("chassis.ovn-remote", "tcp:192.0.2.99:6642"),
        ("chassis.ovn-bridge", "br-other"),
        ("edge.bridge", "br-other"),
        ("edge.ct-zones", "61000-61001"),
        ("state.dir", "/other"),
        ("metrics.listen", ""),
        ("log.format", "json"),
    ] {
        let new = with(key, value).unwrap();
        assert_eq!(old.needs_restart(&new), [key], "{key} = {value}");
        assert_ne!(old, new);
        assert_eq!(old.adopt(&new), old, "{key} waits for a restart");
    }
    for (key, value) in
        [("profile.kind", "plain"), ("log.level", "debug"), ("chassis.ovn-encap-ip", "192.0.2.77")]
    {
        let new = with(key, value).unwrap();
        assert!(old.needs_restart(&new).is_empty(), "{key}");
        assert_eq!(old.adopt(&new), new, "{key} is taken over at once");
    }
    let new = with("policy.budget.pod-flows", 5).unwrap();
    assert_eq!((old.needs_restart(&new), old.adopt(&new)), (vec!["policy.budget"], old.clone()));
    let new = with("server.max-connections", 5).unwrap();
    assert_eq!(old.needs_restart(&new), ["server.max-connections"]);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        ".{0,20}".prop_map(Value::from),
        "[a-z0-9:./,-]{0,20}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_filter("no NaN", |f| !f.is_nan()).prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Value::from))
}

proptest! {
    #[test]
    fn whatever_stands_there_is_taken_or_named(
        index in any::<prop::sample::Index>(),
        value in any_value(),
    ) {
        let keys: Vec<_> = keys("", &full()).into_iter().collect();
        let key = index.get(&keys);
        if let Err(problems) = with(key, value) {
            // The key itself, or the one that is now at odds with it.
            let at_odds = ["edge.", "southbound.", "profile."];
            prop_assert!(problems.iter().all(|p| !p.remedy.is_empty()));
            prop_assert!(problems.iter().any(|p| p.key == *key || at_odds.iter().any(|o| p.key.starts_with(o))));
        }
    }

    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,200}") {
        let _ = text.parse::<Config>();
    }

    #[test]
    fn zone_ranges_as_they_are_written(a in 1_u16.., b in 1_u16..) {
        let (low, high) = (a.min(b), a.max(b));
        let range: ZoneRange = format!("{low}-{high}").parse().unwrap();
        prop_assert_eq!(range.to_string(), format!("{low}-{high}"));
        prop_assert_eq!(range.size(), u32::from(high - low) + 1);
        prop_assert_eq!(range.iter().count(), usize::from(high - low) + 1);
        prop_assert!(range.contains(range.first()) && range.contains(range.last()) && range.overlaps(range));
    }

    #[test]
    fn remotes_as_they_are_written(address in any::<std::net::IpAddr>(), port in 1_u16.., tls: bool) {
        let text = format!("{}:{}", if tls { "ssl" } else { "tcp" }, SocketAddr::new(address, port));
        prop_assert_eq!(value::remote(&text).unwrap().to_string(), text);
    }
}

mod source {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_file_is_reported_once_and_a_good_one_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nic-agent.toml");
        write(&path, EXAMPLE);
        let (mut source, first) = Source::open(&path).unwrap();
        assert_eq!(first, example());
        let quiet = Duration::from_hours(1);
        assert!(tokio::time::timeout(quiet, source.next_change()).await.is_err(), "nothing changed");

        write(&path, &EXAMPLE.replace("\"server1\"", "\"Server1\""));
        let error = source.next_change().await.unwrap_err();
        assert!(error.to_string().contains("node.name = \"Server1\""), "{error}");
        assert!(tokio::time::timeout(quiet, source.next_change()).await.is_err(), "reported once");

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(source.next_change().await, Err(ConfigError::Read { .. })));
        assert!(tokio::time::timeout(quiet, source.next_change()).await.is_err(), "reported once");

        write(&path, &EXAMPLE.replace("\"server1\"", "\"server2\""));
        assert_eq!(source.next_change().await.unwrap().node.name, "server2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_swapped_symlink_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new, link) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("link"));
        write(&old, EXAMPLE);
        write(&new, &EXAMPLE.replace("\"server1\"", "\"server2\""));
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let (mut source, _) = Source::open(&link).unwrap();
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&new, &link).unwrap();
        assert_eq!(source.next_change().await.unwrap().node.name, "server2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_wait_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nic-agent.toml");
        write(&path, EXAMPLE);
        let (mut source, _) = Source::open(&path).unwrap();
        write(&path, &EXAMPLE.replace("\"server1\"", "\"server2\""));
        // Dropped after the tick has seen the change, while it settles.
        assert!(tokio::time::timeout(Duration::from_millis(10_100), source.next_change()).await.is_err());
        assert_eq!(source.next_change().await.unwrap().node.name, "server2");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_no_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nic-agent.toml");
        let error = Source::open(&path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })));
        write(&path, &"#".repeat(2 << 20));
        let error = Config::load(&path).unwrap_err();
        assert!(error.to_string().contains("1 MiB"), "{error}");
    }
}
