//! A kernel that takes changes as `cls_flower.c` does, with hardware that takes, refuses and is full as it is told.

use std::collections::BTreeMap;

use crate::checker::{Profile, check};
use crate::flower::{ChainIndex, Change, End, Filters, Handle, Installed, Place, Rule, Skip};

/// Whether the hardware takes a rule that it could take.
pub type Whim = Box<dyn Fn(&Rule, Place) -> bool>;

pub struct Kernel {
    pub filters: Filters,
    whim: Whim,
    next: u32,
}

impl Kernel {
    pub fn new() -> Self {
        Self::with(Box::new(|_, _| true))
    }

    pub fn with(whim: Whim) -> Self {
        Self { filters: BTreeMap::new(), whim, next: 1 }
    }

    pub fn whim(&mut self, whim: Whim) {
        self.whim = whim;
    }

    fn offer(&self, rule: &Rule, at: Place) -> bool {
        rule.skip != Skip::Hardware && check(rule, at, &Profile::MLX5).is_ok() && (self.whim)(rule, at)
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Add { at, rule } => {
                let in_hw = self.offer(rule, *at);
                let level = self.filters.entry(at.port).or_default().chains.entry(at.chain).or_default();
                let level = level.entry(at.pref).or_default();
                for other in level.iter().filter_map(|it| it.rule.as_ref()) {
                    assert_eq!(other.key.protocol(), rule.key.protocol(), "one protocol at {at:?}");
                    assert!(!other.key.overlaps(&rule.key), "{:?} and {:?} at {at:?}", other.key, rule.key);
                }
                level.push(Installed { handle: Handle(self.next), rule: Some(rule.clone()), in_hw });
                self.next += 1;
            }
            Change::Replace { at, handle, rule } => {
                let in_hw = self.offer(rule, *at);
                let filter = self.find(*at, *handle);
                let old = filter.rule.as_ref().expect("only what is ours is replaced");
                assert_eq!(old.key, rule.key, "a replaced filter keeps its key");
                assert!(old != rule || in_hw || !filter.in_hw, "nothing is replaced for nothing");
                (filter.rule, filter.in_hw) = (Some(rule.clone()), in_hw);
            }
            Change::Delete { at, handle } => {
                let filter = self.find(*at, *handle);
                assert!(
                    filter.rule.as_ref().is_some_and(crate::underlay::is_ours),
                    "{filter:?} is a foreigner's"
                );
                let port = self.filters.get_mut(&at.port).unwrap();
                let chain = port.chains.get_mut(&at.chain).unwrap();
                let level = chain.get_mut(&at.pref).unwrap();
                level.retain(|it| it.handle != *handle);
                if level.is_empty() {
                    chain.remove(&at.pref);
                }
                if chain.is_empty() {
                    port.chains.remove(&at.chain);
                }
            }
            Change::Flush { port, chain } => {
                assert!(!self.is_used(*port, *chain), "{chain} of {port} is flushed while it is led to");
                self.filters.get_mut(port).unwrap().chains.remove(chain).expect("it is there");
            }
        }
    }

    fn find(&mut self, at: Place, handle: Handle) -> &mut Installed {
        let chains = &mut self.filters.get_mut(&at.port).expect("a port").chains;
        let level =
            chains.get_mut(&at.chain).and_then(|chain| chain.get_mut(&at.pref)).expect("a preference");
        level.iter_mut().find(|it| it.handle == handle).expect("a filter")
    }

    /// Does a chain that packets come to lead to it?
    fn is_used(&self, port: crate::ids::IfIndex, chain: ChainIndex) -> bool {
        let filters = &self.filters[&port];
        let (mut seen, mut ahead) = (vec![], vec![ChainIndex(0)]);
        while let Some(next) = ahead.pop() {
            if !seen.contains(&next) {
                seen.push(next);
                ahead.extend(filters.chain(next).filter_map(|(_, it)| match it.rule.as_ref()?.actions.end {
                    End::Goto(next) => Some(next.index()),
                    _ => None,
                }));
            }
        }
        seen.contains(&chain)
    }
}
