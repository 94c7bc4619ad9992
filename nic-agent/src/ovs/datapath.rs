//! Is Open vSwitch's datapath the kernel's? No other is known here: OVS-DOCA and DPDK have theirs in user space, where no
//! representor is a port of a datapath in the kernel and TC has no flows, so that nothing we close, open or count is what
//! passes packets.
//!
//! Whoever finds another refuses it as a whole: half of the bridges in one datapath and half in another is a network
//! without a way between them.

use super::spec::BridgeSpec;
use super::view::OvsView;

/// Says so where BlueField's own scripts start it.
const DOCA: &str = "doca-init";
/// What `ovn-controller` makes its bridge with (ovn-controller(8)).
const OF_OVN: &str = "ovn-bridge-datapath-type";

/// What is there in place of the kernel's datapath, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error(
        "Open vSwitch runs with DOCA (other_config:doca-init=true), which is not supported: {}",
        self.remedy()
    )]
    Doca,
    #[error(
        "bridge {name} has datapath_type {datapath}, which is not supported (OVS-DOCA, DPDK): {}",
        self.remedy()
    )]
    Bridge { name: String, datapath: String },
    #[error(
        "ovn-controller is told to make its bridge in datapath {datapath} (external_ids:ovn-bridge-datapath-type), which is not \
         supported (OVS-DOCA, DPDK): {}",
        self.remedy()
    )]
    OfOvn { datapath: String },
}

impl Unsupported {
    /// In words of their own what was found.
    pub fn found(&self) -> String {
        match self {
            Self::Doca => format!("other_config:{DOCA}=true"),
            Self::Bridge { name, datapath } => format!("bridge {name}: datapath_type={datapath}"),
            Self::OfOvn { datapath } => format!("external_ids:{OF_OVN}={datapath}"),
        }
    }

    /// The command.
    pub fn remedy(&self) -> String {
        match self {
            Self::Doca => format!(
                "ovs-vsctl remove Open_vSwitch . other_config {DOCA} (on a BlueField OVS_DOCA=\"no\" in \
                 /etc/mellanox/mlnx-ovs.conf), then restart Open vSwitch"
            ),
            Self::Bridge { name, .. } => {
                format!("ovs-vsctl set Bridge {name} datapath_type={}", BridgeSpec::DATAPATH_TYPE)
            }
            Self::OfOvn { .. } => format!("ovs-vsctl remove Open_vSwitch . external_ids {OF_OVN}"),
        }
    }
}

fn is_kernels(datapath: &str) -> bool {
    // An empty column is the default.
    datapath.is_empty() || datapath == BridgeSpec::DATAPATH_TYPE
}

/// All that stands against the kernel's datapath, in the whole switch and in `bridges`.
pub fn unsupported<'a>(
    view: &'a OvsView,
    bridges: impl IntoIterator<Item = &'a str>,
) -> impl Iterator<Item = Unsupported> {
    let doca = view.other_config.get(DOCA).is_some_and(|it| it == "true").then_some(Unsupported::Doca);
    let of_ovn = view.external_ids.get(OF_OVN).filter(|it| !is_kernels(it));
    let rows = bridges.into_iter().filter_map(|name| {
        let datapath = &view.bridges.get(name)?.datapath_type;
        (!is_kernels(datapath))
            .then(|| Unsupported::Bridge { name: name.to_owned(), datapath: datapath.clone() })
    });
    doca.into_iter().chain(rows).chain(of_ovn.map(|it| Unsupported::OfOvn { datapath: it.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovs::view::BridgeView;

    fn view(datapath: &str) -> OvsView {
        let bridge = BridgeView { datapath_type: datapath.to_owned(), ..BridgeView::default() };
        OvsView { bridges: [("br-int".to_owned(), bridge)].into(), ..OvsView::default() }
    }

    fn first(view: &OvsView) -> Option<Unsupported> {
        unsupported(view, ["br-edge", "br-int"]).next()
    }

    #[test]
    fn the_kernels_datapath_is_taken_and_no_other() {
        for datapath in ["", "system"] {
            assert_eq!(first(&view(datapath)), None, "{datapath:?}");
        }
        let netdev = first(&view("netdev")).unwrap();
        assert_eq!(netdev, Unsupported::Bridge { name: "br-int".into(), datapath: "netdev".into() });
        let said = netdev.to_string();
        assert!(said.contains("ovs-vsctl set Bridge br-int datapath_type=system"), "{said}");
        assert_eq!(
            unsupported(&view("netdev"), ["br-edge"]).count(),
            0,
            "another bridge than those asked for"
        );
    }

    #[test]
    fn doca_is_refused_with_what_to_do() {
        let with = |value: &str| OvsView {
            other_config: [("doca-init".to_owned(), value.to_owned())].into(),
            ..view("system")
        };
        assert_eq!(first(&with("false")), None);
        let doca = first(&with("true")).unwrap();
        assert_eq!(doca, Unsupported::Doca);
        let said = doca.to_string();
        assert!(said.contains("remove Open_vSwitch . other_config doca-init"), "{said}");
        let mut told = view("");
        told.external_ids.insert("ovn-bridge-datapath-type".into(), "netdev".into());
        assert_eq!(first(&told), Some(Unsupported::OfOvn { datapath: "netdev".into() }));
        told.external_ids.insert("ovn-bridge-datapath-type".into(), "system".into());
        assert_eq!(first(&told), None);
    }
}
