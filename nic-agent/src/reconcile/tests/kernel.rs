//! Representors and their TC rules.

use offload::ids::VfId;
use offload::netlink;
use offload::netlink::link::{Link, SwitchId};
use offload::representor::{RepresentorTable, Selector};

use super::world::{Effect, Part, State, World, rep_name};
use crate::kernel::view::{Flows, LinkStep, Offload, RepView};
use crate::kernel::{KernelError, Seen};
use crate::platform::Links;

#[derive(Debug)]
pub struct Kernel(pub World);

fn link(vf: Option<VfId>, ifindex: offload::ids::IfIndex) -> Link {
    Link {
        ifindex,
        name: rep_name(vf),
        mac: None,
        mtu: 1500,
        up: false,
        running: false,
        carrier: false,
        phys_switch_id: Some(SwitchId(vec![1])),
        phys_port_name: Some(vf.map_or_else(|| "pf0".to_owned(), |vf| vf.to_string())),
        parent: None,
        devlink_port: None,
        link_netnsid: None,
        master: None,
        kind: None,
    }
}

fn failure(found: String) -> KernelError {
    netlink::Error::Foreign { operation: "netlink".to_owned(), found }.into()
}

impl Links for Kernel {
    async fn observe(&self) -> Result<Seen, KernelError> {
        let state = self.0.lock();
        if state.failing.contains(&Part::Sight) {
            return Err(failure("made to fail".to_owned()));
        }
        let links: Vec<Link> = state.reps.iter().map(|(vf, rep)| link(*vf, rep.ifindex)).collect();
        let reps = state.reps.iter().map(|(vf, rep)| RepView {
            ifindex: rep.ifindex,
            name: rep_name(*vf),
            vf: *vf,
            up: rep.up,
            mtu: rep.mtu,
            closed: rep.closed,
            in_datapath: rep.in_datapath,
            offload: Offload::default(),
            function: None,
        });
        let reps = reps.collect();
        let table = RepresentorTable::new(&[], &links, Selector::default());
        Ok(Seen { reps, shared: [].into(), flows: Flows::default(), asked: None, table })
    }

    async fn apply(&self, steps: Vec<LinkStep>) -> Vec<KernelError> {
        let mut state = self.0.lock();
        steps.into_iter().filter_map(|step| state.step(step).err().map(failure)).collect()
    }

    fn forget_flows(&self) {}
}

impl State {
    fn step(&mut self, step: LinkStep) -> Result<(), String> {
        let (ifindex, effect) = match step {
            LinkStep::Close { ifindex, name } => (ifindex, Effect::Close(name)),
            LinkStep::Open { ifindex, name } => (ifindex, Effect::Open(name)),
            LinkStep::SetMtu { ifindex, name, .. } => (ifindex, Effect::SetMtu(name)),
            LinkStep::SetMac { name, .. } => return Err(format!("{name} has no function")),
        };
        self.attempt(effect.clone())?;
        let Some((vf, rep)) = self.reps.iter_mut().find(|(_, rep)| rep.ifindex == ifindex) else {
            return Err("no such device".to_owned());
        };
        let vf = *vf;
        match effect {
            Effect::Close(_) => (rep.up, rep.closed) = (false, true),
            Effect::Open(_) => {
                (rep.up, rep.closed) = (true, false);
                if let Err(why) = self.may_be_open(vf) {
                    self.violated(format!("{} was opened: {why}", rep_name(vf)));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The VF, or all of them, is made again: the old name, another device, and whatever state.
    pub fn made_again(&mut self, vf: VfId, up: bool) {
        self.next_ifindex += 1;
        let ifindex = offload::ids::IfIndex(self.next_ifindex);
        if let Some(rep) = self.reps.get_mut(&Some(vf)) {
            *rep = super::world::Rep { ifindex, up, closed: false, mtu: 1500, in_datapath: false };
        }
    }
}
