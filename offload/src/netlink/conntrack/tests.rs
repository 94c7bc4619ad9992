use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::netlink::wire::{Attributes, hex};
use crate::tuple::{GRE, ICMP, ICMPV6, L4, SCTP, TCP, UDP};

/// From Linux 6.12; `conntrack -L -o id` showed there:
/// tcp 6 298 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1234 dport=80 src=10.0.0.2 dst=10.0.0.1 sport=80 dport=1234
/// [ASSURED] mark=5 zone=7 use=1 id=1287702702
pub(super) const TCP_ENTRY: &str = concat!(
    "020000003400018014000180080001000a000001080002000a0000021c0002800500010006000000060002",
    "0004d2000006000300005000003400028014000180080001000a000002080002000a0000011c00028005000100060000000600020000",
    "5000000600030004d200000600120000070000080003000000000e080008000000000508000c004cc0c8ae08000b0000000001080007",
    "000000012a300004802c0001800500010003000000050002000000000005000300000000000600",
    "04000a000000060005000a000000",
);
/// icmpv6 58 28 src=fd00::1 dst=fd00::2 type=128 code=0 id=77 [UNREPLIED] src=fd00::2 dst=fd00::1 type=129 code=0 id=77
/// mark=0 zone=7 use=1 id=2073307181
const ICMPV6_ENTRY: &str = concat!(
    "0a000000540001802c00018014000300fd00000000000000000000000000000114000400fd000000000000000000",
    "00000000000224000280050001003a00000006000700004d000005000800800000000500090000000000540002802c00018014000300fd",
    "00000000000000000000000000000214000400fd00000000000000000000000000000124000280050001003a00000006000700004d0000",
    "0500080081000000050009000000000006001200000700000800030000000008080008000000000008000c007b94282d08000b00000000",
    "01080007000000001c",
);

pub(super) fn tcp_entry() -> Entry {
    let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    Entry {
        zone: CtZone::new(7),
        orig: Tuple { src: a, dst: b, proto: TCP, l4: L4::Ports { src: 1234, dst: 80 } },
        reply: Tuple { src: b, dst: a, proto: TCP, l4: L4::Ports { src: 80, dst: 1234 } },
        mark: 5,
        status: Status(0xe),
        id: 1_287_702_702,
        timeout: Some(Duration::from_secs(298)),
        began: None,
    }
}

fn icmpv6_entry() -> Entry {
    let [a, b] = [1, 2].map(|low| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low)));
    Entry {
        zone: CtZone::new(7),
        orig: Tuple { src: a, dst: b, proto: ICMPV6, l4: L4::Icmp { kind: 128, code: 0, id: 77 } },
        reply: Tuple { src: b, dst: a, proto: ICMPV6, l4: L4::Icmp { kind: 129, code: 0, id: 77 } },
        mark: 0,
        status: Status::CONFIRMED,
        id: 2_073_307_181,
        timeout: Some(Duration::from_secs(28)),
        began: None,
    }
}

#[test]
fn captured_entries_are_read() {
    assert_eq!(message::entry(&hex(TCP_ENTRY)).unwrap(), tcp_entry());
    assert_eq!(message::entry(&hex(ICMPV6_ENTRY)).unwrap(), icmpv6_entry());
    assert!(tcp_entry().status.has(Status::ASSURED) && tcp_entry().status.has(Status::SEEN_REPLY));
    assert!(!tcp_entry().status.has(Status::OFFLOAD));
}

/// Of a tuple the kernel takes the very bytes that it tells.
#[test]
fn a_deletion_names_the_entry_as_the_kernel_does() {
    for (entry, captured, family) in [(tcp_entry(), TCP_ENTRY, 2), (icmpv6_entry(), ICMPV6_ENTRY, 10)] {
        let (request, captured) = (message::delete(&entry).unwrap(), hex(captured));
        assert_eq!(request[..4], [family, 0, 0, 0]);
        let all = |bytes: &[u8]| {
            let attributes = Attributes::after(bytes, 4).unwrap();
            attributes.map(|it| it.map(|it| (it.kind, it.value.to_vec())).unwrap()).collect::<Vec<_>>()
        };
        let (asked, told) = (all(&request), all(&captured));
        assert_eq!(asked.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 18, 12], "tuple, zone, id");
        assert!(asked.iter().all(|it| told.contains(it)), "{asked:?} {told:?}");
    }
}

#[test]
fn a_zone_is_asked_for_in_network_byte_order() {
    assert_eq!(message::dump(None).unwrap(), [0; 4]);
    let request = message::dump(CtZone::new(0x1234)).unwrap();
    assert_eq!(request, [0, 0, 0, 0, 6, 0, 18, 0, 0x12, 0x34, 0, 0]);
}

#[test]
fn an_entry_without_its_tuples_or_id_is_refused() {
    let captured = hex(TCP_ENTRY);
    for kind in [1u16, 2, 12] {
        let mut bytes = captured[..4].to_vec();
        for attribute in Attributes::after(&captured, 4).unwrap().flatten().filter(|it| it.kind != kind) {
            bytes.extend((u16::try_from(attribute.value.len()).unwrap() + 4).to_ne_bytes());
            bytes.extend(attribute.kind.to_ne_bytes());
            bytes.extend(attribute.value);
            bytes.resize(bytes.len().div_ceil(4) * 4, 0);
        }
        assert!(message::entry(&bytes).is_err(), "without {kind}");
    }
    assert!(message::entry(&[2, 0]).is_err());
    assert!(message::kept(&[0; 4]).is_err());
}

fn tuples() -> impl Strategy<Value = Tuple> {
    let ports = |proto| any::<(u16, u16)>().prop_map(move |(src, dst)| (proto, L4::Ports { src, dst }));
    let icmp =
        |proto| any::<(u8, u8, u16)>().prop_map(move |(kind, code, id)| (proto, L4::Icmp { kind, code, id }));
    let l4 = prop_oneof![
        ports(TCP),
        ports(UDP),
        ports(SCTP),
        ports(GRE),
        icmp(ICMP),
        icmp(ICMPV6),
        Just((89, L4::None))
    ];
    let ends = prop_oneof![
        any::<(u32, u32)>().prop_map(|(a, b)| [a, b].map(|ip| IpAddr::from(Ipv4Addr::from(ip)))),
        any::<(u128, u128)>().prop_map(|(a, b)| [a, b].map(|ip| IpAddr::from(Ipv6Addr::from(ip)))),
    ];
    (ends, l4).prop_map(|([src, dst], (proto, l4))| Tuple { src, dst, proto, l4 })
}

proptest! {
    #[test]
    fn what_is_asked_to_go_is_what_was_listed(orig in tuples(), id: u32, zone: u16) {
        let entry = Entry { orig, id, zone: CtZone::new(zone), ..tcp_entry() };
        // With a reply's tuple in it, a request is an entry.
        let mut bytes = message::delete(&entry).unwrap();
        let reply = hex(TCP_ENTRY)[4 + 0x34..4 + 2 * 0x34].to_vec();
        bytes.extend(reply);
        let read = message::entry(&bytes).unwrap();
        prop_assert_eq!((read.orig, read.id, read.zone), (orig, id, CtZone::new(zone)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(at in 0..200usize, value: u8, bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = (message::entry(&bytes), message::kept(&bytes));
        let mut captured = hex(ICMPV6_ENTRY);
        captured[at] = value;
        let _ = message::entry(&captured);
    }
}
