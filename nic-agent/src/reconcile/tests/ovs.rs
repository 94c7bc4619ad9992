//! The Open_vSwitch database, ovs-vswitchd that follows it, and ovn-controller.

use std::path::Path;

use super::world::{EDGE, Effect, INTEGRATION, State, World};
use crate::ovs::link::{OvsError, Unseen};
use crate::ovs::plan::OvsStep;
use crate::ovs::restore::Restore;
use crate::ovs::spec::{BridgeSpec, PortSpec};
use crate::ovs::unixctl::ControlError;
use crate::ovs::view::{BridgeView, InterfaceView, OvsView, PortView, StringMap};
use crate::platform;
use crate::replica::Outage;
use crate::southbound::state::ChassisState;

#[derive(Debug)]
pub struct Ovs(pub World);

impl platform::Ovs for Ovs {
    fn view(&mut self) -> Result<OvsView, Unseen> {
        let state = self.0.lock();
        if state.ovsdb_up {
            Ok(state.ovs.clone())
        } else {
            Err(Outage::Lost("made to fail".to_owned()).into())
        }
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    async fn apply(&mut self, steps: &[OvsStep], bump: bool) -> Result<(), OvsError> {
        if steps.is_empty() && !bump {
            return Ok(());
        }
        let mut state = self.0.lock();
        if !state.ovsdb_up {
            return Err(OvsError::Empty);
        }
        let words = steps.iter().map(|step| match step {
            OvsStep::AddPort { port, .. } => format!("+{}", port.name),
            OvsStep::RemovePort { port, .. } => format!("-{port}"),
            OvsStep::AddBridge(_) => "+bridge".to_owned(),
            OvsStep::SetRoot { .. } | OvsStep::MendBridge(_) | OvsStep::MendInterface { .. } => {
                "~".to_owned()
            }
        });
        let words = words.collect();
        state.attempt(Effect::Ovs(words)).map_err(|_| OvsError::Empty)?;
        for step in steps {
            state.ovs.take(step);
        }
        state.ovs.next_cfg += i64::from(bump);
        Ok(())
    }

    fn forget_flows(&self, _: &Path) -> impl Future<Output = Result<(), ControlError>> + Send + 'static {
        std::future::ready(Ok(()))
    }
}

fn row(spec: &PortSpec) -> PortView {
    let interface = InterfaceView {
        kind: spec.kind.to_owned(),
        options: spec.options.clone(),
        external_ids: spec.external_ids.clone(),
        ofport_request: spec.ofport.map(|it| i64::from(it.get())),
        ..InterfaceView::default()
    };
    PortView { interface: Some(interface) }
}

fn change(map: &mut StringMap, by: &crate::ovs::plan::MapChange) {
    map.retain(|key, _| !by.remove.contains(key));
    map.extend(by.set.clone());
}

impl OvsView {
    fn take(&mut self, step: &OvsStep) {
        match step {
            OvsStep::SetRoot { external_ids, other_config } => {
                change(&mut self.external_ids, external_ids);
                change(&mut self.other_config, other_config);
            }
            OvsStep::AddBridge(spec) | OvsStep::MendBridge(spec) => {
                let bridge = self.bridges.entry(spec.name.clone()).or_default();
                let local = InterfaceView {
                    kind: "internal".to_owned(),
                    external_ids: spec.local_external_ids(),
                    ..InterfaceView::default()
                };
                bridge.ports.entry(spec.name.clone()).or_default().interface = Some(local);
                *bridge = BridgeView {
                    fail_mode: Some(BridgeSpec::FAIL_MODE.to_owned()),
                    datapath_type: BridgeSpec::DATAPATH_TYPE.to_owned(),
                    protocols: BridgeSpec::protocols(),
                    external_ids: BridgeSpec::external_ids(),
                    other_config: BridgeSpec::other_config(),
                    ports: std::mem::take(&mut bridge.ports),
                };
            }
            OvsStep::AddPort { bridge, port } => {
                if let Some(bridge) = self.bridges.get_mut(bridge) {
                    bridge.ports.insert(port.name.clone(), row(port));
                }
            }
            OvsStep::RemovePort { bridge, port } => {
                if let Some(bridge) = self.bridges.get_mut(bridge) {
                    bridge.ports.remove(port);
                }
            }
            OvsStep::MendInterface { port, external_ids } => {
                for bridge in self.bridges.values_mut() {
                    if let Some(row) = bridge.ports.get_mut(&port.name).and_then(|it| it.interface.as_mut()) {
                        change(&mut row.external_ids, external_ids);
                        row.options.clone_from(&port.options);
                        row.ofport_request = port.ofport.map(|it| i64::from(it.get()));
                    }
                }
            }
        }
    }
}

impl State {
    /// ovs-vswitchd ends; what is in the kernel stays. With `start` it is there again, and its flows are not.
    pub fn switch_ends(&mut self, start: bool) {
        self.flows.clear();
        self.meters.clear();
        self.switch_starts += 1;
        self.switch_up = start;
        self.switch_waits = self.ovs.other_config.get(Restore::KEY).is_some_and(|it| it == "true");
    }

    /// ovs-vswitchd takes over what the database says.
    pub fn switch_follows(&mut self) {
        if !self.switch_up {
            return;
        }
        if self.ovs.other_config.get(Restore::KEY).is_none_or(|it| it != "true") {
            if self.switch_waits && self.flows.is_empty() {
                self.violated("Open vSwitch serves before it has its flows");
            }
            self.switch_waits = false;
        }
        self.ovs.cur_cfg = self.ovs.next_cfg;
        let mut numbers = 1..;
        for (vf, rep) in &mut self.reps {
            let name = super::world::rep_name(*vf);
            let row =
                self.ovs.bridges.get_mut(EDGE).and_then(|it| it.ports.get_mut(&name)?.interface.as_mut());
            if let Some(row) = row {
                if !rep.in_datapath {
                    // OVS flushes what TC rules there are on a port that it takes.
                    (rep.in_datapath, rep.closed) = (true, false);
                }
                row.ifindex = Some(i64::from(rep.ifindex.0));
            } else if rep.in_datapath {
                rep.in_datapath = false;
                if rep.is_open() {
                    let what = format!("the port of {name}, which is open, was taken away");
                    if !self.violations.contains(&what) {
                        self.violations.push(what);
                    }
                }
            }
        }
        let is_there = |name: &str| self.reps.keys().any(|vf| super::world::rep_name(*vf) == *name);
        for bridge in self.ovs.bridges.values_mut() {
            for (name, port) in &mut bridge.ports {
                let Some(row) = port.interface.as_mut() else { continue };
                row.ofport = if row.kind.is_empty() && !is_there(name) {
                    Some(-1)
                } else {
                    row.ofport_request.or_else(|| numbers.next())
                };
            }
        }
    }

    /// ovn-controller binds what is plugged, and has its flows in.
    pub fn ovn_follows(&mut self) {
        if !(self.ovn_controller_up && self.switch_up && self.southbound_up) {
            return;
        }
        let Some(bridge) = self.ovs.bridges.get_mut(INTEGRATION) else { return };
        let mut bound = std::collections::BTreeSet::new();
        for row in bridge.ports.values_mut().filter_map(|port| port.interface.as_mut()) {
            let Some(name) = row.external_ids.get("iface-id") else { continue };
            let Some(port) = self.logical_ports.get_mut(name) else { continue };
            let version = row.external_ids.get("iface-id-ver");
            if version != Some(&port.uid) || row.ofport.is_none() {
                continue;
            }
            if matches!(port.chassis, ChassisState::Unbound | ChassisState::Ours) {
                port.chassis = ChassisState::Ours;
                bound.insert(name.clone());
                row.external_ids.insert("ovn-installed".to_owned(), "true".to_owned());
            }
        }
        for (name, port) in &mut self.logical_ports {
            if port.chassis == ChassisState::Ours && !bound.contains(name) {
                port.chassis = ChassisState::Unbound;
            }
        }
    }
}
