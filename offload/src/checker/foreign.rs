//! The same for filters that others wrote and our rules cannot say: what of them is known is checked, the rest by its name.

use std::collections::BTreeSet;

use super::{Profile, Reason, check_key};
use crate::netlink::tc::{Part, Partial};

/// What hardware will say of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    Taken,
    Refused(Reason),
    /// It has this, and whether this hardware takes it nobody has written down.
    Unknown(Part),
}

/// `taken`: what this very hardware has taken in other filters, whatever it is said to take.
pub fn foresee(partial: &Partial, profile: &Profile, taken: &BTreeSet<Part>) -> Foreseen {
    if let Err(reason) = check_key(&partial.key, profile) {
        return Foreseen::Refused(reason);
    }
    let mut unknown = None;
    for part in partial.beyond.difference(taken) {
        match judge(part) {
            Some(Ok(())) => {}
            Some(Err(reason)) => return Foreseen::Refused(reason),
            None => unknown = Some(part),
        }
    }
    unknown.map_or(Foreseen::Taken, |part| Foreseen::Unknown(part.clone()))
}

fn judge(part: &Part) -> Option<Result<(), Reason>> {
    Some(match part {
        Part::Arp => Err(Reason::Arp),
        Part::PortRange => Err(Reason::PortRange),
        Part::L2Miss => Err(Reason::L2Miss),
        Part::TunnelFlags => Err(Reason::TunnelFlags),
        Part::Endless => Err(Reason::NoEnd),
        Part::Tunnel
        | Part::CtMark
        | Part::CtLabels
        | Part::Tos
        | Part::Ttl
        | Part::TcpFlags
        | Part::TunnelKey
        | Part::Rewrite
        | Part::Checksum
        | Part::Translation => Ok(()),
        // One word of data that is not zero, and what else the firmware can.
        Part::TunnelOptions | Part::Key(_) | Part::Action(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flower::{IpKey, Key, L4, Payload, Ports};

    #[test]
    fn what_is_known_of_others_filters_is_said() {
        let nothing = BTreeSet::new();
        let of = |l4: L4, beyond: &[Part], taken: &BTreeSet<Part>| {
            let key = Key { payload: Payload::Ipv4(IpKey { l4, ..IpKey::default() }), ..Key::default() };
            foresee(&Partial { key, beyond: beyond.iter().cloned().collect() }, &Profile::MLX5, taken)
        };
        let tunnel = [Part::Tunnel, Part::TunnelKey, Part::Ttl];
        assert_eq!(of(L4::Any, &tunnel, &nothing), Foreseen::Taken);
        let flags = [Part::Tunnel, Part::TunnelFlags, Part::TunnelOptions];
        assert_eq!(of(L4::Any, &flags, &nothing), Foreseen::Refused(Reason::TunnelFlags));
        let sctp = L4::Sctp(Ports { dst: 7.into(), ..Ports::default() });
        assert_eq!(of(sctp, &tunnel, &nothing), Foreseen::Refused(Reason::L4));
        // What was taken once can be taken, whatever is said.
        let one = BTreeSet::from([Part::TunnelFlags]);
        assert_eq!(of(L4::Any, &flags, &one), Foreseen::Unknown(Part::TunnelOptions));
        let both = BTreeSet::from([Part::TunnelFlags, Part::TunnelOptions]);
        assert_eq!(of(L4::Any, &flags, &both), Foreseen::Taken);
    }
}
