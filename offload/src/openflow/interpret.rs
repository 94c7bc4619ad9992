//! What a set of flows does to a frame: a switch of a few pages, slow and simple, against which compilers are tested.
//!
//! Flows are searched one by one. Connections are the tuples that were committed, per zone, without time and without
//! TCP's states. A fragment that conntrack has taken comes out as the whole packet that it belongs to, as if the rest
//! had been sent before: more passes here than on a real switch, so what is stopped here is stopped there.
//! Whatever is not modelled (NAT, foreign fields and actions) is an [`Unsupported`], never a guess.
//!
//! Source: `ovs-fields(7)`, `ovs-actions(7)`; `classifier_lookup__()` for conjunctions.

use super::actions::{Action, Commit, Ct, CtExec, CtZoneSource, Foreign, Port, RegSlice, SetField};
use super::fields::{CtFlags, Masked, Reg, TableId};
use super::flow::Flow;
use crate::ids::OfPort;

mod conntrack;
mod frame;
mod lookup;
mod tuple;

pub use conntrack::Conntrack;
pub use frame::{Arp, Body, Frame, Icmp, Ip, L4, Nd, Piece};
pub use tuple::Tuple;

/// As OVS's `MAX_RESUBMITS`, though there it counts otherwise; ours are never nested deeper than a few.
const DEEPEST: usize = 64;

/// The flows hold something that has no model here, or go round in circles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not modelled: {0}")]
pub struct Unsupported(pub String);

/// A bridge with its flows and the connections it has seen.
#[derive(Debug, Clone)]
pub struct Switch {
    pub flows: Vec<Flow>,
    pub connections: Conntrack,
    /// The flows that the last frame met, in order.
    pub met: Vec<Flow>,
}

/// The packet under way, with what is known about it.
#[derive(Debug, Clone)]
struct Packet {
    in_port: OfPort,
    frame: Frame,
    regs: [u32; 16],
    ct_state: CtFlags,
    ct_zone: u16,
    ct_mark: u32,
}

impl Packet {
    fn reg(&self, reg: Reg) -> u32 {
        self.regs.get(usize::from(reg.number())).copied().unwrap_or_default()
    }

    fn read(&self, slice: RegSlice) -> u32 {
        slice.read(self.reg(slice.reg))
    }
}

impl Switch {
    pub fn new(flows: Vec<Flow>) -> Self {
        Self { flows, connections: Conntrack::default(), met: Vec::new() }
    }

    /// What comes out, and where, when this frame comes in there.
    pub fn receive(&mut self, in_port: OfPort, frame: Frame) -> Result<Vec<(OfPort, Frame)>, Unsupported> {
        let (ct_state, ct_zone, ct_mark) = (CtFlags::NONE, 0, 0);
        let mut packet = Packet { in_port, frame, regs: [0; 16], ct_state, ct_zone, ct_mark };
        let mut sent = Vec::new();
        self.met.clear();
        self.run(TableId(0), &mut packet, &mut sent, 0)?;
        Ok(sent)
    }

    fn run(
        &mut self,
        table: TableId,
        packet: &mut Packet,
        sent: &mut Vec<(OfPort, Frame)>,
        depth: usize,
    ) -> Result<(), Unsupported> {
        if depth > DEEPEST {
            return Err(Unsupported(format!("tables nested more than {DEEPEST} deep")));
        }
        // No flow: dropped.
        let Some(flow) = lookup::best(&self.flows, table, packet)? else { return Ok(()) };
        let flow = flow.clone();
        self.met.push(flow.clone());
        for action in flow.actions {
            match action {
                Action::Output(port) => output(port, packet, sent)?,
                Action::OutputReg(slice) => output(Port::from_number(packet.read(slice)), packet, sent)?,
                Action::Set(SetField::Reg(reg, value)) => {
                    if let Some(slot) = packet.regs.get_mut(usize::from(reg.number())) {
                        *slot = value.write_to(*slot);
                    }
                }
                // There is no time here, in which too much could come.
                Action::Meter(_) | Action::Note(_) => {}
                Action::Set(SetField::EthSrc(mac)) => packet.frame.eth_src = mac,
                Action::Set(SetField::EthDst(mac)) => packet.frame.eth_dst = mac,
                Action::Ct(ct) => self.conntrack(&ct, packet, sent, depth)?,
                Action::CtClear => {
                    (packet.ct_state, packet.ct_zone, packet.ct_mark) = (CtFlags::NONE, 0, 0);
                }
                Action::Resubmit(next) | Action::Goto(next) => {
                    self.run(next, packet, sent, depth.saturating_add(1))?;
                }
                action @ (Action::Set(SetField::Other(_))
                | Action::Other(Foreign::Action(_) | Foreign::Instruction(_))
                | Action::Conjunction { .. }) => return Err(Unsupported(format!("action {action}"))),
            }
        }
        Ok(())
    }

    /// Without a table to go on in, the packet goes on here as it was: OVS leaves its `ct_state` alone.
    fn conntrack(
        &mut self,
        ct: &Ct,
        packet: &mut Packet,
        sent: &mut Vec<(OfPort, Frame)>,
        depth: usize,
    ) -> Result<(), Unsupported> {
        let zone = match ct.zone {
            CtZoneSource::Fixed(zone) => zone,
            CtZoneSource::Reg(slice) => u16::try_from(packet.read(slice))
                .map_err(|_| Unsupported(format!("zone of {} bits", slice.bits)))?,
        };
        if ct.commit == Commit::Force {
            return Err(Unsupported("ct(force)".to_owned()));
        }
        packet.frame.reassemble();
        let (state, old_mark) = self.connections.find(zone, &packet.frame);
        let mut mark = old_mark;
        for exec in &ct.exec {
            match exec {
                CtExec::SetMark(value) => mark = value.write_to(mark),
                CtExec::CopyToMark(slice) => {
                    let low = RegSlice { offset: 0, ..*slice }.read(u32::MAX);
                    mark = Masked::new(packet.read(*slice), low).write_to(mark);
                }
                other => return Err(Unsupported(format!("in ct: {other:?}"))),
            }
        }
        if ct.commit == Commit::Yes {
            self.connections.commit(zone, &packet.frame, mark);
        }
        if let Some(table) = ct.table {
            let mut tracked = Packet { ct_state: state, ct_zone: zone, ct_mark: mark, ..packet.clone() };
            self.run(table, &mut tracked, sent, depth.saturating_add(1))?;
        }
        Ok(())
    }
}

fn output(port: Port, packet: &Packet, sent: &mut Vec<(OfPort, Frame)>) -> Result<(), Unsupported> {
    match port {
        // Never back to where it came from, unless that is said in words.
        Port::Number(port) if port == packet.in_port => {}
        Port::Number(port) => sent.push((port, packet.frame.clone())),
        Port::InPort => sent.push((packet.in_port, packet.frame.clone())),
        Port::Other(0) => {}
        other => return Err(Unsupported(format!("output to {other}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
