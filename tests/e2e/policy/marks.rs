//! Connections that say by which rule they were admitted, and a change of policy that leaves what is known of them alone.
//! Seen with `ovs-appctl` and `tc`, and named by what `/policy` says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tests::nic::{NICS, Nic};
use tests::policy_lab::{PolicyLab, policy_of};
use tests::wait::until;

use crate::cases::{app, policy};
use crate::changes::{Held, zones};
use crate::with;

const PATIENCE: Duration = Duration::from_mins(1);

/// A connection of a pod's zone: protocol and port of destination, and its mark.
fn entries(nic: Nic, zone: u64, from: &str) -> Vec<(String, u16, u32)> {
    let said = nic.run(&["ovs-appctl", "dpctl/dump-conntrack", &format!("zone={zone}")]).ok();
    let field = |line: &str, name: &str| {
        line.split(['(', ')', ',']).find_map(|it| it.strip_prefix(name)?.parse::<u32>().ok())
    };
    said.lines()
        .filter(|line| line.contains(&format!("orig=(src={from},")))
        .map(|line| {
            let protocol = line.split(',').next().unwrap().to_owned();
            let port = u16::try_from(field(line, "dport=").unwrap()).unwrap();
            let mark = field(line, "mark=").unwrap_or(0);
            assert_eq!(mark >> 24, 1, "committed by a boundary: {line}");
            (protocol, port, mark & 0x00ff_ffff)
        })
        .collect()
}

/// The rule of this mark, and whether it is in force, as the agent says it.
fn rule_of(nic: Nic, mark: u32) -> (String, bool) {
    let said = policy_of(nic).unwrap();
    let of = &said["marks"][mark.to_string()];
    (of["rule"].as_str().unwrap_or_default().to_owned(), of["inForce"] == true)
}

/// A flow of the datapath that packets meet.
#[derive(Clone, Debug)]
struct Megaflow {
    /// What it matches and does, without counters.
    says: String,
    packets: u64,
}

impl Megaflow {
    /// Does it ask for packets of an established connection (`OVS_CS_F_ESTABLISHED`)?
    fn is_known(&self) -> bool {
        let state = self.says.split("ct_state(0x").nth(1).and_then(|it| it.split('/').next());
        state.and_then(|it| u32::from_str_radix(it, 16).ok()).is_some_and(|it| it & 2 != 0)
    }
}

/// IP flows of the datapath, by unique id.
fn megaflows(nic: Nic) -> BTreeMap<String, Megaflow> {
    let said = nic.run(&["ovs-appctl", "dpctl/dump-flows", "-m"]).ok();
    let of = |line: &str| {
        let id = line.strip_prefix("ufid:")?.split(',').next()?.to_owned();
        let parts: Vec<&str> = line.split(", ").collect();
        let packets = parts.iter().find_map(|it| it.strip_prefix("packets:"))?.parse().ok()?;
        let counts = ["packets:", "bytes:", "used:", "flags:"];
        let says = parts.into_iter().filter(|it| !counts.iter().any(|count| it.starts_with(count)));
        let says = says.collect::<Vec<_>>().join(", ");
        Some((id, Megaflow { says, packets }))
    };
    said.lines()
        .filter(|it| it.contains("eth_type(0x0800)") || it.contains("eth_type(0x86dd)"))
        .filter_map(of)
        .collect()
}

/// Filters of the NIC's ports by port, chain, preference and handle: frames, and whether the hardware has them.
fn filters(nic: Nic) -> BTreeMap<String, (u64, bool)> {
    let links: Value = serde_json::from_str(&nic.run(&["ip", "-j", "link"]).ok()).unwrap();
    let mut all = BTreeMap::new();
    for link in links.as_array().unwrap() {
        let name = link["ifname"].as_str().unwrap();
        let said = nic.run(&["tc", "-s", "-j", "filter", "show", "dev", name, "ingress"]);
        // No such qdisc: no filters.
        let Ok(Value::Array(rows)) = serde_json::from_str(&said.stdout) else { continue };
        for row in rows.iter().filter(|it| it["options"]["handle"].is_number()) {
            let (options, actions) = (&row["options"], &row["options"]["actions"]);
            let place =
                format!("{name} chain {} pref {} handle {}", row["chain"], row["pref"], options["handle"]);
            let frames =
                actions.as_array().unwrap().iter().filter_map(|it| it["stats"]["packets"].as_u64()).max();
            let says = format!("{place}: {}", options["keys"]);
            all.insert(says, (frames.unwrap_or(0), options["in_hw"] == true));
        }
    }
    all
}

/// Those that more packets met than before.
fn met<T: Clone>(
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
    count: impl Fn(&T) -> u64,
) -> BTreeMap<String, T> {
    let grew = |(id, it): &(&String, &T)| before.get(*id).is_some_and(|was| count(it) > count(was));
    now.iter().filter(grew).map(|(id, it)| (id.clone(), it.clone())).collect()
}

/// What carries the established connections of this NIC, once all of it is in hardware and counts.
fn carrying(nic: Nic) -> (BTreeMap<String, Megaflow>, BTreeMap<String, (u64, bool)>) {
    until("the hardware carries what is established", PATIENCE, || {
        let (flows, rules) = (megaflows(nic), filters(nic));
        std::thread::sleep(Duration::from_secs(3));
        let flows = met(&flows, &megaflows(nic), |it| it.packets);
        let rules = met(&rules, &filters(nic), |it| it.0);
        let known = flows.values().filter(|it| it.is_known()).count();
        let software = flows.values().find(|it| !it.says.contains("offloaded:yes"));
        let refused = rules.iter().find(|(_, it)| !it.1);
        let marked = flows.values().find(|it| !it.says.contains("ct_mark(0/0)"));
        assert!(marked.is_none(), "{nic:?} looks at marks: {marked:?}");
        // Both directions of both versions, at least, behind conntrack and before it.
        if known < 4 || flows.len() < 8 || rules.len() < 8 {
            return Err(format!("{known} of {} flows, {} filters", flows.len(), rules.len()));
        }
        match (software, refused) {
            (None, None) => Ok((flows, rules)),
            other => Err(format!("{other:?}")),
        }
    })
}

fn web(rules: &Value) -> Value {
    policy("a", "web", &json!({"podSelector": app("web"), "ingress": rules}))
}

pub fn named(lab: &mut PolicyLab, open: &[Value]) {
    let clients = json!([{"podSelector": {"matchLabels": {"role": "client"}}}]);
    let udp = json!({"from": clients, "ports": [{"protocol": "UDP", "port": 53}]});
    let tcp = json!({"from": clients, "ports": [{"port": 80}]});
    lab.enforce(&with(open.to_vec(), &[web(&json!([tcp, udp]))]));
    lab.settle();
    let [client, near, far] = ["a1", "a2", "a3"].map(|it| lab.index(it));
    let addresses: Vec<String> =
        [near, far].iter().flat_map(|it| [&lab.pod(*it).ip, &lab.pod(*it).ip6].map(Clone::clone)).collect();
    let to: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let held = Held::start(lab.pod(client), &to);
    let sources = [lab.pod(client).ip.clone(), lab.pod(client).ip6.clone()];
    let mut begun = Vec::new();
    for (nic, receiver) in NICS.into_iter().zip([near, far]) {
        let zone = zones(nic, &[&lab.pod(receiver).uid])[0];
        for source in &sources {
            let known = entries(nic, zone, source);
            for (protocol, port) in [("tcp", 80), ("udp", 53)] {
                let ours = known.iter().filter(|it| it.0 == protocol && it.1 == port);
                let marks: Vec<u32> = ours.map(|it| it.2).collect();
                assert_eq!(marks.len(), 1, "{nic:?} zone {zone}: {known:?}");
                let rule = format!("a/web ingress from pods role=client: {} {port}", protocol.to_uppercase());
                assert_eq!(rule_of(nic, marks[0]), (rule.clone(), true), "{nic:?} zone {zone}: {known:?}");
                begun.push((nic, zone, source, protocol, port, marks[0], rule));
            }
        }
    }
    // The client has no policy.
    let own = entries(NICS[0], zones(NICS[0], &[&lab.pod(client).uid])[0], &sources[0]);
    assert!(!own.is_empty() && own.iter().all(|it| it.2 == 0), "{own:?}");
    let before = NICS.map(carrying);

    // One above, another order, and TCP is allowed by other words.
    let above = json!({"from": clients, "ports": [{"port": 8443}]});
    let all = json!({"from": [{"podSelector": {}}], "ports": [{"port": 80}]});
    lab.enforce(&with(open.to_vec(), &[web(&json!([above, udp, all]))]));
    lab.settle();
    for (nic, zone, source, protocol, port, mark, rule) in &begun {
        let known = entries(*nic, *zone, source);
        let still = known.iter().any(|it| it.0 == *protocol && it.1 == *port && it.2 == *mark);
        assert!(still, "{nic:?} zone {zone}: {mark} is not in {known:?}");
        assert_eq!(
            rule_of(*nic, *mark),
            (rule.clone(), *protocol == "udp"),
            "decided at the start, by this rule"
        );
    }
    for (nic, (flows, rules)) in NICS.into_iter().zip(before) {
        until("every flow and filter of known connections goes on counting", PATIENCE, || {
            let (now, now_rules) = (megaflows(nic), filters(nic));
            for (id, flow) in &flows {
                let is = now.get(id).unwrap_or_else(|| panic!("{nic:?}: {id} is gone: {}", flow.says));
                assert_eq!(is.says, flow.says, "{nic:?}: {id}");
                assert!(is.packets >= flow.packets, "{nic:?}: {id} began anew: {flow:?}, {is:?}");
            }
            for (place, filter) in &rules {
                let is = now_rules.get(place).unwrap_or_else(|| panic!("{nic:?}: {place} is gone"));
                assert!(is.1 && is.0 >= filter.0, "{nic:?}: {place}: {filter:?}, {is:?}");
            }
            let (flows_met, rules_met) =
                (met(&flows, &now, |it| it.packets), met(&rules, &now_rules, |it| it.0));
            if flows_met.len() == flows.len() && rules_met.len() == rules.len() {
                return Ok(());
            }
            Err(format!("{} of {}, {} of {}", flows_met.len(), flows.len(), rules_met.len(), rules.len()))
        });
        println!("{nic:?}: {} megaflows and {} filters as before the change", flows.len(), rules.len());
    }
    for report in held.stop() {
        assert_eq!(report.lost(), 0, "an allowed connection noticed: {report:?}");
    }
    // Who comes now is let in by the new rule.
    let late = Held::start(lab.pod(client), &to[..1]);
    let known = entries(NICS[0], begun[0].1, &sources[0]);
    let marks = known.iter().filter(|it| it.0 == "tcp").map(|it| rule_of(NICS[0], it.2).0);
    let rules: Vec<String> = marks.collect();
    assert!(rules.iter().any(|it| it == "a/web ingress from every pod: TCP 80"), "{rules:?}");
    drop(late.stop());
}
