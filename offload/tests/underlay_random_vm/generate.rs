//! Random policies for the hosts of the stand: few addresses and few ports, so that rules meet each other and the probes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use offload::policy::{
    Action, IcmpKind, Origin, PodPolicy, PortRange, PortSet, PrefixSet, Rule, Rules, Tier, Traffic,
    Transports,
};

use crate::dice::Dice;
use crate::stand::{v4, v6};

/// A rule is the product of its prefixes and its ports; what would be more filters than this is made simpler.
const MOST_FILTERS: usize = 40;

/// Of so many hosts.
pub struct Generator {
    pub dice: Dice,
    pub hosts: usize,
    origin: u64,
}

impl Generator {
    pub fn new(seed: u64, hosts: usize) -> Self {
        Self { dice: Dice(seed), hosts, origin: 0 }
    }

    fn origin(&mut self) -> Origin {
        self.origin += 1;
        Origin(self.origin)
    }

    pub fn policy(&mut self) -> PodPolicy {
        PodPolicy { egress: self.rules(), ingress: self.rules() }
    }

    /// Another one of each policy now and then, and always one.
    pub fn change(&mut self, policies: &mut [PodPolicy]) {
        let certain = self.dice.roll(policies.len());
        for (pod, policy) in policies.iter_mut().enumerate() {
            if pod == certain || self.dice.seldom(4) {
                match self.dice.roll(3) {
                    0 => policy.egress = self.rules(),
                    1 => policy.ingress = self.rules(),
                    _ => *policy = self.policy(),
                }
            }
        }
    }

    fn rules(&mut self) -> Rules {
        let tiers = self.dice.one(&[0, 1, 1, 1, 2, 2, 3]);
        Rules { tiers: (0..tiers).map(|_| self.tier()).collect() }
    }

    fn tier(&mut self) -> Tier {
        let rules = self.dice.one(&[0, 1, 2, 2, 3, 3]);
        let otherwise =
            self.dice.one(&[Action::Deny, Action::Deny, Action::Pass, Action::Pass, Action::Allow]);
        Tier { rules: (0..rules).map(|_| self.rule()).collect(), otherwise, origin: self.origin() }
    }

    fn rule(&mut self) -> Rule {
        let action =
            self.dice.one(&[Action::Allow, Action::Allow, Action::Allow, Action::Deny, Action::Pass]);
        let peers = self.peers();
        let mut traffic = self.traffic();
        if (peers.v4().len() + peers.v6().len()) * filters(&traffic) > MOST_FILTERS {
            traffic = Traffic::Any;
        }
        Rule { action, peers, traffic, origin: self.origin() }
    }

    fn peers(&mut self) -> PrefixSet {
        if self.dice.seldom(5) {
            return PrefixSet::any();
        }
        let versions = self.dice.one(&[&[false][..], &[true], &[false, true], &[false, true]]);
        let mut all = PrefixSet::default();
        for is_ipv6 in versions {
            for _ in 0..=self.dice.roll(2) {
                all = all.union(&self.prefixes(*is_ipv6));
            }
        }
        all
    }

    /// A prefix around a host, sometimes except one within it, of which sometimes one is in again.
    fn prefixes(&mut self, is_ipv6: bool) -> PrefixSet {
        let (most, lengths): (u8, &[u8]) = if is_ipv6 {
            (128, &[0, 64, 123, 124, 126, 127, 128])
        } else {
            (32, &[0, 24, 27, 28, 30, 31, 32])
        };
        let mut length = self.dice.one(lengths);
        let mut set = PrefixSet::from(self.around(is_ipv6, length));
        // Whole address spaces with holes are many prefixes.
        for is_hole in [true, false] {
            if length < most - 9 || length == most || self.dice.seldom(2) {
                break;
            }
            length += 1 + u8::try_from(self.dice.roll(usize::from(most - length))).unwrap();
            let inner = PrefixSet::from(self.around(is_ipv6, length));
            set = if is_hole { set.difference(&inner) } else { set.union(&inner) };
        }
        set
    }

    fn around(&mut self, is_ipv6: bool, length: u8) -> IpNet {
        let host = self.dice.roll(self.hosts);
        if is_ipv6 {
            Ipv6Net::new(v6(host), length).unwrap().trunc().into()
        } else {
            Ipv4Net::new(v4(host), length).unwrap().trunc().into()
        }
    }

    fn traffic(&mut self) -> Traffic {
        if self.dice.seldom(4) {
            return Traffic::Any;
        }
        let mut of = Transports { tcp: self.ports(), udp: self.ports(), ..Transports::default() };
        of.icmp.extend(self.kind(8));
        of.icmp6.extend(self.kind(128));
        // Of these the hardware has none: they, and what stands under them, run in software.
        if self.dice.seldom(20) {
            of.sctp = self.ports();
        }
        if self.dice.seldom(10) {
            of.other.insert(47);
        }
        Traffic::Of(of)
    }

    fn ports(&mut self) -> PortSet {
        let ranges = [
            (80, 80),
            (443, 443),
            (5000, 5000),
            (6500, 6500),
            (80, 443),
            (79, 81),
            (1, 1023),
            (6496, 6511),
            (4096, 8191),
            (0, 65_535),
        ];
        let count = self.dice.one(&[0, 1, 1, 2]);
        (0..count)
            .map(|_| {
                let (first, last) = self.dice.one(&ranges);
                PortRange::new(first, last).unwrap()
            })
            .collect()
    }

    fn kind(&mut self, echo: u8) -> Option<IcmpKind> {
        let kinds = [
            None,
            Some(IcmpKind::Any),
            Some(IcmpKind::Type(echo)),
            Some(IcmpKind::TypeCode(echo, 0)),
            Some(IcmpKind::TypeCode(echo, 1)),
            Some(IcmpKind::Type(1)),
        ];
        self.dice.one(&kinds)
    }
}

fn filters(traffic: &Traffic) -> usize {
    match traffic {
        Traffic::Any => 1,
        Traffic::Of(of) => {
            let ports = |set: &PortSet| set.blocks().count();
            ports(&of.tcp) + ports(&of.udp) + ports(&of.sctp) + of.icmp.len() + of.other.len()
        }
    }
}

// === smaller ones ===

/// What a policy set could be instead, each a little simpler; the largest steps first.
pub fn smaller(policies: &[PodPolicy]) -> Vec<Vec<PodPolicy>> {
    let mut all = Vec::new();
    for (pod, policy) in policies.iter().enumerate() {
        let mut put = |simpler: PodPolicy| {
            if simpler != *policy {
                let mut set = policies.to_vec();
                set[pod] = simpler;
                all.push(set);
            }
        };
        put(PodPolicy::default());
        put(PodPolicy { egress: Rules::default(), ..policy.clone() });
        put(PodPolicy { ingress: Rules::default(), ..policy.clone() });
        for egress in smaller_rules(&policy.egress) {
            put(PodPolicy { egress, ..policy.clone() });
        }
        for ingress in smaller_rules(&policy.ingress) {
            put(PodPolicy { ingress, ..policy.clone() });
        }
    }
    // The sizes are not equal: a whole policy less is worth more than a port less.
    all.sort_by_key(|set| serde_json::to_string(set).unwrap().len());
    all
}

fn smaller_rules(rules: &Rules) -> Vec<Rules> {
    let mut all = Vec::new();
    for (at, tier) in rules.tiers.iter().enumerate() {
        let mut put = |simpler: Option<Tier>| {
            let mut tiers = rules.tiers.clone();
            match simpler {
                Some(simpler) => tiers[at] = simpler,
                None => drop(tiers.remove(at)),
            }
            all.push(Rules { tiers });
        };
        put(None);
        for (number, rule) in tier.rules.iter().enumerate() {
            let mut fewer = tier.clone();
            fewer.rules.remove(number);
            put(Some(fewer));
            for simpler in smaller_rule(rule) {
                let mut other = tier.clone();
                other.rules[number] = simpler;
                put(Some(other));
            }
        }
    }
    all
}

fn smaller_rule(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    let mut put = |peers: PrefixSet, traffic: Traffic| {
        let simpler = Rule { peers, traffic, ..rule.clone() };
        if simpler != *rule {
            all.push(simpler);
        }
    };
    put(PrefixSet::any(), rule.traffic.clone());
    let nets: Vec<IpNet> = rule.peers.clone().into();
    for left in [
        nets.iter().copied().step_by(2).collect::<Vec<_>>(),
        nets.iter().copied().skip(1).step_by(2).collect(),
    ] {
        if !left.is_empty() {
            put(left.into(), rule.traffic.clone());
        }
    }
    put(rule.peers.clone(), Traffic::Any);
    if let Traffic::Of(of) = &rule.traffic {
        let none = Transports::default();
        let parts = [
            Transports { tcp: of.tcp.clone(), ..none.clone() },
            Transports { udp: of.udp.clone(), ..none.clone() },
            Transports { icmp: of.icmp.clone(), ..none.clone() },
            Transports { icmp6: of.icmp6.clone(), ..none },
        ];
        for part in parts {
            if !Traffic::Of(part.clone()).is_empty() {
                put(rule.peers.clone(), Traffic::Of(part));
            }
        }
    }
    all
}

/// The hosts' addresses, for those who read a policy.
pub fn legend(hosts: usize) -> Vec<(usize, [IpAddr; 2])> {
    (0..hosts).map(|host| (host, [Ipv4Addr::into(v4(host)), Ipv6Addr::into(v6(host))])).collect()
}
