//! Which of the server's representors are open, as a pure function: those of VFs whose boundary stands, and no other.
//!
//! A representor that OVS does not have is a plain device of the NIC's own kernel, which would answer the server for the
//! NIC's addresses. Closed means: down, a TC rule that drops whatever comes in, and no address. Either half is enough;
//! both are there because OVS flushes TC rules when it takes a port, and anyone may set a link up.
//!
//! A representor that is made again (`sriov_numvfs`, or the driver) has its old name and another ifindex. Open vSwitch's
//! database has a row of that name with all its numbers until ovs-vswitchd has looked, so the device itself is compared.

use std::collections::BTreeSet;

use offload::ids::{MacAddr, VfId};

use crate::kernel::view::{LinkStep, RepView};
use crate::ovs::view::{InterfaceView, OvsView};

/// What nobody holds, or nobody holds any longer; and of what is held, what Open vSwitch does not have.
pub fn close(reps: &[RepView], held: &BTreeSet<VfId>, is_lost: impl Fn(&RepView) -> bool) -> Vec<LinkStep> {
    reps.iter()
        .filter(|rep| !rep.vf.is_some_and(|vf| held.contains(&vf)) || is_lost(rep))
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

fn is_this(rep: &RepView, row: Option<&InterfaceView>) -> bool {
    row.and_then(|row| row.ifindex) == Some(i64::from(rep.ifindex.0))
}

/// Has Open vSwitch this very device, for all that kernel and database say?
pub fn is_taken(rep: &RepView, ovs: &OvsView) -> bool {
    rep.in_datapath && is_this(rep, ovs.interface(&rep.name))
}

/// Is it certain that Open vSwitch does not have it? The database may be behind the kernel, and cuts nobody off.
pub fn is_lost(rep: &RepView) -> bool {
    !rep.in_datapath
}

/// A function that has another MAC address than it shall have. What the server may do with it by itself we do not see.
pub fn address(reps: &[RepView], vf: VfId, mac: MacAddr) -> Option<LinkStep> {
    let rep = reps.iter().find(|rep| rep.vf == Some(vf))?;
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
    use offload::ids::IfIndex;
    use offload::netlink::devlink::{DeviceHandle, PortHandle};

    use super::*;
    use crate::kernel::view::Offload;
    use crate::ovs::view::{BridgeView, PortView};

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
        let closed: Vec<_> = close(&reps, &held, |_| false)
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

    /// The database as it stands: a row for `rep7`, which ovs-vswitchd last saw as the device of this number.
    fn database(ifindex: Option<i64>) -> OvsView {
        let row = InterfaceView { ofport: Some(1024), ifindex, ..InterfaceView::default() };
        let port = PortView { interface: Some(row) };
        let bridge = BridgeView { ports: [("rep7".to_owned(), port)].into(), ..BridgeView::default() };
        OvsView { bridges: [("br-edge".to_owned(), bridge)].into(), ..OvsView::default() }
    }

    #[test]
    fn a_representor_that_is_made_again_is_closed_until_ovs_has_the_new_one() {
        let vf = VfId { pf: 0, vf: 0 };
        let held = BTreeSet::from([vf]);
        let old = RepView { name: "rep7".to_owned(), ..rep(7, Some(0), true, false) };
        let stale = database(Some(7));
        let closed = |rep: &RepView| close(std::slice::from_ref(rep), &held, is_lost).len();
        assert!(is_taken(&old, &stale));
        assert_eq!(closed(&old), 0);

        // The same name and the same VF; up, as something on the NIC sets every link up.
        let new = RepView { ifindex: IfIndex(8), in_datapath: false, ..old.clone() };
        assert!(!is_taken(&new, &stale));
        assert_eq!(closed(&new), 1);
        let shut = RepView { up: false, closed: true, ..new.clone() };
        assert_eq!(closed(&shut), 0, "done");

        // ovs-vswitchd takes it, and with it our TC rule away.
        let taken = RepView { up: false, in_datapath: true, ..new.clone() };
        assert!(is_taken(&taken, &database(Some(8))));
        assert_eq!(closed(&taken), 0);
        // Before it has written so, it is not opened.
        for before in [Some(7), Some(0), None] {
            assert!(!is_taken(&taken, &database(before)));
        }
        // The row is the new one's already, the kernel's datapath does not have it.
        assert!(!is_taken(&new, &database(Some(8))) && is_lost(&new));
    }
}
