//! ovs-vswitchd's OpenFlow side: br-edge's flows and meters, and conntrack.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use offload::ids::{CtZone, MacAddr, OfPort};
use offload::openflow::{
    Action, Ct, CtZoneSource, Flow, FlowMod, InstalledFlow, InstalledMeter, MeterMod, MeterStats, TableId,
};

use super::world::{EDGE, Effect, State, World};
use crate::openflow::Error;
use crate::platform;

#[derive(Debug)]
pub struct Switch(pub World);

#[derive(Debug)]
pub struct Session {
    world: World,
    start: u64,
    /// It holds half of an answer: whatever is asked next is answered by what was asked before.
    is_spoilt: AtomicBool,
}

impl platform::Switch for Switch {
    type Session = Session;

    async fn connect(&self) -> Result<Session, Error> {
        let state = self.0.lock();
        if !state.switch_up || !state.ovs.bridges.contains_key(EDGE) {
            let source = io::ErrorKind::ConnectionRefused.into();
            return Err(Error::Connect { path: PathBuf::from("br-edge.mgmt"), source });
        }
        Ok(Session { world: self.0.clone(), start: state.switch_starts, is_spoilt: AtomicBool::new(false) })
    }
}

impl Session {
    fn is_lost(&self, state: &State) -> bool {
        !state.switch_up || state.switch_starts != self.start
    }

    fn with<T>(&self, run: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.world.lock();
        if self.is_lost(&state) || self.is_spoilt.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        let outcome = run(&mut state);
        self.is_spoilt.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }
}

fn failed(_: String) -> Error {
    Error::Closed
}

impl platform::SwitchSession for Session {
    async fn closed(&self) {
        let is_lost = self.is_lost(&self.world.lock());
        if !is_lost {
            std::future::pending::<()>().await;
        }
    }

    async fn dump_flows(&self) -> Result<Vec<InstalledFlow>, Error> {
        self.with(|state| Ok(state.flows.values().cloned().map(InstalledFlow::fresh).collect()))
    }

    async fn meters(&self) -> Result<Vec<InstalledMeter>, Error> {
        let of = |it: &offload::openflow::Meter| InstalledMeter { id: it.id, meter: Some(*it) };
        self.with(|state| Ok(state.meters.values().map(of).collect()))
    }

    async fn meter_stats(&self) -> Result<Vec<MeterStats>, Error> {
        self.with(|_| Ok(Vec::new()))
    }

    async fn change_meters(&self, changes: &[MeterMod]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.with(|state| {
            state.attempt(Effect::Meters).map_err(failed)?;
            for change in changes {
                match *change {
                    MeterMod::Add(meter) | MeterMod::Modify(meter) => {
                        state.meters.insert(meter.id, meter);
                    }
                    MeterMod::Delete(id) => {
                        state.meters.remove(&id);
                        let names = |flow: &Flow| flow.actions.contains(&Action::Meter(id));
                        if state.flows.values().any(names) {
                            state.violated(format!("meter {id} was deleted, and flows name it"));
                            state.flows.retain(|_, flow| !names(flow));
                        }
                    }
                }
            }
            Ok(())
        })
    }

    async fn apply(&self, changes: &[FlowMod]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.with(|state| {
            let deleted = changes.iter().filter(|it| matches!(it, FlowMod::DeleteStrict(_))).count();
            let effect = Effect::Flows { put: changes.len() - deleted, deleted };
            state.attempt(effect).map_err(failed)?;
            for change in changes {
                state.change_flow(change);
            }
            state.look_at_flows();
            Ok(())
        })
    }

    async fn flush_ct_zone(&self, zone: CtZone) -> Result<(), Error> {
        self.with(|state| {
            state.attempt(Effect::Flush(zone)).map_err(failed)?;
            state.connections.remove(&zone);
            Ok(())
        })
    }
}

/// A pod's way into conntrack: from its representor, with its MAC, into its zone.
pub fn way_in(flow: &Flow) -> Option<(OfPort, MacAddr, CtZone)> {
    let zone = flow.actions.iter().find_map(|action| match action {
        Action::Ct(Ct { zone: CtZoneSource::Fixed(zone), .. }) => Some(*zone),
        _ => None,
    })?;
    let from = flow.matches.in_port.filter(|_| flow.table == TableId(0))?;
    let mac = flow.matches.eth_src.value();
    (mac != MacAddr::ZERO).then_some((from, mac, CtZone::new(zone)?))
}

impl State {
    fn change_flow(&mut self, change: &FlowMod) {
        let before = match change {
            FlowMod::Add(flow) => self.flows.insert(flow.key(), flow.clone()),
            FlowMod::ModifyStrict(flow) => self.flows.get_mut(&flow.key()).map(|it| {
                let old = it.clone();
                it.actions.clone_from(&flow.actions);
                old
            }),
            FlowMod::DeleteStrict(key) => self.flows.remove(key),
            FlowMod::Delete { .. } => {
                self.violated("flows deleted by a pattern");
                None
            }
        };
        // The datapath follows a moment later.
        self.late.extend(before.as_ref().and_then(way_in).map(|(_, mac, zone)| (zone, mac)));
    }
}
