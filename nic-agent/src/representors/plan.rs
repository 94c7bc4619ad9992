//! Which of the server's representors are open, as a pure function: those of VFs whose boundary stands, and no other.
//!
//! A representor without its boundary is a plain device of the NIC's own kernel, which would answer the server for the NIC's
//! addresses. Closed means: down, a TC rule that drops whatever comes in, and no address. Either half is enough; both are
//! there because OVS flushes TC rules when it takes a port, and anyone may set a link up.

use std::collections::BTreeSet;

use offload::ids::{IfIndex, MacAddr, VfId};

use crate::kernel::view::{LinkStep, RepView};

pub fn find(reps: &[RepView], vf: VfId) -> Option<&RepView> {
    reps.iter().find(|rep| rep.vf == Some(vf))
}

/// All but those that keep their boundary.
pub fn close(reps: &[RepView], keep: &BTreeSet<IfIndex>) -> Vec<LinkStep> {
    reps.iter()
        .filter(|rep| !keep.contains(&rep.ifindex))
        .filter(|rep| rep.up || !rep.closed)
        .map(|rep| LinkStep::Close { ifindex: rep.ifindex, name: rep.name.clone() })
        .collect()
}

/// Of these ports, which go, those that are open: without Open vSwitch they would be devices of the NIC's own.
pub fn going(reps: &[RepView], ports: &BTreeSet<&str>) -> Vec<LinkStep> {
    reps.iter()
        .filter(|rep| rep.up && !rep.closed && ports.contains(rep.name.as_str()))
        .map(|rep| LinkStep::Close { ifindex: rep.ifindex, name: rep.name.clone() })
        .collect()
}

/// A function that has another MAC address than it shall have. What the server may do with it by itself we do not see.
pub fn address(reps: &[RepView], vf: VfId, mac: MacAddr) -> Option<LinkStep> {
    let rep = find(reps, vf)?;
    let (port, has) = rep.function.as_ref()?;
    (*has != mac).then(|| LinkStep::SetMac { port: port.clone(), name: rep.name.clone(), mac })
}

/// What is held and has its boundary.
pub fn open(reps: &[RepView], ready: &BTreeSet<VfId>, mtu: Option<u32>) -> Vec<LinkStep> {
    let mut steps = Vec::new();
    for rep in reps.iter().filter(|rep| rep.vf.is_some_and(|vf| ready.contains(&vf))) {
        if let Some(mtu) = mtu.filter(|mtu| rep.mtu != *mtu) {
            steps.push(LinkStep::SetMtu { ifindex: rep.ifindex, name: rep.name.clone(), mtu });
        }
        if !rep.up || rep.closed {
            steps.push(LinkStep::Open { ifindex: rep.ifindex, name: rep.name.clone() });
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use offload::netlink::devlink::{DeviceHandle, PortHandle};

    use super::*;
    use crate::kernel::view::Offload;

    fn rep(index: u32, vf: Option<u16>, up: bool, closed: bool) -> RepView {
        RepView {
            ifindex: IfIndex(index),
            name: format!("rep{index}"),
            vf: vf.map(|vf| VfId { pf: 0, vf }),
            up,
            mtu: 1500,
            closed,
            in_datapath: true,
            offload: Offload::default(),
            function: None,
        }
    }

    #[test]
    fn a_function_is_given_its_mac_once() {
        let vf = VfId { pf: 0, vf: 1 };
        let port = PortHandle {
            device: DeviceHandle { bus: "pci".into(), device: "0000:03:00.0".into() },
            index: 2,
        };
        let (old, new) = ("0a:00:00:00:00:01".parse().unwrap(), "0a:00:00:00:00:02".parse().unwrap());
        let with = |mac| RepView { function: Some((port.clone(), mac)), ..rep(3, Some(1), false, true) };
        let step = LinkStep::SetMac { port: port.clone(), name: "rep3".into(), mac: new };
        assert_eq!(address(&[rep(2, Some(0), true, false), with(old)], vf, new), Some(step));
        assert_eq!(address(&[with(new)], vf, new), None);
        assert_eq!(address(&[rep(3, Some(1), false, true)], vf, new), None, "devlink does not know it");
    }

    #[test]
    fn all_is_closed_but_what_is_held() {
        let reps = [
            rep(1, None, true, false),
            rep(2, Some(0), true, false),
            rep(3, Some(1), false, false),
            rep(4, Some(2), false, true),
            rep(5, Some(3), true, true),
        ];
        let held = BTreeSet::from([VfId { pf: 0, vf: 0 }, VfId { pf: 0, vf: 3 }]);
        let kept = BTreeSet::from([IfIndex(2), IfIndex(5)]);
        let closed: Vec<_> = close(&reps, &kept)
            .into_iter()
            .map(|step| match step {
                LinkStep::Close { ifindex, .. } => ifindex.0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(closed, [1, 3]);
        assert_eq!(
            open(&reps, &held, Some(1442)),
            [
                LinkStep::SetMtu { ifindex: IfIndex(2), name: "rep2".into(), mtu: 1442 },
                LinkStep::SetMtu { ifindex: IfIndex(5), name: "rep5".into(), mtu: 1442 },
                LinkStep::Open { ifindex: IfIndex(5), name: "rep5".into() },
            ]
        );
        assert_eq!(open(&reps, &BTreeSet::from([VfId { pf: 1, vf: 0 }]), None), []);
    }
}
