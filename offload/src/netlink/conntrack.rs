//! Conntrack: the entries of a zone, deleting some of them, and when the hardware has let go of what was deleted.
//!
//! Owns the encoding of ctnetlink. Decides nothing, and deletes only entries that the caller has seen: by zone, tuple of
//! the first packet, and id, so that a later connection with the same tuple is not hit. (The id is a hash of the tuple and
//! of where the entry is in memory. A successor that got the same memory has it, too; it is denied like the one before.)
//! There is no "delete the zone": a kernel before 6.8 would ignore the zone and delete every connection of the machine. For
//! the same reason a dump is filtered here once more, although the kernel's own filter (since 6.8) makes it short.
//!
//! A dump is no snapshot: an entry that is made meanwhile may be missing. So first put the new rules in force, then dump
//! and delete.
//!
//! # When the hardware has let go
//!
//! `act_ct` hands an entry to a flow table, and that to the NIC's driver. Who deletes the entry takes it out of the list
//! at once, and software does not find it any more. The flow table, though, only notices in its next sweep, up to
//! [`SWEEP`] later; it then has a worker take the connection out of the hardware. Until then the hardware forwards as
//! before. The sweep after that one drops the flow table's reference, and the entry is freed. What can be seen of this:
//!
//! | signal | |
//! |---|---|
//! | event `DESTROY` | sent when the entry leaves the list, so too early; and only for entries made while somebody listened |
//! | list of dying entries (`IPCTNL_MSG_CT_GET_DYING`) | since 5.19 only those whose event could not be delivered |
//! | status `IPS_OFFLOAD`, `IPS_HW_OFFLOAD` | of no use: an entry that was deleted cannot be read |
//! | `/proc/net/stat/nf_flowtable` | work that is queued at this moment; says nothing of what was not yet swept |
//! | count of entries (`IPCTNL_MSG_CT_GET_STATS`) | goes down only when the last reference to an entry is gone |
//!
//! So what is counted and cannot be listed is deleted and still held, by a flow table or by a packet on its way, or is
//! not yet listed. [`Conntrack::held`] gives a number that is never too small: it counts between two dumps and takes as
//! listed only what was in both (it can be deceived by one that meanwhile went, was freed, and came again in the same
//! memory). At zero nothing that was deleted before is held by anybody, and the flow table lets go
//! of an entry only after the driver's call to remove it has returned. mlx5 removes its rules within that call, unless a
//! packet that goes to software holds the connection at that moment. This is exact about order and late in time: the
//! hardware has let go at least one sweep before, so [`Release::Complete`] says "after at most", and the reports err on the
//! safe side.
//!
//! Other connections that come and go count, too. On a NIC that is busy zero may not come before the caller's patience
//! ends: [`Release::Unproven`] then says how many entries are still held, ours or not. What is known by then is only that
//! the sweeps that would have let go are over.
//!
//! Sources: Linux 6.12 `net/netfilter/nf_conntrack_netlink.c`, `nf_conntrack_core.c` (`nf_conntrack_free`),
//! `nf_conntrack_ecache.c`, `nf_flow_table_core.c` (`nf_flow_offload_gc_step`), `nf_flow_table_offload.c`
//! (`flow_offload_work_del`), `net/sched/act_ct.c`, `drivers/net/ethernet/mellanox/mlx5/core/en/tc_ct.c`. Seen on simnic,
//! never on a BlueField.

mod events;
mod message;
mod release;

use std::time::{Duration, Instant};

pub use events::{NewConnection, NewConnections};
pub use release::Release;

use super::error::{Errno, Error, Result};
use super::request::Request;
use super::socket::{Acknowledge, NetlinkSocket, Outcome, Protocol};
use super::wire::Malformed;
use crate::ids::CtZone;
use crate::tuple::Tuple;

/// How long a flow table waits between two sweeps over its connections (`HZ`).
pub const SWEEP: Duration = Duration::from_secs(1);

/// An entry of the connection tracking table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// `None`: the kernel's default zone, 0.
    pub zone: Option<CtZone>,
    /// Of the packet that began it.
    pub orig: Tuple,
    /// Of an answer. Differs from `orig` reversed where addresses are translated.
    pub reply: Tuple,
    pub mark: u32,
    pub status: Status,
    /// The kernel's name for this very entry.
    pub id: u32,
    /// Until it is forgotten, if no packet comes. The kernel does not tell of one that a flow table has.
    pub timeout: Option<Duration>,
    /// When it was made, since the Unix epoch. Only with `net.netfilter.nf_conntrack_timestamp=1`.
    pub began: Option<Duration>,
}

/// `CTA_STATUS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u32);

impl Status {
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// Long enough there not to be thrown out first when the table is full.
    pub const ASSURED: Self = Self(1 << 2);
    pub const CONFIRMED: Self = Self(1 << 3);
    /// In a flow table.
    pub const OFFLOAD: Self = Self(1 << 14);
    /// A driver has taken it, in at least one direction.
    pub const HW_OFFLOAD: Self = Self(1 << 15);

    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub deleted: usize,
    /// Were not there any more. A flow table may hold them all the same.
    pub gone: usize,
    /// When the kernel had done it all.
    pub at: Instant,
}

/// A socket to ctnetlink. It sees the connections of the network namespace that it was opened in.
pub struct Conntrack {
    socket: NetlinkSocket,
}

fn malformed(operation: std::fmt::Arguments<'_>) -> impl FnOnce(Malformed) -> Error {
    let operation = operation.to_string();
    move |source| Error::Malformed { operation, source }
}

impl Conntrack {
    pub fn open() -> Result<Self> {
        NetlinkSocket::open(Protocol::Netfilter).map(|socket| Self { socket })
    }

    /// Of all entries, or those of a zone, what `keep` makes of them, in no order. The kernel walks its whole table either
    /// way, so one call for all zones costs less than one for each; and the same entry may come twice.
    pub fn select<T>(
        &mut self,
        zone: Option<CtZone>,
        keep: impl FnMut(Entry) -> Option<T>,
    ) -> Result<Vec<T>> {
        match zone {
            Some(zone) => self.dump(format_args!("list the connections of zone {zone}"), Some(zone), keep),
            None => self.dump(format_args!("list all connections"), None, keep),
        }
    }

    fn dump<T>(
        &mut self,
        operation: std::fmt::Arguments<'_>,
        zone: Option<CtZone>,
        mut keep: impl FnMut(Entry) -> Option<T>,
    ) -> Result<Vec<T>> {
        let payload = message::dump(zone).map_err(malformed(operation))?;
        self.socket.dump(operation, &Request::new(message::GET, 0, payload), |payload| {
            let entry = message::entry(payload)?;
            // A kernel before 6.8 lists all zones, whatever is asked.
            Ok(if zone.is_none() || entry.zone == zone { keep(entry) } else { None })
        })
    }

    /// The entries of a zone, of both IP versions, in order.
    pub fn entries(&mut self, zone: CtZone) -> Result<Vec<Entry>> {
        let operation = format_args!("list the connections of zone {zone}");
        let mut entries = self.dump(operation, Some(zone), Some)?;
        // A dump that goes on in the middle of a bucket may tell some of it twice.
        entries.sort_unstable_by_key(|entry| (entry.orig, entry.id));
        entries.dedup_by_key(|entry| (entry.orig, entry.id));
        Ok(entries)
    }

    /// How many entries a zone has.
    pub fn count(&mut self, zone: CtZone) -> Result<usize> {
        self.entries(zone).map(|entries| entries.len())
    }

    /// Deletes these very entries. What is not there any more, or has made room for another connection with the same
    /// tuple, is counted and is no error.
    ///
    /// # Errors
    /// The first refusal of the kernel; everything else was tried all the same. After other errors it is unknown what was
    /// deleted: list again.
    pub fn delete(&mut self, entries: &[Entry]) -> Result<Deleted> {
        let operation = format_args!("delete {} connections", entries.len());
        let requests = entries
            .iter()
            .map(|entry| message::delete(entry).map(|payload| Request::new(message::DELETE, 0, payload)))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(malformed(operation))?;
        let outcomes = self.socket.batch(operation, &requests, Acknowledge::Last)?;
        let mut done = Deleted { deleted: 0, gone: 0, at: Instant::now() };
        for (entry, outcome) in entries.iter().zip(outcomes) {
            match outcome {
                Outcome::Done { .. } => done.deleted += 1,
                Outcome::Refused { errno: Errno::ENOENT, .. } => done.gone += 1,
                Outcome::Refused { errno, extack } => {
                    let operation = format!("delete connection {}", entry.orig);
                    return Err(Error::Refused { operation, errno, extack });
                }
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
