//! Waiting until nobody holds what was deleted. What this can know is in the module above.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Conntrack, Deleted, message};
use crate::ids::CtZone;
use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::wire::Malformed;
use crate::tuple::Tuple;

/// Between two looks. Each is a dump of all connections, so it is longer where that takes long.
const PAUSE: Duration = Duration::from_millis(50);
/// At most this part of the time is spent with dumps.
const DUTY: u32 = 4;

/// Whether the hardware has let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing that was deleted is held by anybody. This was certain so long after the deletion; the hardware let go
    /// before that, by up to a sweep and a pause.
    Complete { after: Duration },
    /// So long after the deletion entries are still held that are in no list: ours, or those of other connections.
    Unproven { after: Duration, held: usize },
}

impl Release {
    pub fn after(self) -> Duration {
        match self {
            Self::Complete { after } | Self::Unproven { after, .. } => after,
        }
    }

    pub fn is_complete(self) -> bool {
        matches!(self, Self::Complete { .. })
    }
}

type Key = (Option<CtZone>, Tuple, u32);

/// Of all that is counted, what was not in both dumps.
fn at_most(before: &HashSet<Key>, counted: u32, after: &HashSet<Key>) -> usize {
    let listed = before.intersection(after).count();
    usize::try_from(counted).unwrap_or(usize::MAX).saturating_sub(listed)
}

impl Conntrack {
    fn listed(&mut self) -> Result<HashSet<Key>> {
        let keys = self.dump(format_args!("list all connections"), None, |entry| {
            Some((entry.zone, entry.orig, entry.id))
        })?;
        Ok(keys.into_iter().collect())
    }

    /// How many entries the kernel keeps in this network namespace, with those that no list has any more.
    pub fn kept(&mut self) -> Result<u32> {
        let operation = format_args!("count the connections");
        let request = Request::new(message::GET_STATS, 0, message::HEADER.to_vec());
        let answer = self.socket.request(operation, &request)?;
        let first = answer.payloads.first().ok_or_else(|| Malformed::new("an empty answer"));
        first
            .and_then(|payload| message::kept(payload))
            .map_err(|source| Error::Malformed { operation: operation.to_string(), source })
    }

    /// How many entries are held that are in no list: deleted but not let go, or not yet listed. Never too small.
    pub fn held(&mut self) -> Result<usize> {
        let before = self.listed()?;
        let counted = self.kept()?;
        Ok(at_most(&before, counted, &self.listed()?))
    }

    /// Waits until nobody holds what was deleted, the hardware included; at most `patience`, counted from the deletion.
    /// [`super::SWEEP`] three times is enough on a machine that is not overloaded, and whose other connections rest.
    pub fn wait_until_released(&mut self, deleted: Deleted, patience: Duration) -> Result<Release> {
        if deleted.deleted + deleted.gone == 0 {
            return Ok(Release::Complete { after: Duration::ZERO });
        }
        let mut before = self.listed()?;
        loop {
            let counted = self.kept()?;
            let look = Instant::now();
            let now = self.listed()?;
            let took = look.elapsed();
            let held = at_most(&before, counted, &now);
            let after = deleted.at.elapsed();
            if held == 0 {
                return Ok(Release::Complete { after });
            }
            if after >= patience {
                return Ok(Release::Unproven { after, held });
            }
            before = now;
            sleep(PAUSE.max(took * DUTY).min(patience.saturating_sub(after)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::{L4, TCP};

    fn keys(ids: &[u32]) -> HashSet<Key> {
        let ip = std::net::IpAddr::from([10, 0, 0, 1]);
        let orig = Tuple { src: ip, dst: ip, proto: TCP, l4: L4::Ports { src: 1, dst: 2 } };
        ids.iter().map(|id| (CtZone::new(7), orig, *id)).collect()
    }

    #[test]
    fn only_what_was_listed_before_and_after_the_count_is_surely_counted() {
        assert_eq!(at_most(&keys(&[1, 2]), 2, &keys(&[1, 2])), 0);
        // 3 was deleted and is held.
        assert_eq!(at_most(&keys(&[1, 2]), 3, &keys(&[1, 2])), 1);
        // 2 went between the count and the second dump, or before the count: then a 3 that is held took its place.
        assert_eq!(at_most(&keys(&[1, 2]), 2, &keys(&[1])), 1);
        // 4 came meanwhile; it must not stand for a 3 that is held.
        assert_eq!(at_most(&keys(&[1, 2]), 3, &keys(&[1, 2, 4])), 1);
        assert_eq!(at_most(&keys(&[]), 0, &keys(&[])), 0);
    }
}
