//! Rules as filters: a chain for each tier.
//!
//! A rule is the product of its prefixes and its ports, which are disjoint by construction. Filters of different rules
//! share a preference as long as no packet can meet two of them; one that meets an earlier one comes after it.

use std::collections::HashSet;

use super::Error;
use super::mark::{of_rule, ours};
use super::program::{Filters, PortBuilder, ipv4, ipv6, new_connection, pref};
use crate::flower::overlap::{Flat, FlatIndex};
use crate::flower::{Actions, End, Icmp, IpKey, Key, L4, Ports};
use crate::openflow::{Bits, Masked, OtherProto};
use crate::policy::{Action, Direction, IcmpKind, PortSet, Rule, Rules, Tier, Traffic, Transports};

/// Above this a rule is refused before its filters are made.
const MAX_FILTERS: usize = 1 << 18;

/// Writes the chains that decide about a new connection. What they allow goes on as `accept` says.
/// The result is what leads in.
pub fn tiers(
    port: &mut PortBuilder,
    rules: &Rules,
    direction: Direction,
    accept: &Actions,
) -> Result<Actions, Error> {
    let mut next = accept.clone();
    for tier in rules.tiers.iter().rev() {
        next = tier_chain(port, tier, direction, accept, &next)?;
    }
    Ok(next)
}

fn tier_chain(
    port: &mut PortBuilder,
    tier: &Tier,
    direction: Direction,
    accept: &Actions,
    next: &Actions,
) -> Result<Actions, Error> {
    let decided = |action, origin| match action {
        Action::Allow => of_rule(accept, origin),
        Action::Deny => of_rule(&Actions::drop(), origin),
        Action::Pass => of_rule(next, origin),
    };
    let (mut v4, mut v6) = (Levels::default(), Levels::default());
    for rule in &tier.rules {
        let actions = decided(rule.action, rule.origin);
        let (keys4, keys6) = keys(rule, direction)?;
        v4.add_rule(keys4, &actions);
        v6.add_rule(keys6, &actions);
    }
    if v4.is_empty() && v6.is_empty() && tier.otherwise == Action::Pass {
        return Ok(next.clone());
    }
    let mut filters = Filters::default();
    let too_deep = || Error::TooDeep(tier.origin);
    let mut place = pref(0);
    for level in v4.levels.into_iter().chain(v6.levels) {
        place = place.after(1).ok_or_else(too_deep)?;
        for (key, actions) in level.filters {
            filters.add(place, key, actions)?;
        }
    }
    // The very last is the drop's.
    place = place.after(1).filter(|place| place.after(1).is_some()).ok_or_else(too_deep)?;
    filters.add(place, new_connection(Key::default()), decided(tier.otherwise, tier.origin))?;
    let chain = port.ordered(filters.closed()?);
    Ok(ours(Actions::new(Vec::new(), End::Goto(chain))))
}

/// Filters of one version of IP, in the preferences that they need.
#[derive(Default)]
struct Levels {
    levels: Vec<Level>,
    seen: HashSet<Key>,
}

#[derive(Default)]
struct Level {
    filters: Vec<(Key, Actions)>,
    index: FlatIndex,
}

impl Levels {
    fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    fn add_rule(&mut self, keys: Vec<Key>, actions: &Actions) {
        let mut placed = Vec::new();
        for key in keys {
            // An equal one came first: this one is never asked.
            if self.seen.insert(key.clone()) {
                let flat = Flat::of(&key);
                let met = self.levels.iter().rposition(|level| level.index.meets(&flat));
                placed.push((met.map_or(0, |level| level + 1), flat, key));
            }
        }
        for (position, flat, key) in placed {
            while self.levels.len() <= position {
                self.levels.push(Level::default());
            }
            if let Some(level) = self.levels.get_mut(position) {
                level.index.insert(flat);
                level.filters.push((key, actions.clone()));
            }
        }
    }
}

fn keys(rule: &Rule, direction: Direction) -> Result<(Vec<Key>, Vec<Key>), Error> {
    let (l4_of_v4, l4_of_v6) = match &rule.traffic {
        Traffic::Any => (vec![L4::Any], vec![L4::Any]),
        Traffic::Of(of) => (transports(of, &of.icmp), transports(of, &of.icmp6)),
    };
    let filters = rule.peers.v4().len().saturating_mul(l4_of_v4.len());
    let filters = filters.saturating_add(rule.peers.v6().len().saturating_mul(l4_of_v6.len()));
    if filters > MAX_FILTERS {
        return Err(Error::TooLarge { origin: rule.origin, filters });
    }
    let product4 = rule.peers.v4().flat_map(|net| l4_of_v4.iter().map(move |l4| (Masked::from(net), *l4)));
    let product6 = rule.peers.v6().flat_map(|net| l4_of_v6.iter().map(move |l4| (Masked::from(net), *l4)));
    Ok((
        product4.map(|(peer, l4)| new_connection(ipv4(with_peer(peer, l4, direction)))).collect(),
        product6.map(|(peer, l4)| new_connection(ipv6(with_peer(peer, l4, direction)))).collect(),
    ))
}

fn with_peer<A: Bits>(peer: Masked<A>, l4: L4, direction: Direction) -> IpKey<A>
where
    IpKey<A>: Default,
{
    match direction {
        Direction::Egress => IpKey { dst: peer, l4, ..IpKey::default() },
        Direction::Ingress => IpKey { src: peer, l4, ..IpKey::default() },
    }
}

fn transports<'a>(of: &Transports, icmp: impl IntoIterator<Item = &'a IcmpKind> + Copy) -> Vec<L4> {
    let ports =
        |set: &PortSet| set.blocks().map(|dst| Ports { dst, ..Ports::default() }).collect::<Vec<Ports>>();
    let covered = |kind: IcmpKind| {
        icmp.into_iter().any(|other| {
            *other != kind
                && match (*other, kind) {
                    (IcmpKind::Any, _) => true,
                    (IcmpKind::Type(wide), IcmpKind::TypeCode(narrow, _)) => wide == narrow,
                    _ => false,
                }
        })
    };
    let mut out: Vec<L4> = Vec::new();
    out.extend(ports(&of.tcp).into_iter().map(L4::Tcp));
    out.extend(ports(&of.udp).into_iter().map(L4::Udp));
    out.extend(ports(&of.sctp).into_iter().map(L4::Sctp));
    out.extend(icmp.into_iter().filter(|kind| !covered(**kind)).map(|kind| {
        L4::Icmp(match *kind {
            IcmpKind::Any => Icmp::default(),
            IcmpKind::Type(kind) => Icmp { kind: kind.into(), ..Icmp::default() },
            IcmpKind::TypeCode(kind, code) => Icmp { kind: kind.into(), code: code.into() },
        })
    }));
    out.extend(of.other.iter().filter_map(|proto| OtherProto::new(*proto)).map(L4::Other));
    out
}
