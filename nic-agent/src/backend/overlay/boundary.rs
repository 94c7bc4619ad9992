//! Which representors have their boundary in Open vSwitch.
//!
//! A representor that is made again (`sriov_numvfs`, or the driver) has its old name and another ifindex. Open vSwitch's
//! database has a row of that name with all its numbers until ovs-vswitchd has looked, so the device itself is compared.

use std::collections::BTreeSet;

use offload::ids::{IfIndex, VfId};

use crate::attachment::{self, Attachment};
use crate::kernel::view::RepView;
use crate::ovs::view::{InterfaceView, OvsView};
use crate::representors::plan::find;

fn is_this(rep: &RepView, row: Option<&InterfaceView>) -> bool {
    row.and_then(|row| row.ifindex) == Some(i64::from(rep.ifindex.0))
}

/// Has Open vSwitch this very device, for all that kernel and database say?
pub(super) fn is_taken(rep: &RepView, ovs: &OvsView) -> bool {
    rep.in_datapath && is_this(rep, ovs.interface(&rep.name))
}

/// Those whose boundary may be there, of attachments that have one at all. It is certain of those that Open vSwitch does not
/// have that it is not; the database may be behind the kernel, and cuts nobody off.
pub(super) fn keeps<'a>(
    attachments: impl Iterator<Item = &'a Attachment>,
    reps: &[RepView],
) -> BTreeSet<IfIndex> {
    // One without an identity has no boundary yet: what is open is so for whoever held it before.
    let held: BTreeSet<VfId> = attachments.filter(|a| a.binding().is_some()).map(|a| a.vf).collect();
    let is_kept = |rep: &&RepView| rep.in_datapath && rep.vf.is_some_and(|vf| held.contains(&vf));
    reps.iter().filter(is_kept).map(|rep| rep.ifindex).collect()
}

/// VFs whose flows are in, and whose two ports on `br-edge` have the numbers that the flows name and the devices that are
/// there now.
pub(super) fn whole<'a>(
    attachments: impl Iterator<Item = &'a Attachment>,
    reps: &[RepView],
    view: &OvsView,
    moved: &BTreeSet<String>,
) -> BTreeSet<VfId> {
    let has = |name: &str, number: u32| {
        let row = view.interface(name).filter(|_| !moved.contains(name));
        row.is_some_and(|row| row.ofport == Some(i64::from(number)) && row.error.is_none())
    };
    attachments
        .filter(|a| a.binding().is_some())
        .map(|a| a.vf)
        .filter(|vf| {
            attachment::of_ports(*vf).is_some_and(|(rep_port, patch_port)| {
                find(reps, *vf).is_some_and(|rep| has(&rep.name, rep_port.get()) && is_taken(rep, view))
                    && has(&attachment::edge_patch(*vf), patch_port.get())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::{Binding, OverlayPort, Owner, Port};
    use crate::kernel::view::Offload;
    use crate::ovs::view::{BridgeView, PortView};
    use crate::representors::plan;
    use offload::ids::CtZone;

    const VF: VfId = VfId { pf: 0, vf: 0 };

    fn held() -> Attachment {
        let mut port = OverlayPort::new(CtZone::new(61000).unwrap(), String::new());
        let mac = "0a:00:00:00:00:01".parse().unwrap();
        port.binding = Some(Binding { mac, ips: Vec::new(), dhcp: false, dhcp_servers: Vec::new() });
        Attachment { owner: Owner::Host, vf: VF, network: String::new(), port: Port::Overlay(port) }
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
        let held = held();
        let old = RepView {
            ifindex: IfIndex(7),
            name: "rep7".to_owned(),
            vf: Some(VF),
            up: true,
            mtu: 1500,
            closed: false,
            in_datapath: true,
            offload: Offload::default(),
            function: None,
        };
        let stale = database(Some(7));
        let closed = |rep: &RepView| {
            let reps = std::slice::from_ref(rep);
            plan::close(reps, &keeps([&held].into_iter(), reps)).len()
        };
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
        assert!(!is_taken(&new, &database(Some(8))));
        assert_eq!(closed(&RepView { up: true, ..new }), 1);
    }
}
