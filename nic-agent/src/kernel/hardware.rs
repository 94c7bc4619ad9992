//! Which of a device's TC filters the eSwitch runs, and why it does not run the others.
//!
//! The reason that the driver gave went to whoever wrote the filter, and that was OVS. So it is predicted anew: what this
//! kind of hardware never takes is told apart from what it has refused although it could ([`checker::check`]).
//! A filter that the hardware has taken and lost without a word still says that it is there.

use std::collections::BTreeSet;

use offload::checker::{self, Foreseen, Profile, Why};
use offload::flower::{Place, Pref, Rule, Skip};
use offload::netlink::tc::{Filter, Flower};

use crate::reconcile::links::{InSoftware, Offload};

/// Filters of other kinds than flower are none of OVS's flows.
pub fn of(filters: &[Filter]) -> Offload {
    let mut offload = Offload::default();
    for (filter, flower) in filters.iter().filter_map(|filter| Some((filter, filter.flower.as_ref()?))) {
        if flower.is_offloaded() {
            offload.hardware += 1;
        } else {
            offload.software.push(in_software(filter, flower));
        }
    }
    offload
}

fn in_software(filter: &Filter, flower: &Flower) -> InSoftware {
    let what = match &flower.rule {
        Ok(rule) => format!("{:?}", rule.key),
        Err(beyond) => beyond.clone(),
    };
    InSoftware {
        filter: format!("chain {} pref {}: {what}", filter.chain, filter.pref),
        why: why(filter, flower),
    }
}

fn why(filter: &Filter, flower: &Flower) -> String {
    if flower.skip_hw {
        return Why::Expected(checker::Reason::Told).to_string();
    }
    if !flower.not_in_hw {
        return "no hardware was asked".to_owned();
    }
    let foreseen = match (&flower.rule, &flower.partial, Pref::new(filter.pref)) {
        (Ok(rule), _, Some(pref)) => {
            let at = Place { port: filter.ifindex, chain: filter.chain, pref };
            let rule = Rule { skip: Skip::None, ..rule.clone() };
            checker::check(&rule, at, &Profile::MLX5).map_or_else(Foreseen::Refused, |()| Foreseen::Taken)
        }
        (Err(_), Some(partial), _) => checker::foresee(partial, &Profile::MLX5, &BTreeSet::new()),
        (Err(what), None, _) => return unforeseen(what),
        (Ok(_), _, None) => return unforeseen("preference 0"),
    };
    match foreseen {
        Foreseen::Taken => Why::Refused.to_string(),
        Foreseen::Refused(reason) => Why::Expected(reason).to_string(),
        Foreseen::Unknown(part) => unforeseen(&part.to_string()),
    }
}

fn unforeseen(what: &str) -> String {
    format!("not in hardware, and not known whether it could be: {what}")
}

#[cfg(test)]
mod tests {
    use offload::flower::{Actions, ChainIndex, IpKey, Key, L4, Payload, Ports};
    use offload::ids::IfIndex;

    use super::*;

    fn filter(rule: Result<Rule, String>, in_hw: bool, not_in_hw: bool) -> Filter {
        let flower = Flower {
            rule,
            partial: None,
            actions: Vec::new(),
            in_hw,
            not_in_hw,
            skip_hw: false,
            skip_sw: false,
            in_hw_count: u32::from(in_hw),
        };
        Filter {
            ifindex: IfIndex(7),
            block: None,
            chain: ChainIndex(3),
            pref: 2,
            protocol: 0x0800,
            handle: 1,
            kind: "flower".to_owned(),
            flower: Some(flower),
            raw: Vec::new(),
        }
    }

    fn rule(l4: L4) -> Rule {
        let key = Key { payload: Payload::Ipv4(IpKey { l4, ..IpKey::default() }), ..Key::default() };
        Rule { key, actions: Actions::drop(), skip: Skip::None }
    }

    #[test]
    fn what_is_never_taken_is_told_from_what_was_refused() {
        let port = Ports { dst: 80.into(), ..Ports::default() };
        let mut told = filter(Ok(rule(L4::Tcp(port))), false, true);
        told.flower.as_mut().unwrap().skip_hw = true;
        let mut other = filter(Err(String::new()), false, true);
        (other.kind, other.flower) = ("matchall".to_owned(), None);
        let filters = [
            filter(Ok(rule(L4::Tcp(port))), true, false),
            filter(Ok(rule(L4::Tcp(port))), false, true),
            filter(Ok(rule(L4::Sctp(port))), false, true),
            filter(Err("key 26".to_owned()), false, true),
            filter(Ok(rule(L4::Tcp(port))), false, false),
            told,
            other,
        ];
        let offload = of(&filters);
        assert_eq!(offload.hardware, 1);
        let said: Vec<&str> = offload.software.iter().map(|it| it.why.as_str()).collect();
        assert_eq!(
            said,
            [
                "the hardware has refused it",
                "this hardware has none of it: Only UDP and TCP transports are supported for L4 matching",
                "not in hardware, and not known whether it could be: key 26",
                "no hardware was asked",
                "this hardware has none of it: told to run in software",
            ]
        );
        assert_eq!(offload.software[2].filter, "chain 3 pref 2: key 26");
    }
}
