//! What the watch tells of TC, and that it says so when it lost something.

use std::time::Duration;

use offload::flower::{ChainIndex, NextChain};
use offload::ids::IfIndex;
use offload::netlink::tc::watch::{Event, Hook, Watch};
use offload::netlink::tc::{self, Change, Reasons};

use super::bench::{Bench, parameter, run, tc_filters};
use super::rules::{place, tcp};
use super::{index, route};

const INGRESS: u32 = 0xffff_fff2;

fn drain(watch: &mut Watch) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let events = watch.wait(Duration::from_millis(500)).unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events);
    }
}

#[test]
fn vm_the_watch_tells_what_happened_and_who_did_it() {
    let mut bench = Bench::new();
    bench.nic(1);
    let mut socket = route();
    let device = index(&mut socket, "pf0vf0");
    run("tc qdisc add dev pf0vf0 clsact");
    let mut watch = Watch::open().unwrap();
    let (rule, me) = (tcp(80), socket.port());
    let (at, hook) = (place(device, 5, 7, 9), Hook::Device { ifindex: device, parent: INGRESS });
    let mut apply = |change| tc::apply(&mut socket, &[change], Reasons::Skip).unwrap().remove(0).unwrap();
    apply(Change::Add { place: at, rule: &rule });
    parameter("fail_errno", "28");
    parameter("fail_count", "1");
    apply(Change::Replace { place: at, rule: &rule });
    parameter("fail_errno", "0");
    apply(Change::Delete { place: at });
    let events = drain(&mut watch);
    assert!(
        events.iter().all(|event| event.ifindex() == Some(device)
            || matches!(event, Event::ChainAdded { .. } | Event::ChainDeleted { .. })),
        "{events:?}"
    );
    let filters: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Written { hook: at, by, added, filter, warning } => {
                assert_eq!((*at, *by, filter.flower.as_ref().unwrap().rule.as_ref()), (hook, me, Ok(&rule)));
                Some((if *added { "added" } else { "written" }, filter.handle, warning.is_some()))
            }
            Event::Deleted { hook: at, by, filter } => {
                assert_eq!((*at, *by, filter.chain), (hook, me, ChainIndex(5)));
                Some(("deleted", filter.handle, false))
            }
            _ => None,
        })
        .collect();
    // The reason of the hardware is told to whoever listens, too.
    assert_eq!(filters, [("added", 9, false), ("written", 9, true), ("deleted", 9, false)]);

    // Somebody else, in one go.
    apply(Change::Add { place: at, rule: &rule });
    drain(&mut watch);
    run("tc filter del dev pf0vf0 ingress chain 5");
    let events = drain(&mut watch);
    let flushed = events.iter().find_map(|event| match event {
        Event::Flushed { hook: at, by, chain, pref } => Some((*at, *by != me && *by != 0, *chain, *pref)),
        _ => None,
    });
    assert_eq!(flushed, Some((hook, true, ChainIndex(5), 7)), "{events:?}");
    assert!(
        events.iter().any(|event| matches!(event, Event::ChainDeleted { chain: ChainIndex(5), .. })),
        "{events:?}"
    );

    // OVS takes the port.
    apply(Change::Add { place: at, rule: &rule });
    drain(&mut watch);
    run("tc qdisc del dev pf0vf0 clsact");
    let events = drain(&mut watch);
    let is_gone = |event: &Event| matches!(event, Event::QdiscDeleted { ifindex, kind, .. } if *ifindex == device && kind == "clsact");
    assert!(events.iter().any(is_gone), "{events:?}");
}

/// What is lost is said; the owner dumps, compares and puts back what is missing.
#[test]
fn vm_an_overrun_is_told_and_healed_by_dump_and_diff() {
    let _bench = Bench::new();
    run("ip link add dum0 type dummy");
    run("tc qdisc add dev dum0 clsact");
    let mut socket = route();
    let device = index(&mut socket, "dum0");
    let mut watch = Watch::with_buffer(4096).unwrap();
    let rules: Vec<_> = (0..200).map(|n| tcp(1000 + n)).collect();
    let wanted: Vec<_> =
        (1u32..).zip(&rules).map(|(n, rule)| Change::Add { place: place(device, 5, 7, n), rule }).collect();
    assert!(tc::apply(&mut socket, &wanted, Reasons::Skip).unwrap().iter().all(Result::is_ok));
    run("tc filter del dev dum0 ingress chain 5 pref 7 handle 3 flower");
    let events = drain(&mut watch);
    assert!(events.contains(&Event::Overrun), "{} events and no overrun", events.len());
    assert!(events.len() < 200);
    assert!(!told_of(&events, 3), "the test is worth nothing if the loss was told");

    let found = tc::filters_of_chain(&mut socket, device, ChainIndex(5)).unwrap();
    let missing: Vec<_> = (1u32..)
        .zip(&wanted)
        .filter(|(handle, _)| !found.iter().any(|filter| filter.handle == *handle))
        .map(|(_, change)| *change)
        .collect();
    assert_eq!(missing.len(), 1);
    assert!(tc::apply(&mut socket, &missing, Reasons::Skip).unwrap()[0].is_ok());
    assert_eq!(tc_filters("dum0").len(), 200);
    // And it goes on telling.
    assert!(
        drain(&mut watch)
            .iter()
            .any(|event| matches!(event, Event::Written { filter, .. } if filter.handle == 3))
    );
    let flush = Change::Flush { ifindex: device, chain: NextChain::new(5).unwrap() };
    assert!(tc::apply(&mut socket, &[flush], Reasons::Skip).unwrap()[0].is_ok());
    assert!(drain(&mut watch).iter().any(|event| matches!(event, Event::Flushed { pref: 7, .. })));
}

fn told_of(events: &[Event], handle: u32) -> bool {
    events.iter().any(|event| matches!(event, Event::Deleted { filter, .. } if filter.handle == handle))
}

#[test]
fn vm_a_shared_block_is_named_as_such() {
    let _bench = Bench::new();
    run("ip link add dum0 type dummy");
    run("tc qdisc add dev dum0 ingress_block 22 clsact");
    let mut watch = Watch::open().unwrap();
    run("tc filter add block 22 pref 4 protocol ip flower ip_proto tcp action drop");
    let events = drain(&mut watch);
    let written = events.iter().find(|event| matches!(event, Event::Written { .. })).unwrap();
    let Event::Written { hook, filter, .. } = written else { unreachable!() };
    assert_eq!((*hook, filter.block, written.ifindex()), (Hook::Block(22), Some(22), None::<IfIndex>));
}
