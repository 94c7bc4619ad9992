//! Pods that shoot at each other, and what became of it: the part that does not ask where the pods or the policies come from.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::probe::{Difference, Kind, Probe, Seen};
use super::station::{self, Order, Shot, Station};
use super::volley::Volley;
use super::witness::Witness;
use crate::patience::patience as on_this_machine;

/// Every pod answers on these, TCP and UDP, IPv4 and IPv6.
pub const PORTS: [u16; 9] = [53, 79, 80, 81, 82, 83, 443, 8080, 8443];
/// And on these, SCTP.
pub(super) const SCTP_PORTS: [u16; 2] = [80, 81];

/// The source ports of probes; all below are served or free.
pub(super) const SOURCES: std::ops::Range<u16> = 10_240..65_000;
/// How long a packet that must not arrive may take to do so.
const QUIET: Duration = Duration::from_millis(300);
/// How long nothing at all may happen while one that must arrive has not. The VM is emulated and shares its processor, so
/// it is silence that counts; who waits for nothing that should come does not wait for this.
const PATIENCE: Duration = Duration::from_secs(20);
/// What should get through and does not is sent anew.
const ATTEMPTS: usize = 3;

/// Who sent a packet, in which protocol, and from which port or with which identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) id: u16,
}

#[derive(Debug)]
pub(super) enum Event {
    Sent(Key),
    /// At the interface of this pod.
    Arrived(Key, usize),
    Answered(Key),
    /// A station could not do what it was told.
    Broken(String),
}

/// How much is asked of the machine at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often data goes there and back on a connection. Once it is established the eSwitch may carry the rest alone.
    pub exchanges: usize,
    /// So many probes are sent at once: more at a time overflow OVS's upcalls, and a SYN that is lost costs a second.
    pub wave: usize,
    /// The next ones do not wait longer than this for those that are late.
    pub late: Duration,
}

/// A pod that takes part.
#[derive(Clone, Debug)]
pub struct Stand {
    /// As messages name it: `NAMESPACE/NAME`.
    pub name: String,
    /// As [`crate::netns`] takes it.
    pub place: String,
    /// IPv4, then IPv6.
    pub addresses: [IpAddr; 2],
}

struct Member {
    station: Station,
    _witness: Witness,
    stand: Stand,
    next: u16,
}

/// See the module.
pub struct Range {
    members: Vec<Member>,
    events: Receiver<Event>,
    pace: Pace,
}

impl Range {
    /// Returns when all listen and all are watched. [`Probe::from`] is a place in this list.
    #[track_caller]
    pub fn start(stands: impl IntoIterator<Item = Stand>, pace: Pace) -> Self {
        let (send, events) = channel();
        let members = stands
            .into_iter()
            .enumerate()
            .map(|(index, stand)| Member {
                station: Station::start(&stand.place, stand.addresses, pace.exchanges, send.clone()),
                _witness: Witness::start(&stand.place, index, send.clone()),
                stand,
                next: SOURCES.start,
            })
            .collect();
        Self { members, events, pace }
    }

    /// IPv4, then IPv6.
    pub fn addresses(&self, index: usize) -> [IpAddr; 2] {
        self.members[index].stand.addresses
    }

    /// That from which the probe is sent.
    pub fn source(&self, probe: Probe) -> IpAddr {
        self.addresses(probe.from)[usize::from(probe.to.is_ipv6())]
    }

    /// Each pod to each other one, both IP versions, all these kinds.
    pub fn all_pairs(&self, kinds: &[Kind]) -> Vec<Probe> {
        let mut probes = Vec::new();
        for from in 0..self.members.len() {
            for receiver in (0..self.members.len()).filter(|it| *it != from) {
                for to in self.addresses(receiver) {
                    probes.extend(kinds.iter().map(|kind| Probe { from, to, kind: *kind }));
                }
            }
        }
        probes
    }

    /// Sends all probes. Returns when each that `wanted` says should get through has done so, or nothing has happened for
    /// `patience` (of the reference machine's), and the others have been silent for a while.
    #[track_caller]
    pub fn shoot(&mut self, probes: &[Probe], wanted: &[bool], patience: Duration) -> Vec<Seen> {
        let [quiet, patience, late] = [QUIET, patience, self.pace.late].map(on_this_machine);
        while self.events.try_recv().is_ok() {}
        let mut volley = Volley::new(probes.len());
        let waves = probes.len().div_ceil(self.pace.wave);
        for wave in 0..waves {
            volley.next_wave();
            let mut orders = vec![Vec::new(); self.members.len()];
            for (index, probe) in probes.iter().enumerate().skip(wave).step_by(waves) {
                let source = self.source(*probe);
                let id = self.next_source(probe.from);
                let key = Key { protocol: station::protocol(probe.kind, source), source, id };
                volley.fire(key, index, wanted[index]);
                orders[probe.from].push(Shot { key, to: probe.to, kind: probe.kind });
            }
            for (member, shots) in self.members.iter().zip(orders) {
                member.station.order(Order::Fire(shots));
            }
            let is_last = wave + 1 == waves;
            volley.follow(&self.events, |volley| {
                let silence = volley.last.elapsed();
                let is_quiet = !is_last || !wanted.contains(&false) || silence >= quiet;
                let (missing, patience) =
                    if is_last { (volley.missing, patience) } else { (volley.missing_of_wave, late) };
                volley.unsent == 0 && is_quiet && (missing == 0 || silence >= patience)
            });
            // Those that are denied would be sent again and again, and make others late; those that are late go on.
            let late = if is_last { HashSet::new() } else { volley.late() };
            for member in &self.members {
                member.station.order(Order::CeaseBut(late.clone()));
            }
        }
        volley.seen
    }

    /// One probe that nothing is known of.
    #[track_caller]
    pub fn see(&mut self, probe: Probe) -> Seen {
        self.shoot(&[probe], &[false], Duration::ZERO)[0]
    }

    /// Probes, and what of it is not as wanted. What should have got through and did not is tried again, more patiently;
    /// what should not have and did is a difference at once.
    #[track_caller]
    pub fn compare(&mut self, probes: &[Probe], wanted: &[bool]) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut left: Vec<(Probe, bool)> = probes.iter().copied().zip(wanted.iter().copied()).collect();
        for attempt in 1..=ATTEMPTS {
            let (probes, wanted): (Vec<Probe>, Vec<bool>) = left.into_iter().unzip();
            left = Vec::new();
            let mut late = Vec::new();
            for ((probe, allowed), seen) in
                probes.iter().zip(&wanted).zip(self.shoot(&probes, &wanted, PATIENCE))
            {
                let (probe, allowed) = (*probe, *allowed);
                if !seen.is_wrong(allowed) {
                    continue;
                }
                let difference = Difference { probe, allowed, seen };
                if allowed && attempt < ATTEMPTS {
                    late.push(self.describe(&difference));
                    left.push((probe, allowed));
                } else {
                    differences.push(difference);
                }
            }
            if left.is_empty() {
                break;
            }
            let some = &late[..late.len().min(4)];
            println!(
                "{} of {} not through in {:?}, again: {some:#?}",
                left.len(),
                probes.len(),
                on_this_machine(PATIENCE)
            );
        }
        differences
    }

    fn next_source(&mut self, member: usize) -> u16 {
        let next = &mut self.members[member].next;
        let id = *next;
        *next = if id + 1 < SOURCES.end { id + 1 } else { SOURCES.start };
        id
    }

    /// For a message: who, to whom, what.
    pub fn describe(&self, difference: &Difference) -> String {
        let Difference { probe, allowed, seen } = difference;
        let name = |index: usize| &self.members[index].stand.name;
        let to = (0..self.members.len())
            .find(|it| self.addresses(*it).contains(&probe.to))
            .map_or_else(|| probe.to.to_string(), |it| format!("{} ({})", name(it), probe.to));
        let should = if *allowed { "should get through" } else { "should not arrive" };
        let arrived =
            seen.arrived.map_or_else(|| "did not arrive".to_owned(), |at| format!("arrived at {}", name(at)));
        let answered = if seen.answered { "was answered" } else { "was not answered" };
        format!("{} -> {to} {}: {should}, {arrived}, {answered}", name(probe.from), probe.kind)
    }
}
