//! What filters of others have that our rules cannot say, by name: tunnels, translation, rewriting. Open vSwitch's, mostly.
//!
//! Only that it is there is read, not what it says. Source: `linux/pkt_cls.h` (`TCA_FLOWER_*`).

use super::action::Action;

/// A match or an action that [`crate::flower`] has no value for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Part {
    #[error("the tunnel")]
    Tunnel,
    #[error("the tunnel's options")]
    TunnelOptions,
    #[error("the tunnel's flags")]
    TunnelFlags,
    #[error("the connection's mark")]
    CtMark,
    #[error("the connection's label")]
    CtLabels,
    #[error("IP's type of service")]
    Tos,
    #[error("IP's time to live")]
    Ttl,
    #[error("TCP's flags")]
    TcpFlags,
    #[error("fields of ARP")]
    Arp,
    #[error("a range of ports")]
    PortRange,
    #[error("a miss in the bridge's table")]
    L2Miss,
    #[error("flower's attribute {0}")]
    Key(u16),
    /// Into a tunnel, or out of one.
    #[error("tunnel_key")]
    TunnelKey,
    #[error("pedit")]
    Rewrite,
    #[error("csum")]
    Checksum,
    /// With more than a zone: translation, marks, labels.
    #[error("ct with translation or marks")]
    Translation,
    #[error("no action that ends it")]
    Endless,
    /// Of a kind that we do not write, or in a form that we do not write.
    #[error("action {0}")]
    Action(String),
}

impl Part {
    /// Attributes of flower.
    pub(super) fn of_key(kind: u16) -> Self {
        match kind {
            26..=34 | 43..=46 | 80..=83 => Self::Tunnel,
            57..=66 => Self::Arp,
            71 | 72 => Self::TcpFlags,
            73 | 74 => Self::Tos,
            75 | 76 => Self::Ttl,
            84 | 85 => Self::TunnelOptions,
            87..=90 => Self::PortRange,
            95 | 96 => Self::CtMark,
            97 | 98 => Self::CtLabels,
            106 => Self::L2Miss,
            110 | 111 => Self::TunnelFlags,
            other => Self::Key(other),
        }
    }

    /// One that has no meaning among our rules' actions.
    pub(super) fn of_action(action: &Action) -> Self {
        match action.kind.as_str() {
            "tunnel_key" => Self::TunnelKey,
            "pedit" => Self::Rewrite,
            "csum" => Self::Checksum,
            "ct" => Self::Translation,
            other => Self::Action(other.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_have_their_names() {
        // TCA_FLOWER_KEY_ENC_KEY_ID, _ENC_UDP_SRC_PORT, _ENC_IP_TTL_MASK
        assert!([26, 43, 83].map(Part::of_key).iter().all(|it| *it == Part::Tunnel));
        // _ARP_SIP, _ARP_THA_MASK
        assert!([57, 66].map(Part::of_key).iter().all(|it| *it == Part::Arp));
        // _PORT_DST_MAX, _CT_LABELS_MASK, _L2_MISS, _ENC_FLAGS_MASK
        let named = [90, 98, 106, 111].map(Part::of_key);
        assert_eq!(named, [Part::PortRange, Part::CtLabels, Part::L2Miss, Part::TunnelFlags]);
        // What rules say is no part of it: MACs, addresses, ports, flags, ICMP, state and zone.
        for ours in (4..=21).chain([23, 25]).chain(35..=42).chain(47..=56).chain(91..=94) {
            assert_eq!(Part::of_key(ours), Part::Key(ours));
        }
    }
}
