//! A chain's filters, held so that what the kernel forbids or leaves undefined cannot be built: one protocol for each
//! preference (`tcf_chain_tp_find()`), and no two filters of one preference that a packet could meet both. Which of
//! those would win depends on the age of their masks in software and on groups in hardware.

use std::collections::BTreeMap;

use super::key::{Key, Payload, VlanKey};
use super::overlap::{Flat, FlatIndex};
use super::{Pref, Rule};
use crate::openflow::matches::{ETH_ARP, ETH_IPV4, ETH_IPV6};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("preference {pref} holds filters of protocol {has:#06x}, not of {wants:#06x}")]
    Protocol { pref: Pref, has: u16, wants: u16 },
    #[error("in preference {pref} a packet could meet two filters: {first:?} and {second:?}")]
    Overlap { pref: Pref, first: Box<Key>, second: Box<Key> },
}

/// Rules by preference, in an order that does not depend on how they were put in.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(BTreeMap<Pref, Vec<Rule>>);

impl Chain {
    /// In the order in which the kernel asks them.
    pub fn rules(&self) -> impl Iterator<Item = (Pref, &Rule)> {
        self.0.iter().flat_map(|(pref, rules)| rules.iter().map(|rule| (*pref, rule)))
    }

    pub fn rules_mut(&mut self) -> impl Iterator<Item = (Pref, &mut Rule)> {
        self.0.iter_mut().flat_map(|(pref, rules)| rules.iter_mut().map(|rule| (*pref, rule)))
    }

    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Debug, Default)]
pub struct ChainBuilder(BTreeMap<Pref, Level>);

#[derive(Debug)]
struct Level {
    protocol: u16,
    rules: Vec<Rule>,
    index: FlatIndex,
}

impl ChainBuilder {
    /// # Errors
    ///
    /// The rule has no place in this preference. Nothing is changed then.
    pub fn insert(&mut self, pref: Pref, rule: Rule) -> Result<(), ChainError> {
        let wants = rule.key.protocol();
        let level = self.0.entry(pref).or_insert_with(|| Level {
            protocol: wants,
            rules: Vec::new(),
            index: FlatIndex::default(),
        });
        if level.protocol != wants {
            return Err(ChainError::Protocol { pref, has: level.protocol, wants });
        }
        let flat = Flat::of(&rule.key);
        if level.index.meets(&flat) {
            let met = level.rules.iter().find(|it| Flat::of(&it.key).overlaps(&flat));
            let first = met.map_or_else(|| rule.key.clone(), |it| it.key.clone());
            return Err(ChainError::Overlap { pref, first: Box::new(first), second: Box::new(rule.key) });
        }
        level.index.insert(flat);
        level.rules.push(rule);
        Ok(())
    }

    pub fn finish(self) -> Chain {
        let sorted = |mut level: Level| {
            level.rules.sort();
            level.rules
        };
        Chain(self.0.into_iter().map(|(pref, level)| (pref, sorted(level))).collect())
    }
}

const ETH_P_ALL: u16 = 0x0003;
const ETH_P_8021Q: u16 = 0x8100;

impl Key {
    /// The filter's protocol (`tcm_info`): the outermost Ethernet type.
    pub fn protocol(&self) -> u16 {
        match (self.vlan, &self.payload) {
            (VlanKey::Id(_), _) => ETH_P_8021Q,
            (VlanKey::None, Payload::Any) => ETH_P_ALL,
            (VlanKey::None, Payload::Other(other)) => other.get(),
            (VlanKey::None, Payload::Arp) => ETH_ARP,
            (VlanKey::None, Payload::Ipv4(_)) => ETH_IPV4,
            (VlanKey::None, Payload::Ipv6(_)) => ETH_IPV6,
        }
    }
}
