//! New connections, told by the kernel as they are confirmed (`NFNLGRP_CONNTRACK_NEW`).
//!
//! Meant for a thread of its own. The kernel tells all zones; a socket filter lets by those of a range, so that what
//! others' zones do neither wakes the reader nor fills its buffer. What did fit is a hint that comes early, never the
//! whole truth: after [`NewConnection::Lost`] only a dump knows.
//!
//! With `net.netfilter.nf_conntrack_events=2`, the default, the kernel tells only of connections that began while
//! somebody listened: open this before the dump that is to be complete.
//!
//! Sources: Linux 6.12 `ctnetlink_conntrack_event()`, `net/core/filter.c` (`BPF_ANC|SKF_AD_NLATTR`).

use std::ops::RangeInclusive;
use std::time::Duration;

use socket2::{SockFilter, SockRef};

use super::{Entry, message};
use crate::ids::CtZone;
use crate::netlink::error::{Error, Result};
use crate::netlink::frame::{Frame, NLMSG_HEADER};
use crate::netlink::monitor::Listener;
use crate::netlink::socket::{NetlinkSocket, Protocol};
use crate::netlink::wire::Malformed;

const NFNLGRP_CONNTRACK_NEW: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewConnection {
    Began(Entry),
    /// The buffer was full, or an event could not be read.
    Lost,
}

/// A socket that listens for new connections in a range of zones.
pub struct NewConnections {
    listener: Listener,
    zones: RangeInclusive<CtZone>,
}

impl NewConnections {
    /// Listens in the calling thread's network namespace.
    pub fn open(zones: RangeInclusive<CtZone>) -> Result<Self> {
        Self::over(NetlinkSocket::open(Protocol::Netfilter)?, zones)
    }

    /// With a receive buffer of so many bytes (the kernel doubles the number), not that of [`Self::open`].
    pub fn with_buffer(zones: RangeInclusive<CtZone>, bytes: usize) -> Result<Self> {
        let socket = NetlinkSocket::open(Protocol::Netfilter)?;
        socket.set_receive_buffer(bytes)?;
        Self::over(socket, zones)
    }

    fn over(socket: NetlinkSocket, zones: RangeInclusive<CtZone>) -> Result<Self> {
        SockRef::from(&socket).attach_filter(&filter(&zones)).map_err(|source| Error::Socket {
            operation: "attach a filter to a netfilter netlink socket".to_owned(),
            source,
        })?;
        socket.join(NFNLGRP_CONNTRACK_NEW)?;
        Ok(Self { listener: Listener::new(socket), zones })
    }

    /// Waits for new connections, at most for `patience`; an empty answer means that none began.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<NewConnection>> {
        let zones = self.zones.clone();
        self.listener.wait(patience, |frame| decode(frame, &zones), || NewConnection::Lost)
    }
}

fn decode(
    frame: Frame<'_>,
    zones: &RangeInclusive<CtZone>,
) -> std::result::Result<Option<NewConnection>, Malformed> {
    if frame.kind != message::NEW {
        return Ok(None);
    }
    let entry = message::entry(frame.payload)?;
    // What came before the filter was attached has passed it.
    let ours = entry.zone.is_some_and(|zone| zones.contains(&zone));
    Ok(ours.then_some(NewConnection::Began(entry)))
}

/// Classic BPF over the whole netlink message: finds `CTA_ZONE` behind both headers, and lets the message by if the zone is
/// in the range. A message without one is of zone 0, which is nobody's.
fn filter(zones: &RangeInclusive<CtZone>) -> [SockFilter; 10] {
    const LD_IMM: u16 = 0x00;
    const LDX_IMM: u16 = 0x01;
    const LD_W_ABS: u16 = 0x20;
    const LD_H_IND: u16 = 0x48;
    const TAX: u16 = 0x07;
    const JEQ: u16 = 0x15;
    const JGT: u16 = 0x25;
    const JGE: u16 = 0x35;
    const RET: u16 = 0x06;
    /// `SKF_AD_OFF + SKF_AD_NLATTR`: the offset of the attribute of type X, from offset A on, into A; 0 if there is none.
    const NLATTR: u32 = 0u32.wrapping_sub(0x1000) + 12;
    const PASS: u32 = u32::MAX;
    /// Of an attribute: length and type.
    const ATTRIBUTE_HEADER: u32 = 4;
    let headers = u32::try_from(NLMSG_HEADER + message::HEADER.len()).unwrap_or(0);
    let (first, last) = (u32::from(zones.start().get()), u32::from(zones.end().get()));
    [
        SockFilter::new(LD_IMM, 0, 0, headers),
        SockFilter::new(LDX_IMM, 0, 0, message::ZONE.into()),
        SockFilter::new(LD_W_ABS, 0, 0, NLATTR),
        SockFilter::new(JEQ, 5, 0, 0),
        SockFilter::new(TAX, 0, 0, 0),
        // In network byte order, as BPF loads.
        SockFilter::new(LD_H_IND, 0, 0, ATTRIBUTE_HEADER),
        SockFilter::new(JGE, 0, 2, first),
        SockFilter::new(JGT, 1, 0, last),
        SockFilter::new(RET, 0, 0, PASS),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::conntrack::tests::{TCP_ENTRY, tcp_entry};
    use crate::netlink::wire::hex;

    fn zones(first: u16, last: u16) -> RangeInclusive<CtZone> {
        CtZone::new(first).unwrap()..=CtZone::new(last).unwrap()
    }

    #[test]
    fn new_connections_of_the_range_are_told() {
        let payload = hex(TCP_ENTRY);
        let frame = |kind| Frame { kind, flags: 0x600, sequence: 0, port: 0, payload: &payload };
        let told = |first, last| decode(frame(message::NEW), &zones(first, last)).unwrap();
        assert_eq!(told(7, 7), Some(NewConnection::Began(tcp_entry())));
        assert_eq!((told(8, 9), told(1, 6)), (None, None));
        assert_eq!(decode(frame(message::DELETE), &zones(7, 7)).unwrap(), None);
        let short = Frame { payload: &payload[..20], ..frame(message::NEW) };
        assert!(decode(short, &zones(7, 7)).is_err());
    }
}
