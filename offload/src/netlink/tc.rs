//! TC: ingress qdiscs, flower filters, and the one rule that closes a port.
//!
//! Owns the encoding of qdiscs, filters and actions; what they say are the values of [`crate::flower`]. [`close()`] and [`open`]
//! touch only filters that bear the caller's [`Cookie`]; [`apply`] touches what the caller names, and flushes no chain 0. A
//! qdisc is only deleted when told so by name.
//!
//! A port is closed by a flower filter at chain 0, pref 1, all protocols, no keys, that drops. It stands in front of
//! whatever OVS writes (pref 2 and up). OVS flushes a port's filters and re-creates its `ingress` qdisc when it takes the
//! port, so whoever needs a port closed must look again after that. (facts: Open vSwitch `dpif-offload-tc-netdev.c`,
//! Linux `net/sched/cls_api.c`, `cls_flower.c`.)

pub mod action;
mod beyond;
mod change;
mod close;
pub mod filter;
mod flower;
pub mod key;
pub mod qdisc;
mod unwritable;
pub mod watch;

pub use action::{Action, Counters, HardwareStats, Police, Statistics, Verdict};
pub use beyond::Part;
pub use change::{Change, Done, Handle, Place, Reason, Reasons, Refusal, Target, apply};
pub use close::{Closed, close, close_many, is_closed, is_closed_by, open};
pub use filter::{Filter, Status, filters, filters_of_chain, remove_filter, statuses};
pub use flower::{Flower, Partial};
pub use qdisc::{Qdisc, ensure_clsact, ensure_ingress, qdiscs, remove_clsact, remove_ingress};
pub use unwritable::Unwritable;
pub use watch::Watch;

pub use crate::flower::{ChainIndex, Cookie, NextChain, Pref, Skip};
use crate::ids::IfIndex;
use crate::netlink::error::{Error, Result};
use crate::netlink::wire::Writer;

const RTM_NEWQDISC: u16 = libc::RTM_NEWQDISC;
const RTM_DELQDISC: u16 = libc::RTM_DELQDISC;
const RTM_GETQDISC: u16 = libc::RTM_GETQDISC;
const RTM_NEWTFILTER: u16 = libc::RTM_NEWTFILTER;
const RTM_DELTFILTER: u16 = libc::RTM_DELTFILTER;
const RTM_GETTFILTER: u16 = libc::RTM_GETTFILTER;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
const TCA_INGRESS_BLOCK: u16 = 13;

/// `struct tcmsg`: family, 3 bytes of padding, ifindex, handle, parent, info.
const TCMSG: usize = 20;
/// The handle that the kernel gives every `ingress` and `clsact` qdisc.
const HANDLE_INGRESS: u32 = 0xffff_0000;
/// `TC_H_INGRESS`, `TC_H_CLSACT`: where such a qdisc hangs.
const PARENT_INGRESS: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`: the ingress hook of either.
const PARENT_INGRESS_FILTERS: u32 = 0xffff_fff2;

/// `struct tcmsg`.
fn tcmsg(ifindex: IfIndex, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    let fields = [0, ifindex.0, handle, parent, info].map(u32::to_ne_bytes);
    bytes.iter_mut().zip(fields.as_flattened()).for_each(|(to, from)| *to = *from);
    bytes
}

/// The payload, or, as an error, that it does not fit.
fn finish(operation: std::fmt::Arguments<'_>, writer: Writer) -> Result<Vec<u8>> {
    writer.finish().map_err(|source| Error::Malformed { operation: operation.to_string(), source })
}

#[cfg(test)]
mod tests;
