//! The underlay's plan, applied: each part of it, what the hardware made of it, and what follows from that.
//!
//! Blocking. Writes filters and `clsact` qdiscs of the ports that it is given, and deletes only what bears our mark. What
//! fails is reported and not tried again here: the next call dumps and plans anew.

use std::collections::{BTreeMap, BTreeSet};

mod loss;

use loss::Counts;

use crate::checker::{InSoftware, Mismatch, Profile, compare, in_software, place, recover, settle, withdraw};
use crate::flower::{Change, Filters, Handle, Installed, NextChain, Place, PortFilters, Pref};
use crate::ids::IfIndex;
use crate::netlink::Result;
use crate::netlink::socket::NetlinkSocket;
use crate::netlink::tc::{self, Reasons, Refusal};
use crate::underlay::{Plan, Program, is_ours, plan};

/// Rounds of repair in one call. A chain is settled after as many rounds as it has preferences that overlap.
const MAX_ROUNDS: usize = 64;

/// What a call did, and how things stand.
#[derive(Debug, Default)]
pub struct Report {
    /// Changes that the kernel made.
    pub changes: usize,
    /// Of them, those that moved filters between hardware and software.
    pub moved: usize,
    /// What the kernel did not do.
    pub refusals: Vec<Refusal>,
    /// What the hardware said when it left a filter to software.
    pub warnings: Vec<(Place, String)>,
    /// Ours that run in software.
    pub software: Vec<InSoftware>,
    pub mismatches: Vec<Mismatch>,
    /// The hardware had lost rules; all of them were written anew.
    pub lost: bool,
}

/// The ports of one NIC.
pub struct Session {
    socket: NetlinkSocket,
    profile: Profile,
    /// Ports that once were wanted: they are looked at until nothing of ours stands there.
    ports: BTreeSet<IfIndex>,
    counts: Counts,
    lost: bool,
}

impl Session {
    pub fn new(socket: NetlinkSocket, profile: Profile) -> Self {
        Self { socket, profile, ports: BTreeSet::new(), counts: Counts::default(), lost: false }
    }

    /// Looks at these ports, too, from now on: what an earlier run of the agent may have left there goes.
    pub fn adopt(&mut self, ports: impl IntoIterator<Item = IfIndex>) {
        self.ports.extend(ports);
    }

    /// Makes the ports what `wanted` says.
    ///
    /// # Errors
    ///
    /// The session itself failed. What was done so far stands; no step of a plan leaves a port open.
    pub fn sync(&mut self, mut wanted: Program) -> Result<Report> {
        place(&mut wanted, &self.profile);
        self.ports.extend(wanted.ports.keys());
        for port in wanted.ports.keys() {
            tc::ensure_clsact(&mut self.socket, *port)?;
        }
        let mut report = Report::default();
        let mut observed = self.observe()?;
        report.lost = std::mem::take(&mut self.lost);
        if report.lost {
            tracing::warn!("the hardware has lost rules that it had taken: all are written anew");
            report.moved += self.apply(&withdraw(&observed), &observed, &mut report)?;
            observed = self.observe()?;
        }
        let Plan { build, flip, clean } = plan(&wanted, &observed);
        for part in [build, flip, clean] {
            if !part.is_empty() {
                report.changes += self.apply(&part, &observed, &mut report)?;
                observed = self.observe()?;
                observed = self.settle(observed, &mut report)?;
            }
        }
        // What the hardware refused some time ago, once each call.
        observed = self.settle(observed, &mut report)?;
        let offers = recover(&observed, &self.profile);
        if !offers.is_empty() {
            report.moved += self.apply(&offers, &observed, &mut report)?;
            observed = self.observe()?;
            observed = self.settle(observed, &mut report)?;
        }
        report.software = in_software(&observed, &self.profile);
        report.mismatches = compare(&observed, &self.profile);
        self.ports.retain(|port| wanted.ports.contains_key(port) || holds_ours(&observed, *port));
        Ok(report)
    }

    fn settle(&mut self, mut observed: Filters, report: &mut Report) -> Result<Filters> {
        for _ in 0..MAX_ROUNDS {
            let changes = settle(&observed, &self.profile);
            if changes.is_empty() {
                break;
            }
            report.moved += self.apply(&changes, &observed, report)?;
            observed = self.observe()?;
        }
        Ok(observed)
    }

    /// What stands on the ports.
    pub fn observe(&mut self) -> Result<Filters> {
        let (mut observed, mut counts) = (Filters::new(), Counts::default());
        for port in &self.ports {
            observed.insert(*port, observe_port(&mut self.socket, *port, &mut counts)?);
        }
        self.lost |= counts.grew_since(&self.counts);
        self.counts = counts;
        Ok(observed)
    }

    fn apply(&mut self, changes: &[Change], observed: &Filters, report: &mut Report) -> Result<usize> {
        let mut handles = Handles::new(observed);
        let messages: Vec<tc::Change<'_>> =
            changes.iter().filter_map(|change| message(change, &mut handles)).collect();
        let outcomes = tc::apply(&mut self.socket, &messages, Reasons::Ask)?;
        let mut done = 0;
        for (change, outcome) in changes.iter().zip(outcomes) {
            match outcome {
                Ok(tc::Done { warning }) => {
                    done += 1;
                    if let (Change::Add { at, .. } | Change::Replace { at, .. }, Some(text)) =
                        (change, warning)
                    {
                        report.warnings.push((*at, text));
                    }
                }
                // Somebody was faster.
                Err(refusal)
                    if refusal.is_gone()
                        && matches!(change, Change::Delete { .. } | Change::Flush { .. }) => {}
                Err(refusal) => report.refusals.push(*refusal),
            }
        }
        Ok(done)
    }
}

fn holds_ours(observed: &Filters, port: IfIndex) -> bool {
    let chains = observed.get(&port).into_iter().flat_map(|filters| filters.chains.values());
    let mut filters = chains.flat_map(BTreeMap::values).flatten();
    filters.any(|filter| filter.rule.as_ref().is_some_and(is_ours))
}

fn observe_port(socket: &mut NetlinkSocket, port: IfIndex, counts: &mut Counts) -> Result<PortFilters> {
    let mut filters = PortFilters::default();
    for filter in tc::filters(socket, port)? {
        let Some(pref) = Pref::new(filter.pref) else { continue };
        let in_hw = filter.flower.as_ref().is_some_and(tc::Flower::is_offloaded);
        counts.note(port, pref, &filter);
        // A shared block is not the port's own: whatever stands there is a foreigner's.
        let rule = filter.flower.filter(|_| filter.block.is_none()).and_then(|flower| flower.rule.ok());
        filters.insert(filter.chain, pref, Installed { handle: Handle(filter.handle), rule, in_hw });
    }
    Ok(filters)
}

/// Handles are ours to choose: the next one of a (chain, preference).
struct Handles(BTreeMap<Place, u32>);

impl Handles {
    fn new(observed: &Filters) -> Self {
        let mut highest = BTreeMap::new();
        for (port, filters) in observed {
            for chain in filters.chains.keys() {
                for (pref, filter) in filters.chain(*chain) {
                    let last = highest.entry(Place { port: *port, chain: *chain, pref }).or_insert(0);
                    *last = filter.handle.0.max(*last);
                }
            }
        }
        Self(highest)
    }

    fn next(&mut self, at: Place) -> u32 {
        let last = self.0.entry(at).or_insert(0);
        *last = last.saturating_add(1);
        *last
    }
}

/// `None` cannot be: a handle of 0 stands for a whole preference, and chain 0 is never flushed.
fn message<'a>(change: &'a Change, handles: &mut Handles) -> Option<tc::Change<'a>> {
    let place = |at: &Place, handle: u32| {
        let handle = tc::Handle::new(handle)?;
        Some(tc::Place { ifindex: at.port, chain: at.chain, pref: at.pref, handle })
    };
    Some(match change {
        Change::Add { at, rule } => tc::Change::Add { place: place(at, handles.next(*at))?, rule },
        Change::Replace { at, handle, rule } => tc::Change::Replace { place: place(at, handle.0)?, rule },
        Change::Delete { at, handle } => tc::Change::Delete { place: place(at, handle.0)? },
        Change::Flush { port, chain } => {
            tc::Change::Flush { ifindex: *port, chain: NextChain::new(chain.0)? }
        }
    })
}
