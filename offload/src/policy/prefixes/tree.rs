//! Prefixes of one version of IP in a persistent tree: a copy costs nothing, and one that differs in an address shares
//! all but the way there. Comparing such two costs as little, as what they share is passed over.

use imbl::OrdSet;
use ipnet::{Ipv4Net, Ipv6Net};

/// Sorted, none inside another and no two that make up one.
pub type Tree<N> = OrdSet<N>;

/// A prefix of either version. Of two that begin with the same address the longer one sorts last.
pub trait Net: Copy + Ord {
    fn holds(&self, other: &Self) -> bool;
    /// Twice as large.
    fn whole(&self) -> Option<Self>;
    fn halves(&self) -> Option<[Self; 2]>;
    /// The last of those that it holds, whichever there are.
    fn last(&self) -> Self;
}

macro_rules! net {
    ($net:ty) => {
        impl Net for $net {
            fn holds(&self, other: &Self) -> bool {
                self.contains(other)
            }

            fn whole(&self) -> Option<Self> {
                self.supernet()
            }

            fn halves(&self) -> Option<[Self; 2]> {
                let mut halves = self.subnets(self.prefix_len().checked_add(1)?).ok()?;
                Some([halves.next()?, halves.next()?])
            }

            fn last(&self) -> Self {
                self.broadcast().into()
            }
        }
    };
}

net!(Ipv4Net);
net!(Ipv6Net);

/// The one that holds it, or is it.
pub fn holder<N: Net>(tree: &Tree<N>, net: &N) -> Option<N> {
    // Most of what is asked for is there as it is, and finding that out takes no walk from neighbour to neighbour.
    if tree.contains(net) {
        return Some(*net);
    }
    tree.get_prev(net).filter(|it| it.holds(net)).copied()
}

/// Puts it in the place of all that it holds, and makes it one with its other half as long as that is there.
pub fn insert<N: Net>(tree: &mut Tree<N>, mut net: N) {
    if holder(tree, &net).is_some() {
        return;
    }
    // One address holds nothing.
    if net.last() != net {
        let held: Vec<N> = tree.range(net..=net.last()).copied().collect();
        for it in held {
            tree.remove(&it);
        }
    }
    while let Some(whole) = net.whole() {
        let other = whole.halves().and_then(|halves| halves.into_iter().find(|it| *it != net));
        let Some(other) = other.filter(|it| tree.contains(it)) else { break };
        tree.remove(&other);
        net = whole;
    }
    tree.insert(net);
}

/// Takes it out of the one that holds it: halves that until it is one of the halves.
pub fn remove<N: Net>(tree: &mut Tree<N>, net: &N) {
    let Some(mut around) = holder(tree, net) else { return };
    tree.remove(&around);
    while around != *net {
        let Some([left, right]) = around.halves() else { break };
        let (kept, next) = if left.holds(net) { (right, left) } else { (left, right) };
        tree.insert(kept);
        around = next;
    }
}
