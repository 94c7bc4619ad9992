//! Filters of an ingress hook: making, removing, listing.

use std::fmt;
use std::num::NonZeroU16;

use netlink_packet_route::tc::{TcAttribute, TcHeader, TcMessage};

use super::flower::{self, Flower, FlowerSpec};
use super::{
    PARENT_INGRESS_FILTERS, RTM_DELTFILTER, RTM_GETTFILTER, RTM_NEWTFILTER, TCA_CHAIN, TCA_KIND, TCA_OPTIONS,
    TCMSG,
};
use crate::ids::IfIndex;
use crate::netlink::error::{Errno, Result};
use crate::netlink::socket::{NetlinkSocket, Request, flags};
use crate::netlink::wire::{Attributes, Malformed, u32_at};

/// `ETH_P_ALL`: frames of every protocol.
pub const PROTOCOL_ALL: u16 = 0x0003;
/// `TCM_IFINDEX_MAGIC_BLOCK`: what stands for the ifindex of filters in a shared block.
const MAGIC_BLOCK: u32 = 0xffff_ffff;

/// The number of a chain. Every packet starts in chain 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainIndex(pub u32);

impl fmt::Display for ChainIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A filter's preference, which iproute2 also calls prio: low ones are asked first. 0 would make the kernel invent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pref(pub NonZeroU16);

impl Pref {
    pub const FIRST: Self = Self(NonZeroU16::MIN);
}

impl fmt::Display for Pref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A filter to be made. The kernel chooses its handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterSpec {
    pub ifindex: IfIndex,
    pub chain: ChainIndex,
    pub pref: Pref,
    /// As in Ethernet's type field; one (chain, pref) holds only one.
    pub protocol: u16,
    pub flower: FlowerSpec,
}

/// `tcm_info`: pref, and the protocol in network byte order.
fn info(pref: u16, protocol: u16) -> u32 {
    u32::from(pref) << 16 | u32::from(protocol.to_be())
}

impl FilterSpec {
    /// A request that fails if the filter is there already.
    pub(super) fn create(&self) -> Request {
        let header = TcHeader {
            index: self.ifindex.0.cast_signed(),
            parent: PARENT_INGRESS_FILTERS.into(),
            info: info(self.pref.0.get(), self.protocol),
            ..TcHeader::default()
        };
        let attributes = vec![
            TcAttribute::Kind(flower::KIND.to_owned()),
            TcAttribute::Chain(self.chain.0),
            TcAttribute::Options(self.flower.to_options()),
        ];
        let message = TcMessage::from_parts(header, attributes);
        Request::emit(RTM_NEWTFILTER, flags::CREATE | flags::EXCL, &message)
    }
}

/// A filter that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The device that was asked about.
    pub ifindex: IfIndex,
    /// The shared block that it is in, if not the device's own.
    pub block: Option<u32>,
    pub chain: ChainIndex,
    pub pref: u16,
    pub protocol: u16,
    pub handle: u32,
    pub kind: String,
    /// `None` for other classifiers.
    pub flower: Option<Flower>,
}

impl Filter {
    /// From the payload of an `RTM_NEWTFILTER`. `None` for the entry without a handle that stands for a classifier itself.
    pub fn decode(payload: &[u8], asked: IfIndex) -> std::result::Result<Option<Self>, Malformed> {
        let (index, handle, parent, info) =
            (u32_at(payload, 4)?, u32_at(payload, 8)?, u32_at(payload, 12)?, u32_at(payload, 16)?);
        let attributes = Attributes::after(payload, TCMSG)?;
        let kind =
            attributes.find(TCA_KIND)?.ok_or_else(|| Malformed::new("a filter without a kind"))?.text();
        let options = attributes.find(TCA_OPTIONS)?;
        if handle == 0 && options.is_none() {
            return Ok(None);
        }
        let flower = match options {
            Some(options) if kind == flower::KIND => Some(Flower::decode(options)?),
            _ => None,
        };
        Ok(Some(Self {
            ifindex: asked,
            block: (index == MAGIC_BLOCK).then_some(parent),
            chain: ChainIndex(attributes.find(TCA_CHAIN)?.map(|chain| chain.u32()).transpose()?.unwrap_or(0)),
            pref: (info >> 16) as u16,
            protocol: u16::from_be((info & 0xffff) as u16),
            handle,
            kind,
            flower,
        }))
    }
}

/// The filters of a device's ingress hook, all chains. A device without such a hook has none.
pub fn filters(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<Vec<Filter>> {
    let header = TcHeader {
        index: ifindex.0.cast_signed(),
        parent: PARENT_INGRESS_FILTERS.into(),
        ..TcHeader::default()
    };
    let request = Request::emit(RTM_GETTFILTER, 0, &TcMessage::from_parts(header, vec![]));
    let operation = format_args!("list the ingress filters of network device {ifindex}");
    socket.dump(operation, &request, |payload| Filter::decode(payload, ifindex))
}

/// Removes just this filter. Returns whether it was still there.
pub fn remove_filter(socket: &mut NetlinkSocket, filter: &Filter) -> Result<bool> {
    let header = TcHeader {
        index: filter.ifindex.0.cast_signed(),
        handle: filter.handle.into(),
        parent: PARENT_INGRESS_FILTERS.into(),
        info: info(filter.pref, filter.protocol),
        ..TcHeader::default()
    };
    let attributes = vec![TcAttribute::Kind(filter.kind.clone()), TcAttribute::Chain(filter.chain.0)];
    let request = Request::emit(RTM_DELTFILTER, 0, &TcMessage::from_parts(header, attributes));
    let operation = format_args!(
        "remove filter chain {} pref {} handle {:#x} of network device {}",
        filter.chain, filter.pref, filter.handle, filter.ifindex
    );
    match socket.request(operation, &request) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
