//! `other_config:flow-restore-wait`: OVS starts and serves no packet until the flows are back (docs/architecture.md, Restart of Open vSwitch).
//!
//! ovs-vswitchd reads the key only while it starts and until it was once false (`vswitchd/bridge.c`,
//! `ofproto_set_flow_restore_wait`). So it stands at true, goes to false once our flows are in, and back to true when OVS
//! has seen that, for the next start. Which start that is, the OpenFlow connection tells: it dies with ovs-vswitchd.

/// Where OVS is in this, as far as we have brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restore {
    /// A new connection: OVS may be waiting for us.
    #[default]
    Waiting,
    /// The key is false; armed again when `Open_vSwitch.cur_cfg` has come to this.
    Releasing { next_cfg: i64 },
    /// OVS serves, and the next start will wait.
    Armed,
}

impl Restore {
    pub const KEY: &'static str = "flow-restore-wait";

    /// What the key shall be now.
    pub const fn value(self) -> &'static str {
        match self {
            Self::Releasing { .. } => "false",
            Self::Waiting | Self::Armed => "true",
        }
    }

    /// The next state, when our flows are in and the database says so much.
    #[must_use]
    pub const fn advance(self, cur_cfg: i64, next_cfg: i64) -> Self {
        match self {
            Self::Waiting => Self::Releasing { next_cfg: next_cfg + 1 },
            Self::Releasing { next_cfg } if cur_cfg >= next_cfg => Self::Armed,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_once_seen_and_armed_again() {
        let start = Restore::default();
        assert_eq!(start.value(), "true");
        let releasing = start.advance(4, 4);
        assert_eq!((releasing, releasing.value()), (Restore::Releasing { next_cfg: 5 }, "false"));
        assert_eq!(releasing.advance(4, 5), releasing);
        let armed = releasing.advance(5, 5);
        assert_eq!((armed, armed.value()), (Restore::Armed, "true"));
        assert_eq!(armed.advance(9, 9), armed);
    }
}
