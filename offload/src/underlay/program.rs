//! Programs as values, and the parts that representors and uplinks share.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::mark::ours;
use super::{Error, Station, Vlan};
use crate::boundary::dhcp;
use crate::flower::{
    Actions, Chain, ChainBuilder, ChainIndex, CtAction, CtKey, End, Icmp, IpKey, Key, L4, NextChain, Payload,
    Ports, Pref, Rule, Skip, Step, VlanTag,
};
use crate::ids::{CtZone, IfIndex, MacAddr};
use crate::openflow::Masked;

/// All ports' filters, as they would be written to ports on which nothing stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub ports: BTreeMap<IfIndex, PortProgram>,
}

/// One port's filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortProgram {
    pub layout: Layout,
    /// Every chain ends in a drop, except chain 0 of an uplink: what belongs to no VLAN of ours is the NIC's own.
    pub chains: BTreeMap<ChainIndex, Chain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    Representor,
    Uplink,
}

/// The fixed chains of a representor, or of one VLAN on an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// ARP and neighbour discovery.
    pub link: NextChain,
    /// Where to, for what may pass.
    pub forward: NextChain,
    /// What conntrack says.
    pub state: NextChain,
    /// New connections by destination.
    pub dispatch: NextChain,
}

impl Fixed {
    pub const REPRESENTOR: Self = Self::from(NextChain::FIRST);

    const fn from(first: NextChain) -> Self {
        Self { link: first, forward: first.after(1), state: first.after(2), dispatch: first.after(3) }
    }

    pub fn vlan(id: u16) -> Self {
        // 4 to 16 379.
        Self::from(NextChain::FIRST.after(u32::from(id) * 4 - 1))
    }
}

impl Layout {
    /// Ordered chains have numbers from here on.
    pub fn first_ordered(self) -> NextChain {
        match self {
            Self::Representor => NextChain::FIRST.after(15),
            Self::Uplink => NextChain::FIRST.after(0x3fff),
        }
    }

    /// A second number for a representor's `dispatch`: where egress rules and dispatch change both, the new dispatch is
    /// built there and one flip changes both. (Else a packet could meet new rules of the one and old rules of the
    /// other, and pass although neither policy lets it.)
    pub fn other_dispatch(self) -> Option<(NextChain, NextChain)> {
        let first = Fixed::REPRESENTOR.dispatch;
        (self == Self::Representor).then_some((first, first.after(1)))
    }

    pub fn is_ordered(self, chain: ChainIndex) -> bool {
        chain >= self.first_ordered().index()
    }
}

/// Preferences of fixed chains, in order. 1 stays free: in chain 0 it is that of a port that is closed as a whole.
pub fn pref(position: u16) -> Pref {
    Pref::FIRST.after(position).unwrap_or(Pref::LAST)
}

/// A port's chains while they are written.
pub struct PortBuilder {
    layout: Layout,
    chains: BTreeMap<ChainIndex, Chain>,
    ordered: BTreeMap<Chain, NextChain>,
}

impl PortBuilder {
    pub fn new(layout: Layout) -> Self {
        Self { layout, chains: BTreeMap::new(), ordered: BTreeMap::new() }
    }

    pub fn fixed(&mut self, chain: ChainIndex, filters: ChainBuilder) {
        self.chains.insert(chain, filters.finish());
    }

    /// The chain of this content. What it leads to must be there already, so that it has the lower number.
    pub fn ordered(&mut self, filters: ChainBuilder) -> NextChain {
        let content = filters.finish();
        if let Some(number) = self.ordered.get(&content) {
            return *number;
        }
        let count = u32::try_from(self.ordered.len()).unwrap_or(u32::MAX);
        let number = self.layout.first_ordered().after(count);
        self.chains.insert(number.index(), content.clone());
        self.ordered.insert(content, number);
        number
    }

    pub fn finish(self) -> PortProgram {
        PortProgram { layout: self.layout, chains: self.chains }
    }
}

/// Filters of one chain while they are written.
#[derive(Default)]
pub struct Filters(ChainBuilder);

impl Filters {
    pub fn add(&mut self, pref: Pref, key: Key, actions: Actions) -> Result<(), Error> {
        Ok(self.0.insert(pref, Rule { key, actions, skip: Skip::None })?)
    }

    /// Nothing of the underlay's.
    pub fn structural(&mut self, position: u16, key: Key, steps: Vec<Step>, end: End) -> Result<(), Error> {
        self.add(pref(position), key, ours(Actions::new(steps, end)))
    }

    /// With the drop that ends a chain: as flower, because `matchall` is not offloaded.
    pub fn closed(mut self) -> Result<ChainBuilder, Error> {
        self.add(Pref::LAST, Key::default(), ours(Actions::drop()))?;
        Ok(self.0)
    }

    pub fn open(self) -> ChainBuilder {
        self.0
    }
}

// === keys and actions ===

pub const GROUPS: MacAddr = MacAddr([1, 0, 0, 0, 0, 0]);

/// The group bit.
pub fn groups() -> Key {
    Key { eth_dst: Masked::new(GROUPS, GROUPS), ..Key::default() }
}

pub fn to_mac(mac: MacAddr) -> Key {
    Key { eth_dst: mac.into(), ..Key::default() }
}

pub fn ipv4(ip: IpKey<Ipv4Addr>) -> Key {
    Key { payload: Payload::Ipv4(ip), ..Key::default() }
}

pub fn ipv6(ip: IpKey<Ipv6Addr>) -> Key {
    Key { payload: Payload::Ipv6(ip), ..Key::default() }
}

/// To these addresses.
pub fn to_ips(station: &Station<'_>) -> (Vec<Key>, Vec<Key>) {
    let v4 = station.ipv4.iter().map(|dst| ipv4(IpKey { dst: (*dst).into(), ..IpKey::default() }));
    let v6 = station.ipv6.iter().map(|dst| ipv6(IpKey { dst: (*dst).into(), ..IpKey::default() }));
    (v4.collect(), v6.collect())
}

pub fn new_connection(key: Key) -> Key {
    Key { ct: CtKey::new_connection(), ..key }
}

pub fn track(zone: CtZone) -> Step {
    Step::Ct(CtAction { zone, commit: false })
}

pub fn commit(zone: CtZone, then: NextChain) -> Actions {
    ours(Actions::new(vec![Step::Ct(CtAction { zone, commit: true })], End::Goto(then)))
}

pub fn tag(vlan: &Vlan<'_>) -> Step {
    Step::VlanPush(VlanTag { id: vlan.id })
}

// === chains that representors and VLANs of uplinks have both ===

/// Errors that belong to a connection: unreachable, time exceeded, bad parameter. Not redirects, which conntrack also
/// calls related: a pod is no router.
const ICMP_ERRORS: [u8; 3] = [3, 11, 12];
const ICMP6_ERRORS: [u8; 4] = [1, 2, 3, 4];

/// What conntrack says of a packet decides. DHCP is no connection that anybody may begin (as in [`crate::boundary`]).
///
/// mlx5 cannot match related packets: these filters run in software, and under them only the drop does, because a packet
/// is related or new or known, and never two of these.
pub fn state_chain(at: Fixed, new: Actions) -> Result<ChainBuilder, Error> {
    let mut filters = Filters::default();
    let forward = || ours(Actions::new(Vec::new(), End::Goto(at.forward)));
    let related = |key| Key { ct: CtKey::related(), ..key };
    let of_kind = |kind: u8| L4::Icmp(Icmp { kind: kind.into(), ..Icmp::default() });
    filters.add(pref(1), Key { ct: CtKey::established(), ..Key::default() }, forward())?;
    for kind in ICMP_ERRORS {
        filters.add(pref(2), related(ipv4(IpKey { l4: of_kind(kind), ..IpKey::default() })), forward())?;
    }
    for kind in ICMP6_ERRORS {
        filters.add(pref(3), related(ipv6(IpKey { l4: of_kind(kind), ..IpKey::default() })), forward())?;
    }
    for (src, dst) in dhcp::both(dhcp::PORTS) {
        let l4 = L4::Udp(Ports { src: src.into(), dst: dst.into() });
        let key = new_connection(ipv4(IpKey { l4, ..IpKey::default() }));
        filters.structural(4, key, Vec::new(), End::Drop)?;
    }
    for (src, dst) in dhcp::both(dhcp::PORTS6) {
        let l4 = L4::Udp(Ports { src: src.into(), dst: dst.into() });
        let key = new_connection(ipv6(IpKey { l4, ..IpKey::default() }));
        filters.structural(5, key, Vec::new(), End::Drop)?;
    }
    filters.add(pref(6), new_connection(Key::default()), new)?;
    filters.closed()
}

/// Delivers to these stations what bears both their MAC and their IP.
pub fn deliver<'a>(
    filters: &mut Filters,
    stations: impl Iterator<Item = &'a Station<'a>>,
) -> Result<(), Error> {
    for station in stations {
        let (v4, v6) = to_ips(station);
        for (position, keys) in [(1, v4), (2, v6)] {
            for key in keys {
                let key = Key { eth_dst: station.mac.into(), ..key };
                filters.structural(position, key, Vec::new(), End::Redirect(station.rep))?;
            }
        }
    }
    Ok(())
}
