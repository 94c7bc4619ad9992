//! `conversation.txt`: what ovs-ofctl (`>`) and ovs-vswitchd (`<`), both 3.1, said to each other, one message a line.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::openflow::{Action, Cookie, Flow, FlowMod, InstalledFlow, Port, TableId};

const CONVERSATION: &str = include_str!("conversation.txt");

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn conversation() -> Vec<Vec<u8>> {
    CONVERSATION.lines().map(|line| from_hex(line.split_once(' ').unwrap().1)).collect()
}

fn messages() -> Vec<Message> {
    conversation().iter().map(|bytes| Message::decode(bytes).unwrap().1).collect()
}

/// The flow descriptions of the one big dump.
fn dump() -> Vec<InstalledFlow> {
    let dumps = messages().into_iter().filter_map(|message| match message {
        Message::FlowStatsReply { flows, more: false } => Some(flows),
        _ => None,
    });
    dumps.flatten().collect()
}

#[test]
fn every_message_is_understood() {
    for (bytes, message) in conversation().iter().zip(messages()) {
        // One order has a timeout, which we never give.
        let odd =
            matches!(message, Message::Other { kind: FLOW_MOD, .. }) && bytes[26..30] == [0, 0x1e, 0, 0];
        assert!(odd || !matches!(message, Message::Other { .. }), "{message:?}");
    }
}

#[test]
fn what_is_written_again_means_the_same() {
    let mut same_bytes = 0;
    for bytes in conversation() {
        let (xid, message) = Message::decode(&bytes).unwrap();
        let written = message.encode(xid).unwrap();
        assert_eq!(Message::decode(&written).unwrap(), (xid, message.clone()), "{message:?}");
        same_bytes += u32::from(written == bytes);
    }
    // Not the same: OVS pairs registers, orders fields in its own way, and describes ports at length.
    assert!(same_bytes >= 25, "{same_bytes}");
}

#[test]
fn flows_of_a_dump() {
    let texts: Vec<String> = dump().iter().map(|it| it.flow.to_string()).collect();
    let expected = "\
cookie=0x0, table=0, priority=102,icmp6,ipv6_src=fd00::/64,nw_frag=no,icmp_type=135,nd_target=fd00::1,nd_sll=02:00:00:00:00:01 actions=resubmit(,5)
cookie=0x0, table=0, priority=101,arp,in_port=1,arp_op=1,arp_spa=10.0.0.5,arp_tpa=10.0.0.0/24,arp_sha=02:00:00:00:00:01 actions=drop
cookie=0x11, table=0, priority=100,ip,in_port=1,vlan_tci=0x0000/0x1fff,dl_src=02:00:00:00:00:01,nw_src=10.0.0.5 actions=set_field:0x0->reg0,set_field:0x2->reg1,set_field:0x5->reg2,ct(table=5,zone=5)
cookie=0x0, table=5, priority=100,ct_state=+est-inv+trk,ct_zone=5,ct_mark=0x1/0xff actions=output:NXM_NX_REG1[]
cookie=0x0, table=5, priority=99,ip,reg0=0x0,ct_state=+new+trk actions=ct(commit,zone=NXM_NX_REG2[0..15],exec(set_field:0x7->ct_mark)),output:NXM_NX_REG1[]
cookie=0x0, table=5, priority=98,tcp,reg0=0x7,reg1=0x10/0xf0,reg9=0x1,tp_dst=0x50/0xfff0 actions=conjunction(7,1/2)
cookie=0x0, table=5, priority=98,ip,metadata=0x3,conj_id=7 actions=ct_clear,goto_table:10
cookie=0x0, table=5, priority=97,udp6,tp_src=547 actions=ct(commit,force,zone=3,nat(src=[fd00::1]-[fd00::9]:100-200)),set_field:0x2/0xf->reg4
cookie=0x0, table=5, priority=96,sctp,tp_dst=5 actions=ct(commit,zone=3,nat(dst=10.0.0.1:80)),note:01.02.03.00.00.00
cookie=0x0, table=5, priority=95,dl_vlan=5 actions=drop
cookie=0x0, table=5, priority=94,ip,vlan_tci=0x1000/0x1000 actions=ct(table=6,zone=0,nat)
cookie=0x0, table=6, priority=1,tcp,nw_src=10.0.0.1/255.0.0.255,tcp_flags=0x2/0x2,field(0x0001,29)=0x03,field(0x8000,8)=0x01 actions=set_field:field(0x8000,8)=0x02,NORMAL";
    assert_eq!(texts.join("\n"), expected);
}

#[test]
fn counters_and_timeouts() {
    let dump = dump();
    assert!(dump.iter().all(|it| it.packets == 0 && it.bytes == 0));
    assert!(dump.iter().all(|it| it.duration > Duration::ZERO && it.duration < Duration::from_mins(1)));
    assert_eq!(dump.last().map(|it| (it.idle_timeout, it.hard_timeout)), Some((30, 0)));
}

#[test]
fn ports_features_and_flushes() {
    let messages = messages();
    let ports = messages.iter().find_map(|message| match message {
        Message::PortDescReply { ports, .. } => Some(ports.clone()),
        _ => None,
    });
    let names: Vec<_> = ports.unwrap().into_iter().map(|port| (port.number.to_string(), port.name)).collect();
    assert_eq!(
        names,
        [("LOCAL", "br-edge"), ("1", "p1"), ("2", "p2")].map(|(n, p)| (n.to_owned(), p.to_owned()))
    );
    let is_features = |message: &&Message| matches!(message, Message::FeaturesReply(f) if f.tables == 254);
    assert_eq!(messages.iter().filter(is_features).count(), 1);
    assert!(messages.contains(&Message::CtFlushZone(5)));
    let four = |text: &str| Some(text.parse().unwrap());
    assert!(messages.contains(&Message::CtFlush(CtFlush {
        zone: Some(5),
        proto: Some(6),
        original: CtTuple {
            src: four("10.0.0.1"),
            dst: four("10.0.0.2"),
            src_port: Some(1),
            dst_port: Some(2)
        },
        reply: CtTuple::default(),
    })));
}

#[test]
fn errors_in_words() {
    let errors: Vec<String> = messages()
        .into_iter()
        .filter_map(
            |message| if let Message::Error(error) = message { Some(error.to_string()) } else { None },
        )
        .collect();
    assert_eq!(
        errors,
        [
            "bad action: no such group (type 2, code 9)",
            "bundle failed: a message failed (type 17, code 13)",
            "bad request: permission denied (type 1, code 5)",
        ]
    );
    let other = |kind, code| SwitchError { kind, code, data: vec![] }.to_string();
    assert_eq!(other(5, 99), "flow mod failed (type 5, code 99)");
    assert_eq!(other(77, 1), "unknown error (type 77, code 1)");
    assert_eq!(other(0xffff, 3), "error of the vendor's own (type 65535, code 3)");
}

#[test]
fn hello_with_and_without_bitmap() {
    let hello = |text: &str| Message::decode(&from_hex(text)).unwrap().1;
    assert_eq!(hello("06000010000000010001000800000040"), Message::Hello { versions: 0x40 });
    assert_eq!(hello("0600000800000009"), Message::Hello { versions: 0x7e });
    assert_eq!(hello("0400000800000009"), Message::Hello { versions: 0x1e });
    assert_eq!(hello("ff00000800000009"), Message::Hello { versions: u32::MAX - 1 });
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let flow = |actions| Flow {
        table: TableId(0),
        priority: 0,
        cookie: Cookie(0),
        matches: crate::openflow::Match::any(),
        actions,
    };
    let refused = |actions| Message::FlowMod(FlowMod::Add(flow(actions))).encode(Xid(1)).unwrap_err();
    assert!(matches!(refused(vec![Action::Note(vec![0; 65_600])]), EncodeError::TooLong { .. }));
    assert!(matches!(refused(vec![Action::Note(vec![0; 40_000]); 2]), EncodeError::TooLong { .. }));
    assert_eq!(
        refused(vec![Action::Goto(TableId(1)), Action::Output(Port::Local)]),
        EncodeError::GotoNotLast
    );
    for (clause, clauses) in [(0, 2), (3, 2), (1, 1), (1, 65)] {
        assert!(matches!(
            refused(vec![Action::Conjunction { id: 1, clause, clauses }]),
            EncodeError::BadConjunction { .. }
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever comes in, the answer is a value. The beginning is a true one, or chance would never get past it.
    #[test]
    fn broken_messages_never_panic(
        line in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        fix_length in any::<bool>(),
    ) {
        let all = conversation();
        let mut bytes = all[line.index(all.len())].clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 4).max(HEADER));
        if fix_length {
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            bytes[2..4].copy_from_slice(&length);
        }
        if let Ok((xid, message)) = Message::decode(&bytes) {
            // What is understood can be written again, unless it names what OpenFlow cannot say.
            let _written = message.encode(xid);
            let _said = format!("{message:?}");
        }
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(&bytes);
        for kind in [FLOW_MOD, MULTIPART_REPLY, BUNDLE_ADD, EXPERIMENTER, ERROR, HELLO] {
            let _ = Message::take_body(VERSION, kind, &bytes);
        }
    }
}
