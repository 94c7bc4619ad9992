//! What an action counted.

use super::*;

/// `TCA_ACT_STATS` as `tcf_action_copy_stats` fills it.
fn stats(fill: impl FnOnce(&mut Writer)) -> Statistics {
    let mut w = Writer::default();
    w.nest(4, fill);
    let bytes = w.finish().unwrap();
    let nest = Attributes::new(&bytes).next().unwrap().unwrap();
    Statistics::decode(nest).unwrap()
}

/// `struct gnet_stats_basic` with its padding.
fn basic(bytes: u64, packets: u32) -> Vec<u8> {
    [&bytes.to_ne_bytes()[..], &packets.to_ne_bytes(), &[0; 4]].concat()
}

#[test]
fn software_is_what_hardware_did_not_do() {
    let seen = stats(|w| {
        w.put(1, &basic(1000, 10)).put(7, &basic(900, 9));
        // qlen, backlog, drops, requeues, overlimits
        let queue: Vec<u8> = [0u32, 0, 3, 0, 7].iter().flat_map(|n| n.to_ne_bytes()).collect();
        w.put(3, &queue);
    });
    assert_eq!(seen.total, Counters { packets: 10, bytes: 1000 });
    assert_eq!(seen.hardware, Counters { packets: 9, bytes: 900 });
    assert_eq!(seen.software(), Counters { packets: 1, bytes: 100 });
    assert_eq!((seen.drops, seen.overlimits), (3, 7));
}

#[test]
fn packets_beyond_32_bits_follow_the_counters_they_belong_to() {
    let many = (5 << 32) + 9;
    let hardware = stats(|w| {
        w.put(1, &basic(1, 4)).put(7, &basic(1, 9)).put_u64(8, many);
    });
    assert_eq!((hardware.total.packets, hardware.hardware.packets), (4, many));
    assert_eq!(hardware.software().packets, 0, "never below zero");
    let total = stats(|w| {
        w.put(1, &basic(1, 4)).put_u64(8, many).put(7, &basic(1, 9));
    });
    assert_eq!((total.total.packets, total.hardware.packets), (many, 9));
    assert_eq!(total.software().packets, many - 9);
}
