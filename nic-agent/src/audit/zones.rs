//! What holds in each pod's conntrack zone: the rules in the tables, and those that are on their way into them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use offload::cut;
use offload::ids::CtZone;
use offload::policy::PodPolicy;
use offload::tuple::Tuple;

use crate::attachment::AttachmentId;

/// Sets of rules of one pod that may be on their way. Where the tables cannot be written for long, policies change on.
const MOST_COMING: usize = 16;

/// What the tables are to say of a pod.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub zone: CtZone,
    pub key: AttachmentId,
    /// The pod's name, for the log.
    pub pod: String,
    /// All that it may send from.
    pub addresses: Vec<IpAddr>,
    pub policy: Arc<PodPolicy>,
}

/// What the tables say of a pod.
#[derive(Debug, Clone)]
pub struct ZoneRules {
    pub key: AttachmentId,
    pub pod: String,
    pub addresses: Vec<IpAddr>,
    pub in_force: Arc<PodPolicy>,
    /// Offered to Open vSwitch, which has not said whether it took them: whose they are, and what they say. Mostly none;
    /// several after failures.
    pub coming: Vec<(Vec<IpAddr>, Arc<PodPolicy>)>,
    /// Grows with each change of the tables that concerns a pod.
    pub version: u64,
    /// When they were in the tables.
    pub since: Instant,
}

pub type Zones = BTreeMap<CtZone, Arc<ZoneRules>>;

impl ZoneRules {
    /// Does every set of rules that the packet can have met deny the connection that began so?
    pub fn denies(&self, orig: &Tuple) -> bool {
        self.all().all(|(addresses, policy)| cut::is_denied(addresses, policy, orig))
    }

    /// Is there nothing that could be denied?
    pub fn is_open(&self) -> bool {
        self.all().any(|(_, policy)| policy.egress.is_open() && policy.ingress.is_open())
    }

    fn all(&self) -> impl Iterator<Item = (&[IpAddr], &PodPolicy)> {
        let in_force = std::iter::once((&self.addresses, &self.in_force));
        let coming = self.coming.iter().map(|(addresses, policy)| (addresses, policy));
        in_force.chain(coming).map(|(addresses, policy)| (addresses.as_slice(), &**policy))
    }
}

/// Returns whether anything changed. A pod whose rules were never in the tables is not judged until they are.
pub fn coming(zones: &mut Zones, wanted: &[Wanted]) -> bool {
    let mut is_news = false;
    for wanted in wanted {
        let Some(rules) = zones.get_mut(&wanted.zone).filter(|rules| rules.key == wanted.key) else {
            continue;
        };
        let is_known = |(addresses, policy): (&Vec<IpAddr>, &Arc<PodPolicy>)| {
            *addresses == wanted.addresses && *policy == wanted.policy
        };
        // Of other addresses, too: what the pod begins from a new one is not what others begin with it.
        let mut before = rules.coming.iter().map(|(addresses, policy)| (addresses, policy));
        if !is_known((&rules.addresses, &rules.in_force)) && !before.any(is_known) {
            let rules = Arc::make_mut(rules);
            if rules.coming.len() >= MOST_COMING {
                // For all of them stands one that denies nothing, until it is known again what is in the tables.
                rules.coming = vec![(Vec::new(), Arc::default())];
            }
            rules.coming.push((wanted.addresses.clone(), wanted.policy.clone()));
            is_news = true;
        }
    }
    is_news
}

/// Returns the attachments whose rules changed, or may have. `version` grows if a pod has other rules, or other addresses
/// that they apply to, and if it has those before again after others were offered.
pub fn in_tables(zones: &mut Zones, wanted: Vec<Wanted>, version: &mut u64) -> Vec<AttachmentId> {
    let next = *version + 1;
    let mut changed = Vec::new();
    for wanted in wanted {
        let Wanted { zone, key, pod, addresses, policy } = wanted;
        let before = zones.get(&zone).filter(|rules| rules.key == key);
        // Where others were on their way, they may have been in the tables meanwhile, and connections came in by them.
        if before.is_some_and(|rules| {
            rules.in_force == policy && rules.addresses == addresses && rules.coming.is_empty()
        }) {
            continue;
        }
        changed.push(key.clone());
        let rules = ZoneRules {
            key,
            pod,
            addresses,
            in_force: policy,
            coming: Vec::new(),
            version: next,
            since: Instant::now(),
        };
        zones.insert(zone, Arc::new(rules));
    }
    if !changed.is_empty() {
        *version = next;
    }
    changed
}

#[cfg(test)]
mod tests {
    use offload::policy::{Action, Origin, PrefixSet, Rule, Rules, Tier, Traffic};
    use offload::tuple::{L4, UDP};

    use super::*;
    use crate::claim::SandboxKey;
    use crate::enforcement;

    fn zone(number: u16) -> CtZone {
        CtZone::new(number).unwrap()
    }

    fn wanted(policy: &Arc<PodPolicy>, sandbox: &str) -> Wanted {
        Wanted {
            zone: zone(7),
            key: SandboxKey { sandbox: sandbox.to_owned(), interface: "eth0".to_owned() }.into(),
            pod: "a/b".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            policy: policy.clone(),
        }
    }

    fn from(peer: &str) -> Arc<PodPolicy> {
        let peers: PrefixSet = [peer.parse::<ipnet::IpNet>().unwrap()].into_iter().collect();
        let rule = Rule { action: Action::Allow, peers, traffic: Traffic::Any, origin: Origin(1) };
        let tier = Tier { rules: vec![rule], otherwise: Action::Deny, origin: Origin(2) };
        Arc::new(PodPolicy { ingress: Rules { tiers: vec![tier] }, ..PodPolicy::default() })
    }

    fn datagram(src: &str) -> Tuple {
        let (src, dst) = (src.parse().unwrap(), "10.0.0.1".parse().unwrap());
        Tuple { src, dst, proto: UDP, l4: L4::Ports { src: 4000, dst: 53 } }
    }

    #[test]
    fn while_rules_are_on_their_way_only_what_both_deny_is_denied() {
        let (a, b) = (from("10.0.0.2/32"), from("10.0.0.3/32"));
        let (mut zones, mut version) = (Zones::new(), 0);
        assert!(!coming(&mut zones, &[wanted(&a, "s")]), "never in the tables: not judged");
        assert_eq!(in_tables(&mut zones, vec![wanted(&a, "s")], &mut version).len(), 1);
        let denied = |zones: &Zones| {
            ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|src| zones[&zone(7)].denies(&datagram(src)))
        };
        assert_eq!(denied(&zones), [false, true, true]);
        assert!(coming(&mut zones, &[wanted(&b, "s")]));
        assert!(!coming(&mut zones, &[wanted(&b, "s")]), "no news");
        assert_eq!(denied(&zones), [false, false, true]);
        // Nobody knows whether it was taken, and it was called off: what came in by it must be looked for.
        assert_eq!(in_tables(&mut zones, vec![wanted(&a, "s")], &mut version).len(), 1);
        assert_eq!((denied(&zones), version), ([false, true, true], 2));
        assert!(in_tables(&mut zones, vec![wanted(&a, "s")], &mut version).is_empty());
        coming(&mut zones, &[wanted(&b, "s")]);
        assert_eq!(in_tables(&mut zones, vec![wanted(&b, "s")], &mut version).len(), 1);
        assert_eq!((denied(&zones), version), ([true, false, true], 3));
    }

    #[test]
    fn what_a_pod_begins_from_an_address_that_is_on_its_way_is_not_taken_for_anothers() {
        // Nobody may begin anything with the pod, and it may begin what it likes.
        let policy = Arc::new(PodPolicy { ingress: enforcement::closed().ingress, ..PodPolicy::default() });
        let (mut zones, mut version) = (Zones::new(), 0);
        in_tables(&mut zones, vec![wanted(&policy, "s")], &mut version);
        let new = "10.0.0.7".parse().unwrap();
        let begun = Tuple { src: new, dst: "10.0.0.2".parse().unwrap(), ..datagram("10.0.0.7") };
        assert!(zones[&zone(7)].denies(&begun), "a stranger's");
        let moved = Wanted { addresses: vec!["10.0.0.1".parse().unwrap(), new], ..wanted(&policy, "s") };
        assert!(coming(&mut zones, std::slice::from_ref(&moved)));
        assert!(!coming(&mut zones, std::slice::from_ref(&moved)), "no news");
        assert!(!zones[&zone(7)].denies(&begun));
        assert!(zones[&zone(7)].denies(&datagram("10.0.0.2")));
        in_tables(&mut zones, vec![moved], &mut version);
        assert!(!zones[&zone(7)].denies(&begun) && zones[&zone(7)].coming.is_empty());
    }

    #[test]
    fn what_is_on_its_way_for_ever_does_not_pile_up() {
        let (mut zones, mut version) = (Zones::new(), 0);
        let of = |number: usize| wanted(&from(&format!("10.1.0.{number}/32")), "s");
        in_tables(&mut zones, vec![of(200)], &mut version);
        for number in 0..100 {
            assert!(coming(&mut zones, &[of(number)]));
            // Each of them may be what the tables have.
            assert!((0..=number).all(|it| !zones[&zone(7)].denies(&datagram(&format!("10.1.0.{it}")))));
            assert!(zones[&zone(7)].coming.len() <= MOST_COMING + 1);
        }
        in_tables(&mut zones, vec![of(99)], &mut version);
        assert!(zones[&zone(7)].denies(&datagram("10.1.0.98")) && !zones[&zone(7)].is_open());
    }

    #[test]
    fn a_zone_that_is_anothers_begins_again() {
        let policy = from("10.0.0.2/32");
        let (mut zones, mut version) = (Zones::new(), 0);
        in_tables(&mut zones, vec![wanted(&policy, "s")], &mut version);
        assert!(in_tables(&mut zones, vec![wanted(&policy, "s")], &mut version).is_empty());
        assert!(!coming(&mut zones, &[wanted(&from("10.0.0.9/32"), "t")]), "another pod's");
        in_tables(&mut zones, vec![wanted(&policy, "t")], &mut version);
        assert_eq!((zones[&zone(7)].version, zones[&zone(7)].key.to_string()), (2, "t/eth0".to_owned()));
        let moved = Wanted { addresses: vec!["10.0.0.9".parse().unwrap()], ..wanted(&policy, "t") };
        in_tables(&mut zones, vec![moved], &mut version);
        assert_eq!(zones[&zone(7)].version, 3, "the same rules, for other addresses");
        assert!(!zones[&zone(7)].is_open());
        in_tables(&mut zones, vec![wanted(&Arc::default(), "t")], &mut version);
        assert!(zones[&zone(7)].is_open());
        in_tables(&mut zones, vec![wanted(&Arc::new(enforcement::closed()), "t")], &mut version);
        assert!(!zones[&zone(7)].is_open());
    }
}
