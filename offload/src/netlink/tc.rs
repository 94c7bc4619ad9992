//! TC: ingress qdiscs, flower filters, and the one rule that closes a port.
//!
//! Owns the encoding of qdiscs, filters and actions. Touches only filters that bear the caller's [`Cookie`]; never
//! flushes, never deletes a qdisc unless told so by name.
//!
//! A port is closed by a flower filter at chain 0, pref 1, all protocols, no keys, that drops. It stands in front of
//! whatever OVS writes (pref 2 and up). OVS flushes a port's filters and re-creates its `ingress` qdisc when it takes the
//! port, so whoever needs a port closed must look again after that. (facts: Open vSwitch `dpif-offload-tc-netdev.c`,
//! Linux `net/sched/cls_api.c`, `cls_flower.c`.)

pub mod action;
mod close;
pub mod filter;
pub mod flower;
pub mod qdisc;

pub use action::{Action, Cookie};
pub use close::{Closed, close, close_many, is_closed, open};
pub use filter::{ChainIndex, Filter, FilterSpec, Pref, filters, remove_filter};
pub use flower::{Flower, FlowerSpec, Skip};
pub use qdisc::{Qdisc, ensure_ingress, qdiscs, remove_ingress};

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

#[cfg(test)]
mod tests;
