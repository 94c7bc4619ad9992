//! OpenFlow 1.5 as Open vSwitch speaks it: typed flows, their bytes, the difference between two sets of flows, and an
//! interpreter that says what a set of flows does to a packet.
//!
//! Owns the types and the codec. Never opens a socket, never reads a clock: the session that carries the bytes is the
//! agent's. Whatever a switch sends is either understood or kept as raw bytes ([`Oxm`], [`Action::Other`]), so a
//! foreign flow can always be named and deleted; bytes that are no OpenFlow at all are a [`DecodeError`], never a panic.
//!
//! Sources: ONF OpenFlow Switch Specification 1.5.1; `include/openflow/{openflow-1.5,nicira-ext}.h`,
//! `lib/{ofp-actions,ofp-flow,ofp-ct,nx-match}.c` of Open vSwitch 3.1 to 3.5. The test fixtures are bytes that
//! `ovs-ofctl` and `ovs-vswitchd` 3.1 exchanged.

pub mod actions;
mod display;
pub mod errors;
pub mod fields;
pub mod flow;
pub mod interpret;
pub mod matches;
pub mod message;
pub mod meter;
mod oxm;
pub mod wire;

pub use actions::{Action, Commit, Ct, CtExec, CtZoneSource, Nat, NatRange, Port, RegSlice, SetField};
pub use fields::{Bits, Cookie, CtFlags, Masked, Oxm, Reg, TableId};
pub use flow::{Flow, FlowKey, FlowMod, InstalledFlow, diff};
pub use matches::{
    ArpMatch, FragMatch, Icmp6Match, IcmpMatch, Ipv4Match, Ipv6Match, L4Match, Match, ND_ADVERT, ND_SOLICIT,
    OtherEtherType, OtherIcmp6Type, OtherProto, Payload, Ports, TCP_ACK, TCP_SYN, VlanMatch,
};
pub use message::{BundleStep, CtFlush, CtTuple, Features, Message, PortDesc, Xid};
pub use meter::{InstalledMeter, Meter, MeterMod, MeterStats};
pub use wire::{DecodeError, EncodeError};
