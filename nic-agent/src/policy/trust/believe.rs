//! Which of a pod's addresses are believed.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use offload::policy::PrefixSet;

use super::Trust;
use crate::policy::model::{Confirmed, ObjectName, Pod};
use crate::policy::report::Disbelief;

/// Sorted; and what is not believed.
type Judged = (Vec<IpAddr>, Vec<Disbelief>);

impl Trust {
    /// The pod with the addresses that are believed, and whether these are others than before. `None`: it is not there.
    pub(super) fn believe(&mut self, name: &ObjectName) -> Option<(Pod, bool)> {
        let said = &self.pods.get(name)?.pod;
        let (ips, disbelief) = self.judge(said);
        let mirror = said.mirror && !self.allows_static_pods(&said.node);
        let known = self.pods.get_mut(name)?;
        let is_other = known.ips != ips;
        known.ips.clone_from(&ips);
        let before = std::mem::replace(&mut known.disbelief, disbelief.clone());
        let pod = Pod { ips, mirror, unreadable: None, ..known.pod.clone() };
        self.complain(name, &before, &disbelief);
        Some((pod, is_other))
    }

    fn judge(&self, pod: &Pod) -> Judged {
        let mut doubts = Vec::new();
        let refused = pod.mirror && !self.allows_static_pods(&pod.node);
        if refused && !pod.host_network {
            doubts.push(Disbelief::Mirror { node: pod.node.clone() });
        }
        // A finished pod's addresses may be another's. What a node calls its static pods is nobody else's business, unless
        // an operator says so.
        if refused || pod.finished {
            return (Vec::new(), doubts);
        }
        doubts.extend(unreadable(&pod.node, pod.unreadable.as_deref()));
        let mut ips = if pod.host_network {
            let confirmed = self.confirmed(&pod.node);
            let host = confirmed.as_deref().map(|it| &it.host);
            within(&pod.ips, host, &mut doubts, || Disbelief::NotTheNodes { node: pod.node.clone() })
        } else if pod.node == self.node {
            let held = self.held.get(&pod.uid).cloned().unwrap_or_default();
            doubts.extend(not_the_nics(pod, &held));
            self.of_nic(pod, &held, &mut doubts)
        } else if let Some(ips) = self.said_by_nic(pod, &mut doubts) {
            doubts.extend(not_the_nics(pod, &ips));
            ips
        } else if self.with_nic.contains_key(&pod.node) {
            doubts.extend(not_the_nics(pod, &[]));
            Vec::new()
        } else {
            let confirmed = self.confirmed(&pod.node);
            let ranges = confirmed.as_deref().map(|it| &it.pods);
            within(&pod.ips, ranges, &mut doubts, || Disbelief::NotConfirmed { node: pod.node.clone() })
        };
        ips.sort_unstable();
        ips.dedup();
        doubts.sort();
        doubts.dedup();
        (ips, doubts)
    }

    /// `None`: no NIC holds it, as far as NICs say.
    fn said_by_nic(&self, pod: &Pod, doubts: &mut Vec<Disbelief>) -> Option<Vec<IpAddr>> {
        let names = self.attached.get(&pod.name)?;
        let of_uid = names.iter().filter_map(|it| self.attachments.get(it)).filter(|it| it.uid == pod.uid);
        let (mut ips, mut is_held) = (Vec::new(), false);
        for attachment in of_uid {
            if attachment.node != pod.node {
                doubts.push(Disbelief::OtherNode { node: attachment.node.clone() });
                continue;
            }
            is_held = true;
            doubts.extend(unreadable(&attachment.node, attachment.unreadable.as_deref()));
            let confirmed = self.confirmed(&pod.node);
            let is_confined = pod.mirror || confirmed.is_some();
            if !is_confined {
                ips.extend(&attachment.ips);
                continue;
            }
            let ranges = confirmed.as_deref().map(|it| &it.pods);
            let why = || Disbelief::NotConfirmed { node: pod.node.clone() };
            ips.extend(within(&attachment.ips, ranges, doubts, why));
        }
        is_held.then_some(ips)
    }

    /// Of the Node that has this name now. What was said of one before it confirms nothing to it, and nothing to its NIC;
    /// `None`: nothing was said.
    fn confirmed(&self, node: &str) -> Option<Cow<'_, Confirmed>> {
        let confirmed = self.confirmed.get(node)?;
        let is_of_it = self.nodes.get(node).is_some_and(|uid| *uid == confirmed.of);
        Some(if is_of_it { Cow::Borrowed(confirmed) } else { Cow::Owned(Confirmed::default()) })
    }

    /// Of all NICs of the node. A node without one has no static pods that count.
    fn allows_static_pods(&self, node: &str) -> bool {
        self.with_nic.get(node).is_some_and(|it| it.allowing == it.count)
    }

    /// What this NIC holds itself is so; but where a static pod may be is confirmed.
    fn of_nic(&self, pod: &Pod, held: &[IpAddr], doubts: &mut Vec<Disbelief>) -> Vec<IpAddr> {
        if !pod.mirror {
            return held.to_vec();
        }
        let confirmed = self.confirmed(&pod.node);
        let ranges = confirmed.as_deref().map(|it| &it.pods);
        within(held, ranges, doubts, || Disbelief::NotConfirmed { node: pod.node.clone() })
    }
}

fn unreadable(node: &Arc<str>, found: Option<&str>) -> Option<Disbelief> {
    found.map(|_| Disbelief::Unreadable { node: Some(node.clone()) })
}

fn within(
    ips: &[IpAddr],
    confirmed: Option<&PrefixSet>,
    doubts: &mut Vec<Disbelief>,
    why: impl Fn() -> Disbelief,
) -> Vec<IpAddr> {
    let is_confirmed = |ip: &&IpAddr| confirmed.is_some_and(|it| it.contains(**ip));
    let believed: Vec<IpAddr> = ips.iter().filter(is_confirmed).copied().collect();
    if believed.len() != ips.len() {
        doubts.push(why());
    }
    believed
}

/// Its node says addresses that its NIC does not.
fn not_the_nics(pod: &Pod, held: &[IpAddr]) -> Option<Disbelief> {
    let is_other = pod.ips.iter().any(|ip| !held.contains(ip));
    is_other.then(|| Disbelief::NotTheNics { node: pod.node.clone() })
}
