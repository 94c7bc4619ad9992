//! Connections as conntrack-tools shows them.

use std::net::IpAddr;
use std::time::Duration;

use offload::ids::CtZone;
use offload::netlink::conntrack::{Entry, Status};
use offload::tuple::{L4, Tuple};

use crate::bench::run;

/// What is compared: no time-outs, which run, and of the status what the tool shows.
pub type Seen = (u16, Tuple, Tuple, u32, u32, [bool; 4]);

pub fn ours(entry: &Entry) -> Seen {
    let bits = [Status::SEEN_REPLY, Status::ASSURED, Status::OFFLOAD, Status::HW_OFFLOAD];
    let mut status = bits.map(|bit| entry.status.has(bit));
    // The tool shows one word, the last of those that hold.
    status[2] &= !status[3];
    status[1] &= !status[2] && !status[3];
    (entry.zone.map_or(0, CtZone::get), entry.orig, entry.reply, entry.mark, entry.id, status)
}

/// The entries of a zone, or all.
pub fn listed(zone: Option<u16>) -> Vec<Seen> {
    let all = run("conntrack -L -o extended,id");
    let mut seen: Vec<Seen> = all.lines().map(parse).collect();
    seen.retain(|entry| zone.is_none_or(|zone| entry.0 == zone));
    seen.sort_unstable();
    seen
}

fn parse(line: &str) -> Seen {
    let mut words = line.split_whitespace();
    // ipv4 2 tcp 6 …
    let proto = words.nth(3).unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
    let pairs: Vec<(&str, &str)> = line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let second = pairs.iter().rposition(|(key, _)| *key == "src").unwrap();
    let after = pairs.iter().position(|(key, _)| ["mark", "zone", "use", "secctx"].contains(key)).unwrap();
    let common = &pairs[after..];
    let number = |key: &str| {
        common.iter().find(|(known, _)| *known == key).map_or(0, |(_, value)| value.parse().unwrap())
    };
    let status = [
        !line.contains("[UNREPLIED]"),
        line.contains("[ASSURED]"),
        line.contains("[OFFLOAD]"),
        line.contains("[HW_OFFLOAD]"),
    ];
    let zone = u16::try_from(number("zone")).unwrap();
    (
        zone,
        tuple(proto, &pairs[..second]),
        tuple(proto, &pairs[second..after]),
        number("mark"),
        number("id"),
        status,
    )
}

fn tuple(proto: u8, pairs: &[(&str, &str)]) -> Tuple {
    let text = |key| pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
    let address = |key| text(key).unwrap().parse::<IpAddr>().unwrap();
    let number = |key| text(key).map(|it| it.parse::<u16>().unwrap());
    let byte = |key| number(key).map(|it| u8::try_from(it).unwrap());
    let l4 = match (number("sport"), number("dport")) {
        (Some(src), Some(dst)) => L4::Ports { src, dst },
        _ => match (byte("type"), byte("code"), number("id")) {
            (Some(kind), Some(code), Some(id)) => L4::Icmp { kind, code, id },
            _ => L4::None,
        },
    };
    Tuple { src: address("src"), dst: address("dst"), proto, l4 }
}

/// An entry from nothing, by the tool. It stays for a good while.
pub fn insert(rest: &str) {
    run(&format!("conntrack -I -t {} {rest}", Duration::from_mins(10).as_secs()));
}
