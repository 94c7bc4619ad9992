//! What keeps one pod's flood from being everyone's: OVN's control plane protection (ovn-nb(5), `Copp`).
//!
//! What `ovn-controller` answers itself passes a Meter first, one for each protocol, so that who exhausts the refusals of
//! Services does not exhaust neighbour discovery. A Meter is a token bucket on each chassis, for all packets there.
//!
//! All switches share theirs. What goes to `ovn-controller` does so in an ingress pipeline, on its sender's NIC, and the NIC
//! has the pods of one node: so each bucket is theirs alone, as it would be with Meters of each switch's own. Those would
//! bound less, as every NIC has the flows of every switch, and with them a bucket for each; and northd could not share the
//! flows of a Service without endpoints: OVN 25.03, with 20 switches and 50 such Services, makes 1000 flows of them, and
//! 69 meters on each NIC, where it makes 50 and 12 with shared ones.

use std::num::NonZeroU32;

use ovsdb_session::Datum;

use super::Rows;
use crate::northbound::band::Band;
use crate::northbound::{COPP, Key, Table, WantedRow};
use crate::settings::Settings;

/// Whose packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Switches,
    Router,
}

impl Of {
    const ALL: [Self; 2] = [Self::Switches, Self::Router];

    const fn id(self) -> &'static str {
        match self {
            Self::Switches => "switches",
            Self::Router => "router",
        }
    }

    /// Of which northd makes flows there (`copp_meter_get()` in `northd.c`), with rows of ours or of others.
    const fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Switches => {
                &["dhcpv4-opts", "dhcpv6-opts", "dns", "event-elb", "igmp", "nd-na", "reject", "svc-monitor"]
            }
            Self::Router => &[
                "arp",
                "arp-resolve",
                "bfd",
                "event-elb",
                "icmp4-error",
                "icmp6-error",
                "nd-na",
                "nd-ns",
                "nd-ns-resolve",
                "nd-ra-opts",
                "reject",
                "tcp-reset",
            ],
        }
    }

    pub(super) fn key(self) -> Key {
        Key::new(Table::Copp, self.id())
    }
}

/// The row, bounded if anything is.
pub(super) fn bounded(settings: &Settings, row: WantedRow, of: Of) -> WantedRow {
    if settings.copp_rate.get().is_some() { row.reference(COPP, of.key()) } else { row }
}

pub(super) fn rows(settings: &Settings) -> Rows {
    let Some(rate) = settings.copp_rate.get() else { return Rows::new() };
    Of::ALL.into_iter().flat_map(|of| rows_of(of, rate)).collect()
}

fn rows_of(of: Of, rate: NonZeroU32) -> Rows {
    let mut rows = Rows::new();
    let mut named = Vec::new();
    for protocol in of.protocols() {
        let key = Key::new(Table::Meter, format!("{}/{protocol}", of.id()));
        let name = name(&key);
        named.push((*protocol, name.clone()));
        let meter = WantedRow::marked(&key).column("name", name).column("unit", "pktps").band(Band { rate });
        rows.insert(key, meter);
    }
    let key = of.key();
    // By name: a Meter that is not there bounds nothing, and holds nothing up.
    let copp = WantedRow::marked(&key).column("name", name(&key)).column("meters", Datum::map(named));
    rows.insert(key, copp);
    rows
}

/// No two of OVN's Meters or Copps have one name, whoever wrote them.
fn name(key: &Key) -> String {
    format!("drawbridge.dev/{}", key.id)
}
