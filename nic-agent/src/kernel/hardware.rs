//! Which of a device's TC filters the eSwitch runs, and why it does not run the others.
//!
//! The reason that the driver gave went to whoever wrote the filter, and that was OVS. So it is predicted anew: what this
//! kind of hardware never takes is told apart from what it has refused although it could ([`checker`]). Where nobody can
//! predict, that is what is said.

use std::collections::{BTreeMap, BTreeSet};

use offload::checker::{self, Foreseen, Profile, Reason, Why};
use offload::flower::{Actions, ChainIndex, End, Place, Pref, Rule, Skip, Step};
use offload::ids::IfIndex;
use offload::netlink::tc::{Filter, Flower, Part};

use super::eswitches::Eswitches;
use super::loss::Count;
use super::view::{FilterId, Flows, InSoftware, Offload};

const LOST: &str = "the hardware has lost it without a word";

/// Filters of other kinds than flower are none of OVS's flows.
fn flowers(filters: &[Filter]) -> impl Iterator<Item = (&Filter, &Flower)> {
    filters.iter().filter_map(|filter| Some((filter, filter.flower.as_ref()?)))
}

pub fn id(filter: &Filter) -> FilterId {
    FilterId { ifindex: filter.ifindex, chain: filter.chain, pref: filter.pref, handle: filter.handle }
}

/// Others are not made anew with their next packet.
fn flows_of_ovs(filters: &[Filter]) -> impl Iterator<Item = (&Filter, &Flower)> {
    flowers(filters).filter(|(_, flower)| flower.is_of_open_vswitch())
}

/// By which a loss is noticed.
pub fn counts(filters: &[Filter]) -> BTreeMap<FilterId, Count> {
    flows_of_ovs(filters)
        .filter(|(filter, flower)| filter.chain == ChainIndex(0) && flower.is_offloaded())
        .map(|(filter, flower)| {
            let statistics = flower.statistics();
            let (hardware, software) = (statistics.hardware.packets, statistics.software().packets);
            (id(filter), Count { hardware, software })
        })
        .collect()
}

/// What the NIC is known by.
#[derive(Debug, Default)]
pub struct Hardware {
    /// Which of its ports can send to which.
    pub eswitches: Eswitches,
    /// What it has taken that our rules cannot say.
    taken: BTreeSet<Part>,
}

impl Hardware {
    /// `filters`: all that there are, of all its devices.
    pub fn new<'a>(eswitches: Eswitches, filters: impl Iterator<Item = &'a Filter>) -> Self {
        let taken = filters.filter_map(|filter| filter.flower.as_ref()).filter(|it| it.is_offloaded());
        let taken = taken.filter_map(|it| it.partial.as_ref()).flat_map(|it| it.beyond.iter().cloned());
        Self { eswitches, taken: taken.collect() }
    }

    /// Adds what OVS's flows say of the hardware to `flows`, in which `lost` is not looked at.
    pub fn sort(&self, filters: &[Filter], flows: &mut Flows) {
        for (filter, flower) in flows_of_ovs(filters) {
            match self.standing(filter, flower) {
                Standing::Hardware => drop(flows.accepted.insert(id(filter))),
                Standing::Software(Why::Refused) => drop(flows.refused.insert(id(filter))),
                Standing::Software(_) | Standing::Unasked | Standing::Unforeseen(_) => {}
            }
        }
    }

    pub fn of(&self, filters: &[Filter], flows: &Flows) -> Offload {
        let mut offload = Offload::default();
        for (filter, flower) in flowers(filters) {
            let why = match self.standing(filter, flower) {
                Standing::Hardware if flows.lost.contains(&id(filter)) => LOST.to_owned(),
                Standing::Hardware => {
                    offload.hardware += 1;
                    continue;
                }
                Standing::Software(why) => why.to_string(),
                Standing::Unasked => "no hardware was asked".to_owned(),
                Standing::Unforeseen(what) => {
                    format!("not in hardware, and not known whether it could be: {what}")
                }
            };
            offload.software.push(InSoftware { filter: words(filter, flower), why });
        }
        offload
    }

    fn standing(&self, filter: &Filter, flower: &Flower) -> Standing {
        if flower.is_offloaded() {
            return Standing::Hardware;
        }
        if flower.skip_hw {
            return Standing::Software(Why::Expected(Reason::Told));
        }
        if !flower.not_in_hw {
            return Standing::Unasked;
        }
        let foreseen = match (&flower.rule, &flower.partial, Pref::new(filter.pref)) {
            (Ok(rule), _, Some(pref)) => {
                let at = Place { port: filter.ifindex, chain: filter.chain, pref };
                self.check(rule, at).map_or_else(Foreseen::Refused, |()| Foreseen::Taken)
            }
            (Err(_), Some(partial), _) => checker::foresee(partial, &Profile::MLX5, &self.taken),
            (Err(what), None, _) => return Standing::Unforeseen(what.clone()),
            (Ok(_), _, None) => return Standing::Unforeseen("preference 0".to_owned()),
        };
        match foreseen {
            Foreseen::Taken => Standing::Software(Why::Refused),
            Foreseen::Refused(reason) => Standing::Software(Why::Expected(reason)),
            Foreseen::Unknown(part) => Standing::Unforeseen(part.to_string()),
        }
    }

    fn check(&self, rule: &Rule, at: Place) -> Result<(), Reason> {
        checker::check(&Rule { skip: Skip::None, ..rule.clone() }, at, &Profile::MLX5)?;
        if outputs(&rule.actions).all(|to| self.eswitches.are_one(at.port, to)) {
            Ok(())
        } else {
            Err(Reason::OtherSwitch)
        }
    }
}

fn outputs(actions: &Actions) -> impl Iterator<Item = IfIndex> {
    let copies = actions.steps.iter().filter_map(|step| match step {
        Step::Mirror(to) => Some(*to),
        Step::VlanPush(_) | Step::VlanPop | Step::Ct(_) | Step::CtClear => None,
    });
    copies.chain(match actions.end {
        End::Redirect(to) => Some(to),
        End::Drop | End::Trap | End::Goto(_) => None,
    })
}

fn words(filter: &Filter, flower: &Flower) -> String {
    let what = match (&flower.rule, &flower.partial) {
        (Ok(rule), _) => format!("{:?}", rule.key),
        (Err(beyond), Some(partial)) => format!("{:?}, {beyond}", partial.key),
        (Err(beyond), None) => beyond.clone(),
    };
    format!("chain {} pref {}: {what}", filter.chain, filter.pref)
}

enum Standing {
    Hardware,
    Software(Why),
    Unasked,
    /// Not taken, and for all that is known of it, it may have been refused or be none of what the hardware does.
    Unforeseen(String),
}

#[cfg(test)]
mod tests {
    use offload::flower::{IpKey, Key, L4, Payload, Ports};
    use offload::netlink::tc::{Action, Partial, Statistics};

    use super::*;

    fn filter(rule: Result<Rule, String>, in_hw: bool, not_in_hw: bool) -> Filter {
        let action = Action {
            kind: "gact".to_owned(),
            verdict: None,
            meaning: None,
            cookie: Some(vec![7; 16]),
            statistics: Statistics::default(),
            hardware_stats: None,
            in_hw_count: None,
        };
        let flower = Flower {
            rule,
            partial: None,
            actions: vec![action],
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
        let mut elsewhere = rule(L4::Tcp(port));
        elsewhere.actions.end = End::Redirect(IfIndex(9));
        let beyond = |parts: &[Part], in_hw| {
            let mut filter = filter(Err("beyond".to_owned()), in_hw, !in_hw);
            let partial = Partial { key: Key::default(), beyond: parts.iter().cloned().collect() };
            filter.flower.as_mut().unwrap().partial = Some(partial);
            filter
        };
        let mut ours = filter(Ok(rule(L4::Tcp(port))), false, true);
        ours.flower.as_mut().unwrap().actions[0].cookie = Some(vec![7; 12]);
        let filters = [
            filter(Ok(rule(L4::Tcp(port))), true, false),
            filter(Ok(rule(L4::Tcp(port))), false, true),
            filter(Ok(rule(L4::Sctp(port))), false, true),
            filter(Err("key 26".to_owned()), false, true),
            filter(Ok(rule(L4::Tcp(port))), false, false),
            told,
            other,
            filter(Ok(elsewhere), false, true),
            beyond(&[Part::Tunnel], false),
            beyond(&[Part::Arp], false),
            beyond(&[Part::TunnelOptions], false),
            beyond(&[Part::TunnelFlags], true),
            beyond(&[Part::TunnelFlags], false),
            ours,
        ];
        let filters: Vec<Filter> =
            (1..).zip(filters).map(|(handle, filter)| Filter { handle, ..filter }).collect();
        let hardware = Hardware::new(Eswitches::of(&[(7, "a"), (8, "a"), (9, "b")]), filters.iter());
        let mut flows = Flows::default();
        hardware.sort(&filters, &mut flows);
        let handles = |ids: &BTreeSet<FilterId>| ids.iter().map(|it| it.handle).collect::<Vec<_>>();
        assert_eq!((handles(&flows.accepted), handles(&flows.refused)), (vec![1, 12], vec![2, 9, 13]));
        let offload = hardware.of(&filters, &flows);
        assert_eq!(offload.hardware, 2);
        let said: Vec<&str> = offload.software.iter().map(|it| it.why.as_str()).collect();
        assert_eq!(
            said,
            [
                "the hardware has refused it",
                "this hardware has none of it: Only UDP and TCP transports are supported for L4 matching",
                "not in hardware, and not known whether it could be: key 26",
                "no hardware was asked",
                "this hardware has none of it: told to run in software",
                "this hardware has none of it: devices are not on same switch HW, can't offload forwarding",
                "the hardware has refused it",
                "this hardware has none of it: Unsupported key: fields of ARP",
                "not in hardware, and not known whether it could be: the tunnel's options",
                "the hardware has refused it",
                "the hardware has refused it",
            ]
        );
        assert_eq!(offload.software[2].filter, "chain 3 pref 2: key 26");
        flows.lost = flows.accepted.clone();
        let lost = hardware.of(&filters, &flows);
        assert_eq!((lost.hardware, lost.software[0].why.as_str()), (0, LOST));
    }
}
