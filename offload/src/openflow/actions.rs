//! What a flow does with a packet. The bytes are in `actions/wire.rs`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fields::Oxm;
use super::fields::{Masked, Reg, TableId};
use crate::ids::{CtZone, MacAddr, OfPort};

mod nat;
pub(super) mod wire;

/// A flow without actions drops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Output(Port),
    /// To the port whose number these bits hold.
    OutputReg(RegSlice),
    Set(SetField),
    Ct(Ct),
    CtClear,
    /// Look the packet up in that table, then go on here.
    Resubmit(TableId),
    /// An instruction on the wire: only possible as the last one.
    Goto(TableId),
    /// `clause` counts from 1.
    Conjunction {
        id: u32,
        clause: u8,
        clauses: u8,
    },
    /// Through this meter of the bridge, which drops what is too much.
    Meter(u32),
    /// Does nothing. OVS rounds the length up: 6 bytes, 14, 22 and so on come back as they went.
    Note(Vec<u8>),
    /// An action or instruction that this program does not write: a foreign flow's. Whole, as it stands on the wire.
    Other(Foreign),
}

/// Bytes of a foreign flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Foreign {
    Action(Vec<u8>),
    Instruction(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    Number(OfPort),
    /// Back to where it came from, which a plain number never does.
    InPort,
    Local,
    Controller,
    Normal,
    Other(u32),
}

impl Port {
    pub(super) const IN_PORT: u32 = 0xffff_fff8;
    pub(super) const NORMAL: u32 = 0xffff_fffa;
    pub(super) const CONTROLLER: u32 = 0xffff_fffd;
    pub(super) const LOCAL: u32 = 0xffff_fffe;

    pub fn number(self) -> u32 {
        match self {
            Self::Number(port) => port.get(),
            Self::InPort => Self::IN_PORT,
            Self::Local => Self::LOCAL,
            Self::Controller => Self::CONTROLLER,
            Self::Normal => Self::NORMAL,
            Self::Other(number) => number,
        }
    }

    pub fn from_number(number: u32) -> Self {
        match number {
            Self::IN_PORT => Self::InPort,
            Self::LOCAL => Self::Local,
            Self::CONTROLLER => Self::Controller,
            Self::NORMAL => Self::Normal,
            number => OfPort::new(number).map_or(Self::Other(number), Self::Number),
        }
    }
}

impl From<OfPort> for Port {
    fn from(port: OfPort) -> Self {
        Self::Number(port)
    }
}

/// `bits` bits of a register, from bit `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegSlice {
    pub reg: Reg,
    pub offset: u8,
    pub bits: u8,
}

impl RegSlice {
    pub const fn whole(reg: Reg) -> Self {
        Self { reg, offset: 0, bits: 32 }
    }

    /// The low half: as wide as a conntrack zone.
    pub const fn low16(reg: Reg) -> Self {
        Self { reg, offset: 0, bits: 16 }
    }

    pub fn read(self, value: u32) -> u32 {
        let mask = u32::MAX.checked_shr(32u32.saturating_sub(u32::from(self.bits))).unwrap_or(0);
        value.checked_shr(u32::from(self.offset)).unwrap_or(0) & mask
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetField {
    Reg(Reg, Masked<u32>),
    EthSrc(MacAddr),
    EthDst(MacAddr),
    Other(Oxm),
}

/// Through conntrack. Without `table` the packet just goes on, and conntrack's verdict is only in the commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ct {
    pub commit: Commit,
    pub zone: CtZoneSource,
    pub table: Option<TableId>,
    pub exec: Vec<CtExec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Commit {
    No,
    Yes,
    /// Also when the connection is already there the other way round: then that one goes.
    Force,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtZoneSource {
    Fixed(u16),
    Reg(RegSlice),
}

impl From<CtZone> for CtZoneSource {
    fn from(zone: CtZone) -> Self {
        Self::Fixed(zone.get())
    }
}

/// What is done to the connection that is committed, or to the packet by the connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtExec {
    SetMark(Masked<u32>),
    /// These bits of a register into as many of the mark's lowest ones.
    CopyToMark(RegSlice),
    Nat(Nat),
    Other(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nat {
    /// As the connection was translated when it was committed.
    Restore,
    Source(NatRange),
    Destination(NatRange),
}

/// First and last address, and first and last port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatRange {
    Ipv4 { addresses: (Ipv4Addr, Ipv4Addr), ports: Option<(u16, u16)> },
    Ipv6 { addresses: (Ipv6Addr, Ipv6Addr), ports: Option<(u16, u16)> },
}

impl Ct {
    /// Finds the packet's connection and goes on in `table`.
    pub fn lookup(zone: impl Into<CtZoneSource>, table: TableId) -> Self {
        Self { commit: Commit::No, zone: zone.into(), table: Some(table), exec: Vec::new() }
    }

    /// Makes the packet's connection one that is known.
    pub fn commit(zone: CtZoneSource) -> Self {
        Self { commit: Commit::Yes, zone, table: None, exec: Vec::new() }
    }
}
