//! Filters of an ingress hook that are there: listing them, removing one.

use std::fmt::Arguments;

use super::action::Statistics;
use super::flower::{self, Flower};
use super::key::PROTOCOL_ALL;
use super::{
    PARENT_INGRESS_FILTERS, RTM_DELTFILTER, RTM_GETTFILTER, TCA_CHAIN, TCA_KIND, TCA_OPTIONS, TCMSG, tcmsg,
};
use crate::flower::ChainIndex;
use crate::ids::IfIndex;
use crate::netlink::error::{Errno, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::NetlinkSocket;
use crate::netlink::wire::{Attributes, Malformed, Writer, u32_at};

/// `TCM_IFINDEX_MAGIC_BLOCK`: what stands for the ifindex of filters in a shared block.
pub(super) const MAGIC_BLOCK: u32 = 0xffff_ffff;

const TCA_DUMP_FLAGS: u16 = 15;
/// `TCA_DUMP_FLAGS_TERSE`
const TERSE: u32 = 1;

/// `tcm_info`: pref, and the protocol in network byte order.
pub(super) fn info(pref: u16, protocol: u16) -> u32 {
    u32::from(pref) << 16 | u32::from(protocol.to_be())
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
    /// `tcm_info`'s: one (chain, pref) holds only one.
    pub protocol: u16,
    pub handle: u32,
    pub kind: String,
    /// `None` for other classifiers.
    pub flower: Option<Flower>,
    /// Its options as they came, if it is no rule of our types; else empty.
    pub raw: Vec<u8>,
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
        let protocol = u16::from_be((info & 0xffff) as u16);
        let flower = match options {
            Some(options) if kind == flower::KIND => Some(Flower::decode(options, protocol)?),
            _ => None,
        };
        let is_rule = flower.as_ref().is_some_and(|flower| flower.rule.is_ok());
        Ok(Some(Self {
            ifindex: asked,
            block: (index == MAGIC_BLOCK).then_some(parent),
            chain: ChainIndex(attributes.find(TCA_CHAIN)?.map(|chain| chain.u32()).transpose()?.unwrap_or(0)),
            pref: (info >> 16) as u16,
            protocol,
            handle,
            kind,
            flower,
            raw: options.filter(|_| !is_rule).map(|options| options.value.to_vec()).unwrap_or_default(),
        }))
    }

    /// Whether frames of every protocol come to it.
    pub fn is_for_all(&self) -> bool {
        self.protocol == PROTOCOL_ALL
    }
}

/// What a terse dump tells of a flower filter: where it runs and what it counted, not what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub chain: ChainIndex,
    pub pref: u16,
    pub handle: u32,
    pub in_hw: bool,
    pub not_in_hw: bool,
    /// The first action's.
    pub cookie: Option<Vec<u8>>,
    pub statistics: Statistics,
}

/// The filters of a device's ingress hook, all chains. A device without such a hook has none.
pub fn filters(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<Vec<Filter>> {
    let operation = format_args!("list the ingress filters of network device {ifindex}");
    dump(socket, operation, ifindex, None, false)
}

/// The filters of one chain of a device's ingress hook.
pub fn filters_of_chain(
    socket: &mut NetlinkSocket,
    ifindex: IfIndex,
    chain: ChainIndex,
) -> Result<Vec<Filter>> {
    let operation = format_args!("list the ingress filters of network device {ifindex}, chain {chain}");
    dump(socket, operation, ifindex, Some(chain), false)
}

/// Where the flower filters of a device run and what they counted; of one chain or of all. Cheaper than [`filters`], for
/// whoever knows what they are. Other classifiers do not tell, and make the dump fail (`EOPNOTSUPP`).
pub fn statuses(
    socket: &mut NetlinkSocket,
    ifindex: IfIndex,
    chain: Option<ChainIndex>,
) -> Result<Vec<Status>> {
    let operation = format_args!("list the states of the ingress filters of network device {ifindex}");
    let filters = dump(socket, operation, ifindex, chain, true)?;
    let status = |filter: Filter| {
        let flower = filter.flower?;
        let statistics = flower.statistics();
        Some(Status {
            chain: filter.chain,
            pref: filter.pref,
            handle: filter.handle,
            in_hw: flower.in_hw,
            not_in_hw: flower.not_in_hw,
            statistics,
            cookie: flower.actions.into_iter().next().and_then(|action| action.cookie),
        })
    };
    Ok(filters.into_iter().filter_map(status).collect())
}

fn dump(
    socket: &mut NetlinkSocket,
    operation: Arguments<'_>,
    ifindex: IfIndex,
    chain: Option<ChainIndex>,
    terse: bool,
) -> Result<Vec<Filter>> {
    let mut writer = Writer::new(&tcmsg(ifindex, 0, PARENT_INGRESS_FILTERS, 0));
    if let Some(chain) = chain {
        writer.put_u32(TCA_CHAIN, chain.0);
    }
    if terse {
        // struct nla_bitfield32: value, selector.
        writer.put(TCA_DUMP_FLAGS, [TERSE, TERSE].map(u32::to_ne_bytes).as_flattened());
    }
    let request = Request::new(RTM_GETTFILTER, 0, super::finish(operation, writer)?);
    socket.dump(operation, &request, |payload| Filter::decode(payload, ifindex))
}

/// Removes just this filter. Returns whether it was still there.
pub fn remove_filter(socket: &mut NetlinkSocket, filter: &Filter) -> Result<bool> {
    let operation = format_args!(
        "remove filter chain {} pref {} handle {:#x} of network device {}",
        filter.chain, filter.pref, filter.handle, filter.ifindex
    );
    let header =
        tcmsg(filter.ifindex, filter.handle, PARENT_INGRESS_FILTERS, info(filter.pref, filter.protocol));
    let mut writer = Writer::new(&header);
    writer.put_text(TCA_KIND, &filter.kind).put_u32(TCA_CHAIN, filter.chain.0);
    let request = Request::new(RTM_DELTFILTER, 0, super::finish(operation, writer)?);
    match socket.request(operation, &request) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
