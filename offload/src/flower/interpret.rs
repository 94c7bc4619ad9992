//! What a NIC's filters do to a frame: TC's classifier and an eSwitch of a few pages, slow and simple, against which
//! compilers are tested.
//!
//! It runs what *stands* on ports, filter by filter, in one of three [`Engine`]s. Frames and connections are those of
//! [`openflow::interpret`](crate::openflow::interpret). Conntrack reassembles: a fragment that it has taken goes on as
//! the whole packet. A filter that this program does not write is [`Unsupported`], never a guess, once a packet comes
//! near it.
//!
//! Sources: `net/sched/{cls_api,cls_flower,act_ct,act_mirred}.c`; the eSwitch as in facts, sections 2.3 and 4: what no
//! filter in hardware matches goes on in software *in that chain*, what its connection tracking does not know goes on
//! *at that action*.

use std::collections::BTreeMap;

use super::action::{Actions, CtAction, End, Step};
use super::installed::{Filters, Place, PortFilters};
use super::overlap::{Flat, PacketBits};
use super::{ChainIndex, Pref, Skip};
use crate::ids::IfIndex;
use crate::openflow::CtFlags;
use crate::openflow::interpret::{Body, Conntrack, Frame, L4, Piece, Unsupported};

/// `max_reclassify_loop` in `cls_api.c`.
const MAX_GOTOS: usize = 16;

/// Who begins with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// TC alone: as if nothing were in hardware.
    Software,
    /// An eSwitch such as mlx5's: of connections it knows those of TCP and UDP that have been answered.
    Eswitch,
    /// An eSwitch that knows every connection and every new packet: the one that shows most of an inversion.
    Eager,
}

/// What became of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What went out, and where, copies first.
    pub sent: Vec<(IfIndex, Frame)>,
    pub end: Ending,
    /// The last filter that it met.
    pub last: Option<Place>,
    /// The whole way was in hardware.
    pub in_hardware: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    Dropped,
    Redirected,
    /// No filter of this chain matched, in software, too: the frame is the NIC's own to handle.
    Unmatched(ChainIndex),
    Trapped,
}

#[derive(Debug, Clone)]
struct Line {
    pref: Pref,
    flat: Flat,
    /// `None` for a filter that has no model.
    actions: Option<Actions>,
    in_hw: bool,
    in_sw: bool,
}

/// Ports with their filters, and the connections seen.
#[derive(Debug, Clone, Default)]
pub struct Nic {
    ports: BTreeMap<IfIndex, BTreeMap<ChainIndex, Vec<Line>>>,
    pub connections: Conntrack,
}

/// The packet under way.
struct Packet {
    frame: Frame,
    chain: ChainIndex,
    ct_state: CtFlags,
    ct_zone: u16,
    in_hardware: bool,
}

impl Nic {
    pub fn new(filters: &Filters) -> Self {
        let mut nic = Self::default();
        for (port, filters) in filters {
            nic.set_port(*port, filters);
        }
        nic
    }

    /// From now on these are the port's filters.
    pub fn set_port(&mut self, port: IfIndex, filters: &PortFilters) {
        let lines = |chain: ChainIndex| {
            let line = |(pref, filter): (Pref, &super::Installed)| Line {
                pref,
                flat: Flat::of(&filter.rule.as_ref().map(|rule| rule.key.clone()).unwrap_or_default()),
                actions: filter.rule.as_ref().map(|rule| rule.actions.clone()),
                in_hw: filter.in_hw,
                in_sw: filter.rule.as_ref().is_none_or(|rule| rule.skip != Skip::Software),
            };
            filters.chain(chain).map(line).collect()
        };
        self.ports.insert(port, filters.chains.keys().map(|chain| (*chain, lines(*chain))).collect());
    }

    /// What comes of a frame that enters there.
    ///
    /// # Errors
    ///
    /// It met something that has no model here.
    pub fn receive(&mut self, port: IfIndex, frame: Frame, engine: Engine) -> Result<Outcome, Unsupported> {
        let mut packet = Packet {
            frame,
            chain: ChainIndex(0),
            ct_state: CtFlags::NONE,
            ct_zone: 0,
            in_hardware: engine != Engine::Software,
        };
        let (mut sent, mut last) = (Vec::new(), None);
        let mut gotos = 0;
        loop {
            let found = match self.lookup(port, &packet) {
                Some(found) => found,
                None if packet.in_hardware => {
                    packet.in_hardware = false;
                    continue;
                }
                None => {
                    let end = Ending::Unmatched(packet.chain);
                    return Ok(Outcome { sent, end, last, in_hardware: false });
                }
            };
            let (pref, actions) = (found.pref, found.actions.clone());
            last = Some(Place { port, chain: packet.chain, pref });
            let actions = actions.ok_or_else(|| Unsupported(format!("a foreign filter at {last:?}")))?;
            let finished =
                |end, sent, packet: &Packet| Outcome { sent, end, last, in_hardware: packet.in_hardware };
            for step in &actions.steps {
                if !self.step(*step, &mut packet, &mut sent, engine)? {
                    return Ok(finished(Ending::Dropped, sent, &packet));
                }
            }
            match actions.end {
                End::Drop => return Ok(finished(Ending::Dropped, sent, &packet)),
                End::Trap => return Ok(finished(Ending::Trapped, sent, &packet)),
                End::Redirect(to) => {
                    sent.push((to, packet.frame.clone()));
                    return Ok(finished(Ending::Redirected, sent, &packet));
                }
                End::Goto(next) => {
                    gotos += 1;
                    if gotos > MAX_GOTOS {
                        return Ok(finished(Ending::Dropped, sent, &packet));
                    }
                    packet.chain = next.index();
                }
            }
        }
    }

    fn lookup(&self, port: IfIndex, packet: &Packet) -> Option<&Line> {
        let bits = PacketBits::of(&packet.frame, packet.ct_state, packet.ct_zone);
        let runs = |line: &&Line| if packet.in_hardware { line.in_hw } else { line.in_sw };
        let lines = self.ports.get(&port)?.get(&packet.chain)?;
        lines.iter().filter(runs).find(|line| line.flat.covers(&bits))
    }

    /// False: the packet is gone.
    fn step(
        &mut self,
        step: Step,
        packet: &mut Packet,
        sent: &mut Vec<(IfIndex, Frame)>,
        engine: Engine,
    ) -> Result<bool, Unsupported> {
        match step {
            Step::Mirror(to) => sent.push((to, packet.frame.clone())),
            Step::VlanPush(tag) => {
                if packet.frame.vlan.replace(tag.id).is_some() {
                    return Err(Unsupported("two tags".to_owned()));
                }
            }
            Step::VlanPop => packet.frame.vlan = None,
            Step::CtClear => (packet.ct_state, packet.ct_zone) = (CtFlags::NONE, 0),
            Step::Ct(ct) => return self.conntrack(ct, packet, engine),
        }
        Ok(true)
    }

    fn conntrack(&mut self, ct: CtAction, packet: &mut Packet, engine: Engine) -> Result<bool, Unsupported> {
        if packet.frame.vlan.is_some() {
            return Err(Unsupported("conntrack of a tagged frame".to_owned()));
        }
        let (piece, transport) = match &mut packet.frame.body {
            Body::Ipv4(ip) => (&mut ip.piece, &ip.l4),
            Body::Ipv6(ip) => (&mut ip.piece, &ip.l4),
            // act_ct takes IP only (`tcf_ct_skb_nf_family()`).
            Body::Other(_) | Body::Arp(_) => return Ok(false),
        };
        let whole = *piece == Piece::Whole;
        let offloaded = matches!(transport, L4::Tcp { .. } | L4::Udp { .. });
        *piece = Piece::Whole;
        let zone = ct.zone.get();
        let (state, _) = self.connections.find(zone, &packet.frame);
        if ct.commit {
            self.connections.commit(zone, &packet.frame, 0);
        }
        let known = offloaded && state.contains(CtFlags::EST);
        // What the eSwitch does not know goes on in software, at this action.
        packet.in_hardware &= whole && (engine == Engine::Eager || known);
        (packet.ct_state, packet.ct_zone) = (state, zone);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
