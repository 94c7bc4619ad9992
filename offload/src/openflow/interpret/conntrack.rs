//! Connections: the tuples that were committed, per zone.

use std::collections::BTreeMap;

use super::frame::{Frame, Icmp, L4};
use super::tuple::Tuple;
use crate::openflow::fields::CtFlags;

#[derive(Debug, Clone, Copy)]
struct Connection {
    answered: bool,
    mark: u32,
}

/// Per zone, by the tuple of the packet that was committed.
#[derive(Debug, Clone, Default)]
pub struct Conntrack(BTreeMap<(u16, Tuple), Connection>);

/// What a packet is to conntrack.
enum Class {
    /// Begins or continues a connection.
    Opens(Tuple),
    /// Belongs to a connection, if there is one: it never begins one.
    Continues(Tuple),
    /// Is about a packet of another connection.
    Error(Option<Tuple>),
    Invalid,
}

/// `nf_conntrack_proto_icmp.c` and `…_icmpv6.c`, without the requests that nobody sends any more.
fn class(frame: &Frame) -> Class {
    let Some((src, dst, l4)) = frame.ip() else { return Class::Invalid };
    let proto = l4.proto(src.is_ipv6());
    let tuple = |ports| Tuple { src, dst, proto, ports };
    match l4 {
        L4::Tcp { src, dst, .. } | L4::Udp { src, dst } | L4::Sctp { src, dst } => {
            Class::Opens(tuple((*src, *dst)))
        }
        L4::Other(_) => Class::Opens(tuple((0, 0))),
        L4::Icmp(Icmp { kind, id, about, .. }) => match (src.is_ipv6(), kind) {
            (false, 8) | (true, 128) => Class::Opens(tuple((*id, *id))),
            (false, 0) | (true, 129) => Class::Continues(tuple((*id, *id))),
            (false, 3 | 4 | 5 | 11 | 12) | (true, 1..=4 | 137) => Class::Error(*about),
            _ => Class::Invalid,
        },
    }
}

impl Conntrack {
    /// The state of the packet, and the mark of its connection. A packet from the other side is an answer.
    pub fn find(&mut self, zone: u16, frame: &Frame) -> (CtFlags, u32) {
        const INVALID: (CtFlags, u32) = (CtFlags(CtFlags::TRK.0 | CtFlags::INV.0), 0);
        match class(frame) {
            Class::Opens(tuple) => self.find_tuple(zone, tuple).unwrap_or((CtFlags::TRK | CtFlags::NEW, 0)),
            Class::Continues(tuple) => self.find_tuple(zone, tuple).unwrap_or(INVALID),
            Class::Error(Some(about)) => self.find_related(zone, about).unwrap_or(INVALID),
            Class::Error(None) | Class::Invalid => INVALID,
        }
    }

    fn find_tuple(&mut self, zone: u16, tuple: Tuple) -> Option<(CtFlags, u32)> {
        if let Some(connection) = self.0.get(&(zone, tuple)) {
            let state = if connection.answered { CtFlags::EST } else { CtFlags::NEW };
            return Some((CtFlags::TRK | state, connection.mark));
        }
        let connection = self.0.get_mut(&(zone, tuple.reversed()))?;
        connection.answered = true;
        Some((CtFlags::TRK | CtFlags::EST | CtFlags::RPL, connection.mark))
    }

    fn find_related(&self, zone: u16, about: Tuple) -> Option<(CtFlags, u32)> {
        // An error goes against the packet that it is about.
        let connection = |tuple| self.0.get(&(zone, tuple));
        let forth = connection(about).map(|it| (CtFlags::TRK | CtFlags::REL | CtFlags::RPL, it.mark));
        forth.or_else(|| connection(about.reversed()).map(|it| (CtFlags::TRK | CtFlags::REL, it.mark)))
    }

    /// The mark of the connection that this packet belongs to, whichever way it goes.
    pub fn mark(&self, zone: u16, frame: &Frame) -> Option<u32> {
        let (Class::Opens(tuple) | Class::Continues(tuple)) = class(frame) else { return None };
        let known = self.0.get(&(zone, tuple)).or_else(|| self.0.get(&(zone, tuple.reversed())));
        known.map(|it| it.mark)
    }

    pub fn commit(&mut self, zone: u16, frame: &Frame, mark: u32) {
        let (Class::Opens(tuple) | Class::Continues(tuple)) = class(frame) else { return };
        let known = if self.0.contains_key(&(zone, tuple.reversed())) { tuple.reversed() } else { tuple };
        let connection = self.0.entry((zone, known)).or_insert(Connection { answered: false, mark });
        connection.mark = mark;
    }
}
