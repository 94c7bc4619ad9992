//! Which connections a change of policy ends: those whose first packet the new policy denies.
//!
//! Established packets pass whatever the rules say, so a policy that became tighter reaches old connections only through
//! this, and so does one that a busy switch let in by rules that were no longer in force: their entries are deleted ([`Conntrack::delete`](crate::netlink::conntrack::Conntrack::delete)), and the next
//! packet is a new connection's. Delete only after the new rules are in force, or the old ones let the connection begin
//! again.
//!
//! An entry is judged by its original tuple alone. In a pod's own zone nothing is translated; if an entry's reply says
//! otherwise, what the pod sent or was sent is still in the original tuple. Whether an entry was there as the answer to
//! another (`+rel`) is not asked: no helper is ever attached in our zones, and an ICMP error has no entry of its own.
//!
//! An answer that was under way when its connection was cut begins one of its own, the other way round. Mostly policy
//! allows that one, as the pod may send; what the other side goes on sending would be its answers, and nothing was cut.
//! So what was cut is remembered, and its answers are cut as well ([`is_answer`]), until none comes any more.
//!
//! Pure, and as small as the evaluator that it asks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::netlink::conntrack::Entry;
use crate::policy::{Direction, Packet, PodPolicy, decide};
use crate::tuple::Tuple;

/// Of the entries of a pod's own zone, those to delete. `addresses` are the pod's.
pub fn cut<'a>(
    addresses: &[IpAddr],
    policy: &PodPolicy,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Vec<&'a Entry> {
    entries.into_iter().filter(|entry| is_denied(addresses, policy, &entry.orig)).collect()
}

/// Does this policy deny the connection that began so? `addresses` are the pod's, its link-local one among them.
///
/// What the pod's address began is egress, all else ingress, whatever address it goes to (a group's, for instance). What
/// goes from the pod to itself crosses the boundary both ways, and both must allow it.
pub fn is_denied(addresses: &[IpAddr], policy: &PodPolicy, orig: &Tuple) -> bool {
    let packet = orig.packet();
    let sends = addresses.contains(&packet.src);
    let receives = !sends || addresses.contains(&packet.dst);
    (sends && denies(policy, Direction::Egress, &packet))
        || (receives && denies(policy, Direction::Ingress, &packet))
}

/// Was the connection that began so begun by an answer to one that was cut? `cut` are the reply tuples of those.
pub fn is_answer(cut: &BTreeSet<Tuple>, orig: &Tuple) -> bool {
    cut.contains(orig)
}

/// Of the entries of a zone that several pods share, those to delete. `policy_of` knows the pods of this zone.
///
/// A connection between two of them needs the sender's egress and the receiver's ingress; of one with the world outside,
/// only the pod's side is asked. An entry of which no side is known is left alone.
pub fn cut_shared<'a, 'p>(
    policy_of: impl Fn(IpAddr) -> Option<&'p PodPolicy>,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Vec<&'a Entry> {
    let denied = |entry: &&Entry| {
        let packet = entry.orig.packet();
        let side =
            |address, direction| policy_of(address).is_some_and(|policy| denies(policy, direction, &packet));
        side(packet.src, Direction::Egress) || side(packet.dst, Direction::Ingress)
    };
    entries.into_iter().filter(denied).collect()
}

fn denies(policy: &PodPolicy, direction: Direction, packet: &Packet) -> bool {
    !decide(policy.rules(direction), direction, packet).allowed
}

#[cfg(test)]
mod tests;
