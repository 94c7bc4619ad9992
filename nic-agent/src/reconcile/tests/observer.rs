//! What the world shows: who is open, behind which boundary, with whose connections. It asks the fakes, never the loop.

use std::collections::{BTreeMap, BTreeSet};

use offload::ids::{CtZone, MacAddr, VfId};
use offload::openflow::{Action, SetField};
use offload::tables::{FROM_POD, RULED};

use super::switch::way_in;
use super::world::{EDGE, INTEGRATION, State, World, rep_name};
use crate::attachment;

/// A representor's way through br-edge: its pod's MAC, and the zone of its connections.
pub type Way = (MacAddr, CtZone);

impl State {
    /// By the flows that are in.
    pub fn ways(&self) -> BTreeMap<VfId, BTreeSet<Way>> {
        let mut ways: BTreeMap<VfId, BTreeSet<Way>> = BTreeMap::new();
        for (from, mac, zone) in self.flows.values().filter_map(way_in) {
            let of = |vf: &VfId| attachment::of_ports(*vf).is_some_and(|(rep, _)| rep == from);
            if let Some(vf) = self.reps.keys().flatten().find(|vf| of(vf)) {
                ways.entry(*vf).or_default().insert((mac, zone));
            }
        }
        ways
    }

    /// Does the boundary of whoever holds this function stand, as far as the ledger on the disk goes?
    pub fn may_be_open(&self, vf: Option<VfId>) -> Result<(), String> {
        let vf = vf.ok_or("nobody may hold a PF")?;
        let rep = self.reps.get(&Some(vf)).ok_or("it is not there")?;
        if !rep.in_datapath {
            return Err("Open vSwitch does not have it".to_owned());
        }
        let ways = self.ways().remove(&vf).unwrap_or_default();
        if ways.len() != 1 {
            return Err(format!("its flows are {ways:?}"));
        }
        if !self.ledger_behind {
            let holder = self.holders.get(&vf).ok_or("nobody holds it, for all that is on the disk")?;
            let mac = holder.mac.ok_or("nothing on the disk says who its holder is")?;
            if !ways.contains(&(mac, holder.zone)) {
                return Err(format!("its flows are {ways:?}, not {:?}", (mac, holder.zone)));
            }
        }
        let numbers = attachment::of_ports(vf).ok_or("no ports")?;
        let has = |name: &str| {
            let row = self.ovs.bridges.get(EDGE)?.ports.get(name)?.interface.as_ref()?;
            row.ofport
        };
        let ports = (has(&rep_name(Some(vf))), has(&attachment::edge_patch(vf)));
        let expected = (Some(i64::from(numbers.0.get())), Some(i64::from(numbers.1.get())));
        if ports != expected {
            return Err(format!("its ports are {ports:?}, not {expected:?}"));
        }
        Ok(())
    }

    /// Just after flows were changed.
    pub fn look_at_flows(&mut self) {
        let holders = self.holders.clone();
        let mut wrong = Vec::new();
        let mut zones: BTreeMap<CtZone, VfId> = BTreeMap::new();
        for (vf, ways) in self.ways() {
            for (mac, zone) in ways {
                if zones.insert(zone, vf).is_some_and(|other| other != vf) {
                    wrong.push(format!("{zone} is that of two"));
                }
                let others = self.connections.get(&zone).into_iter().flatten().find(|of| **of != mac);
                if let Some(other) = others {
                    wrong
                        .push(format!("flows of {vf} ({mac}) name {zone}, which has connections of {other}"));
                }
                let is_known = holders
                    .get(&vf)
                    .is_some_and(|it| (it.zone, it.mac) == (zone, Some(mac)) && !it.zone_dirty);
                if !is_known && !self.ledger_behind {
                    wrong.push(format!("the disk does not know {zone} with {mac} to be {vf}'s"));
                }
            }
        }
        for what in wrong {
            self.violated(what);
        }
    }

    /// What a pass that went well leaves: whatever is open has its boundary.
    pub fn look_at_what_is_open(&mut self) {
        let open: Vec<_> = self.reps.iter().filter(|(_, rep)| rep.is_open()).map(|(vf, _)| *vf).collect();
        for vf in open {
            if let Err(why) = self.may_be_open(vf) {
                self.violated(format!("{} is open: {why}", rep_name(vf)));
            }
        }
    }

    /// Each open pod sends something that begins a connection, and what was on its way arrives.
    pub fn packets(&mut self) {
        for (vf, ways) in self.ways() {
            let rep = self.reps.get(&Some(vf));
            if rep.is_some_and(|rep| rep.is_open() && rep.in_datapath) && !self.switch_waits {
                for (mac, zone) in ways {
                    self.connections.entry(zone).or_default().insert(mac);
                }
            }
        }
        for (zone, mac) in std::mem::take(&mut self.late) {
            self.connections.entry(zone).or_default().insert(mac);
        }
    }

    /// The pod's policy denies something, as its flows say.
    pub fn is_ruled(&self, vf: VfId) -> Option<bool> {
        let (rep, _) = attachment::of_ports(vf)?;
        let judge =
            |flow: &&offload::openflow::Flow| flow.table == FROM_POD && flow.matches.in_port == Some(rep);
        let flow = self.flows.values().find(judge)?;
        flow.actions.iter().find_map(|action| match action {
            Action::Set(SetField::Reg(reg, value)) if *reg == RULED => Some(value.value() == 1),
            _ => None,
        })
    }
}

impl World {
    /// What is missing or stray, when nothing has changed for long.
    pub fn at_rest(&self) -> Vec<String> {
        let state = self.lock();
        let mut wrong = Vec::new();
        let holders = &state.holders;
        let ways = state.ways();
        for (vf, rep) in &state.reps {
            let name = rep_name(*vf);
            let holder = vf.and_then(|vf| holders.get(&vf));
            if holder.is_some() {
                if !rep.is_open() {
                    wrong.push(format!("{name} is held and not open"));
                }
                if let Err(why) = state.may_be_open(*vf) {
                    wrong.push(format!("{name} is held: {why}"));
                }
            } else if rep.up || !rep.closed {
                wrong.push(format!("{name} is held by nobody and not closed: {rep:?}"));
            }
        }
        let stray = ways.keys().filter(|vf| !holders.contains_key(vf));
        wrong.extend(stray.map(|vf| format!("flows of {vf}, which nobody holds")));
        let mut expected: BTreeMap<&str, BTreeSet<String>> = [(EDGE, [EDGE.to_owned()].into())].into();
        for vf in holders.keys() {
            let names = [rep_name(Some(*vf)), attachment::edge_patch(*vf)];
            expected.entry(EDGE).or_default().extend(names);
            expected.entry(INTEGRATION).or_default().insert(attachment::int_patch(*vf));
        }
        for bridge in [EDGE, INTEGRATION] {
            let has: BTreeSet<String> = state
                .ovs
                .bridges
                .get(bridge)
                .map(|it| it.ports.keys().cloned().collect())
                .unwrap_or_default();
            let wants = expected.remove(bridge).unwrap_or_default();
            if has != wants {
                wrong.push(format!("{bridge} has {has:?}, not {wants:?}"));
            }
        }
        let mut metered: BTreeSet<u32> = BTreeSet::new();
        for vf in holders.keys() {
            metered.extend(attachment::of_ports(*vf).into_iter().flat_map(|(a, b)| [a.get(), b.get()]));
        }
        if state.meters.keys().copied().collect::<BTreeSet<_>>() != metered {
            wrong.push(format!("meters are {:?}, not {metered:?}", state.meters.keys()));
        }
        for (zone, of) in &state.connections {
            let holder = holders.values().find(|it| it.zone == *zone);
            let own = holder.and_then(|it| it.mac);
            if let Some(stranger) = of.iter().find(|mac| Some(**mac) != own)
                && stranger.0[4] != 0xff
                && !state.ledger_lost
            {
                wrong.push(format!("{zone} has connections of {stranger}"));
            }
        }
        if state.switch_waits {
            wrong.push("Open vSwitch still waits for its flows".to_owned());
        }
        if state.ovs.other_config.get("flow-restore-wait").is_none_or(|it| it != "true") {
            wrong.push("the next start of Open vSwitch would not wait for its flows".to_owned());
        }
        wrong
    }
}
