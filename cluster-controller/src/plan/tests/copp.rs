//! What bounds the packets that pods bring to `ovn-controller`.

use super::*;

fn with_rate(rate: &str) -> Settings {
    Settings { copp_rate: rate.parse().unwrap(), ..settings() }
}

fn bounded(rate: &str) -> Plan {
    let mut plan = Plan::new(with_rate(rate));
    apply(&mut plan, node("n1", &["10.244.1.0/24"]));
    apply(&mut plan, node("n2", &["10.244.2.0/24"]));
    plan
}

#[test]
fn each_protocol_has_a_bucket_of_its_own_on_switches_and_on_the_router() {
    let plan = bounded("700");
    let copp = |row: &WantedRow| plan.get(&row.references["copp"]).unwrap().clone();
    let switches = ["node/n1", "node/n2"].map(|id| copp(row(&plan, Table::LogicalSwitch, id)));
    assert_eq!(switches[0], switches[1], "northd shares flows only where the Meters are the same");
    let router = copp(plan.get(&router_key()).unwrap());
    let text = |atom: &Atom| atom.as_str().unwrap().to_owned();
    let pairs = |row: &WantedRow| -> Vec<(String, String)> {
        row.columns["meters"].pairs().map(|(protocol, meter)| (text(protocol), text(meter))).collect()
    };
    let all = [pairs(&switches[0]), pairs(&router)].concat();
    let meters: BTreeMap<String, &WantedRow> = plan
        .rows()
        .filter(|(key, _)| key.table == Table::Meter)
        .map(|(_, row)| (text(row.columns["name"].as_atom().unwrap()), row))
        .collect();
    // Each is named once: a flood of one protocol costs no other anything.
    assert_eq!(meters.keys().collect::<BTreeSet<_>>(), all.iter().map(|(_, meter)| meter).collect());
    assert_eq!(meters.len(), all.len());
    for meter in meters.values() {
        assert_eq!(meter.columns["unit"], Datum::from("pktps"));
        assert_eq!(meter.band.map(|band| band.rate.get()), Some(700));
    }
    // What a pod can bring about in OVN with what is written here.
    for (protocols, kinds) in [
        (pairs(&switches[0]), &["reject", "nd-na", "dhcpv4-opts", "dhcpv6-opts"][..]),
        (
            pairs(&router),
            &[
                "arp",
                "arp-resolve",
                "icmp4-error",
                "icmp6-error",
                "nd-na",
                "nd-ns",
                "nd-ns-resolve",
                "nd-ra-opts",
                "tcp-reset",
            ][..],
        ),
    ] {
        for kind in kinds {
            assert!(protocols.iter().any(|(protocol, _)| protocol == kind), "{kind}: {protocols:?}");
        }
    }
}

#[test]
fn without_a_rate_nothing_of_it_is_written() {
    let plan = bounded("0");
    assert_eq!((plan.count(Table::Copp), plan.count(Table::Meter)), (0, 0));
    for (key, row) in plan.rows() {
        assert!(!row.references.contains_key("copp") && row.band.is_none(), "{key}");
    }
    let with = bounded("500");
    assert_eq!(with.count(Table::Copp), 2);
    assert_eq!(with.rows().count() - plan.rows().count(), with.count(Table::Copp) + with.count(Table::Meter));
}
