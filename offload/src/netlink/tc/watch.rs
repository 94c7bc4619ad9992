//! What happens to TC (`RTNLGRP_TC`), filter by filter and by whom.
//!
//! For who owns rules and must know at once that somebody took them away. [`crate::netlink::monitor`] says only where to
//! look, for all kinds of things. The kernel builds a message for every change once somebody listens, which slows all
//! writers down: listen to what is guarded, not while loading a table.
//!
//! A buffer that is full loses events: [`Event::Overrun`]. Then dump and compare; what comes after it is told as before.

use std::time::Duration;

use super::filter::{Filter, MAGIC_BLOCK};
use super::{TCA_CHAIN, TCA_KIND, TCMSG};
use crate::flower::ChainIndex;
use crate::ids::IfIndex;
use crate::netlink::error::Result;
use crate::netlink::frame::Frame;
use crate::netlink::monitor::{Listener, RTNLGRP_TC};
use crate::netlink::request::flags;
use crate::netlink::socket::{NetlinkSocket, Protocol};
use crate::netlink::wire::{Attributes, Malformed, u32_at};

const RTM_NEWCHAIN: u16 = 100;
const RTM_DELCHAIN: u16 = 101;
const TCA_EXT_WARN_MSG: u16 = 16;

/// Where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// `parent` tells the ingress side (`0xfffffff2`) from the others; 0 of chains.
    Device {
        ifindex: IfIndex,
        parent: u32,
    },
    Block(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A filter was added or replaced. `added` is only known if the writer insisted that there be none (`NLM_F_EXCL`).
    /// `warning` is what the writer was told: why the hardware does not run it.
    Written {
        hook: Hook,
        by: u32,
        added: bool,
        filter: Box<Filter>,
        warning: Option<String>,
    },
    Deleted {
        hook: Hook,
        by: u32,
        filter: Box<Filter>,
    },
    /// All filters of a chain and pref went at once.
    Flushed {
        hook: Hook,
        by: u32,
        chain: ChainIndex,
        pref: u16,
    },
    ChainAdded {
        hook: Hook,
        by: u32,
        chain: ChainIndex,
    },
    ChainDeleted {
        hook: Hook,
        by: u32,
        chain: ChainIndex,
    },
    QdiscAdded {
        ifindex: IfIndex,
        by: u32,
        kind: String,
        parent: u32,
    },
    /// With all filters under it, of which nothing more is said.
    QdiscDeleted {
        ifindex: IfIndex,
        by: u32,
        kind: String,
        parent: u32,
    },
    /// Events were lost, or could not be read.
    Overrun,
}

impl Event {
    /// The netlink port of who did it ([`NetlinkSocket::port`]); 0 for the kernel itself.
    pub fn by(&self) -> Option<u32> {
        match self {
            Self::Written { by, .. }
            | Self::Deleted { by, .. }
            | Self::Flushed { by, .. }
            | Self::ChainAdded { by, .. }
            | Self::ChainDeleted { by, .. }
            | Self::QdiscAdded { by, .. }
            | Self::QdiscDeleted { by, .. } => Some(*by),
            Self::Overrun => None,
        }
    }

    /// The device that it is about; none for shared blocks.
    pub fn ifindex(&self) -> Option<IfIndex> {
        match self {
            Self::Written { hook, .. }
            | Self::Deleted { hook, .. }
            | Self::Flushed { hook, .. }
            | Self::ChainAdded { hook, .. }
            | Self::ChainDeleted { hook, .. } => match hook {
                Hook::Device { ifindex, .. } => Some(*ifindex),
                Hook::Block(_) => None,
            },
            Self::QdiscAdded { ifindex, .. } | Self::QdiscDeleted { ifindex, .. } => Some(*ifindex),
            Self::Overrun => None,
        }
    }
}

/// A socket that listens. Events are kept by the kernel from [`Watch::open`] on, so open it before the first dump.
pub struct Watch(Listener);

impl Watch {
    /// Listens in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Self::over(NetlinkSocket::open(Protocol::Route)?)
    }

    /// With a receive buffer of so many bytes (the kernel doubles the number), not that of [`Self::open`].
    pub fn with_buffer(bytes: usize) -> Result<Self> {
        let socket = NetlinkSocket::open(Protocol::Route)?;
        socket.set_receive_buffer(bytes)?;
        Self::over(socket)
    }

    fn over(socket: NetlinkSocket) -> Result<Self> {
        socket.join(RTNLGRP_TC)?;
        Ok(Self(Listener::new(socket)))
    }

    /// Waits for events, at most for `patience`; an empty answer means that nothing happened. All of a datagram come at once.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Event>> {
        self.0.wait(patience, decode, || Event::Overrun)
    }
}

fn decode(frame: Frame<'_>) -> std::result::Result<Option<Event>, Malformed> {
    let Frame { kind, payload, port: by, .. } = frame;
    if !matches!(
        kind,
        libc::RTM_NEWQDISC
            | libc::RTM_DELQDISC
            | libc::RTM_NEWTFILTER
            | libc::RTM_DELTFILTER
            | RTM_NEWCHAIN
            | RTM_DELCHAIN
    ) {
        return Ok(None);
    }
    let (index, parent, info) = (u32_at(payload, 4)?, u32_at(payload, 12)?, u32_at(payload, 16)?);
    let attributes = Attributes::after(payload, TCMSG)?;
    let ifindex = IfIndex(index);
    let hook = if index == MAGIC_BLOCK { Hook::Block(parent) } else { Hook::Device { ifindex, parent } };
    let chain = || {
        let chain = attributes.find(TCA_CHAIN)?.map(|chain| chain.u32()).transpose()?;
        Ok(ChainIndex(chain.unwrap_or(0)))
    };
    let text = |kind: u16| Ok(attributes.find(kind)?.map(|text| text.text()));
    let filter = || Filter::decode(payload, ifindex).map(|filter| filter.map(Box::new));
    Ok(Some(match kind {
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC => {
            let name = text(TCA_KIND)?.ok_or_else(|| Malformed::new("a qdisc without a kind"))?;
            if kind == libc::RTM_NEWQDISC {
                Event::QdiscAdded { ifindex, by, kind: name, parent }
            } else {
                Event::QdiscDeleted { ifindex, by, kind: name, parent }
            }
        }
        RTM_NEWCHAIN => Event::ChainAdded { hook, by, chain: chain()? },
        RTM_DELCHAIN => Event::ChainDeleted { hook, by, chain: chain()? },
        libc::RTM_NEWTFILTER => {
            // The classifier itself is told of only together with its first filter.
            let Some(filter) = filter()? else { return Ok(None) };
            let added = frame.flags & flags::EXCL != 0;
            Event::Written { hook, by, added, filter, warning: text(TCA_EXT_WARN_MSG)? }
        }
        _ => match filter()? {
            Some(filter) => Event::Deleted { hook, by, filter },
            None => Event::Flushed { hook, by, chain: chain()?, pref: (info >> 16) as u16 },
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tc::tests::{drop_all, place, written};

    fn frame(kind: u16, flags: u16, payload: &[u8]) -> Frame<'_> {
        Frame { kind, flags, sequence: 7, port: 99, payload }
    }

    #[test]
    fn filters_that_come_and_go() {
        let payload = written(place(), &drop_all());
        let hook = Hook::Device { ifindex: IfIndex(4), parent: 0xffff_fff2 };
        let filter = Box::new(Filter::decode(&payload, IfIndex(4)).unwrap().unwrap());
        for (flags, added) in [(0x605, true), (0x405, false)] {
            let seen = decode(frame(libc::RTM_NEWTFILTER, flags, &payload)).unwrap().unwrap();
            let expected = Event::Written { hook, by: 99, added, filter: filter.clone(), warning: None };
            assert_eq!(seen, expected);
        }
        let seen = decode(frame(libc::RTM_DELTFILTER, 0, &payload)).unwrap().unwrap();
        assert_eq!(seen, Event::Deleted { hook, by: 99, filter });
        assert_eq!((seen.by(), seen.ifindex()), (Some(99), Some(IfIndex(4))));
    }

    /// A flush: no handle, no options.
    #[test]
    fn a_flush_is_told_by_chain_and_pref() {
        let mut w =
            crate::netlink::wire::Writer::new(&super::super::tcmsg(IfIndex(4), 0, 0xffff_fff2, 3 << 16 | 8));
        w.put_text(TCA_KIND, "flower").put_u32(TCA_CHAIN, 5);
        let payload = w.finish().unwrap();
        let hook = Hook::Device { ifindex: IfIndex(4), parent: 0xffff_fff2 };
        let seen = decode(frame(libc::RTM_DELTFILTER, 0, &payload)).unwrap().unwrap();
        assert_eq!(seen, Event::Flushed { hook, by: 99, chain: ChainIndex(5), pref: 3 });
        assert_eq!(decode(frame(libc::RTM_NEWTFILTER, 0, &payload)).unwrap(), None);
    }

    #[test]
    fn what_is_not_tc_is_nothing() {
        assert_eq!(decode(frame(libc::RTM_NEWLINK, 0, &[0; 16])).unwrap(), None);
        assert!(decode(frame(libc::RTM_DELQDISC, 0, &[0; 16])).is_err());
    }
}
