//! What stands on ports: the kernel's dump, as values.

use std::collections::BTreeMap;

use super::{ChainIndex, Pref, Rule};
use crate::ids::IfIndex;

/// The kernel's name of a filter within its (chain, preference).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u32);

/// A filter that stands somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub handle: Handle,
    /// `None`: something that this program does not write, a foreigner's.
    pub rule: Option<Rule>,
    /// The hardware has taken it. A claim of the driver's, made when the filter was written.
    pub in_hw: bool,
}

/// A port's filters, by chain and preference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortFilters {
    pub chains: BTreeMap<ChainIndex, BTreeMap<Pref, Vec<Installed>>>,
}

/// Filters of many ports.
pub type Filters = BTreeMap<IfIndex, PortFilters>;

/// Where filters stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub port: IfIndex,
    pub chain: ChainIndex,
    pub pref: Pref,
}

impl PortFilters {
    /// In the order in which the kernel asks them.
    pub fn chain(&self, chain: ChainIndex) -> impl Iterator<Item = (Pref, &Installed)> {
        let prefs = self.chains.get(&chain).into_iter().flatten();
        prefs.flat_map(|(pref, filters)| filters.iter().map(|filter| (*pref, filter)))
    }

    pub fn insert(&mut self, chain: ChainIndex, pref: Pref, filter: Installed) {
        self.chains.entry(chain).or_default().entry(pref).or_default().push(filter);
    }
}

/// One message to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Add {
        at: Place,
        rule: Rule,
    },
    /// Same key, other actions or another [`Skip`](super::Skip).
    Replace {
        at: Place,
        handle: Handle,
        rule: Rule,
    },
    Delete {
        at: Place,
        handle: Handle,
    },
    /// A whole chain.
    Flush {
        port: IfIndex,
        chain: ChainIndex,
    },
}

impl Change {
    pub fn port(&self) -> IfIndex {
        match self {
            Self::Add { at, .. } | Self::Replace { at, .. } | Self::Delete { at, .. } => at.port,
            Self::Flush { port, .. } => *port,
        }
    }
}
