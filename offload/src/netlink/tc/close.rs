//! Closing a port: everything that enters it is dropped, in hardware where the hardware will.

use super::filter::{Filter, filters, remove_filter};
use super::key::PROTOCOL_ALL;
use super::qdisc::ensure_request;
use super::{
    PARENT_INGRESS_FILTERS, RTM_NEWTFILTER, TCA_CHAIN, TCA_KIND, TCA_OPTIONS, filter::info, flower, tcmsg,
};
use crate::flower::{Actions, ChainIndex, Cookie, End, Key, Pref, Rule, Skip};
use crate::ids::IfIndex;
use crate::netlink::error::{Errno, Error, Result};
use crate::netlink::request::{Request, flags};
use crate::netlink::socket::{Acknowledge, NetlinkSocket, Outcome};
use crate::netlink::wire::Writer;

/// What closing a port did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// It was closed before.
    Already,
    /// It is closed now. The warning is the hardware's reason to leave it to software.
    Now { warning: Option<String> },
}

/// Adds the filter; the kernel chooses its handle. Fails if there is a filter that closes already.
fn request(ifindex: IfIndex, mark: Cookie, skip: Skip) -> Result<Request> {
    let rule = Rule { key: Key::default(), actions: Actions::drop().cookie(mark), skip };
    let header = tcmsg(ifindex, 0, PARENT_INGRESS_FILTERS, info(Pref::FIRST.0.get(), PROTOCOL_ALL));
    let mut writer = Writer::new(&header);
    writer.put_text(TCA_KIND, flower::KIND).put_u32(TCA_CHAIN, 0);
    writer.nest(TCA_OPTIONS, |w| flower::write(&rule, w));
    let payload = super::finish(format_args!("close network device {ifindex}"), writer)?;
    Ok(Request::new(RTM_NEWTFILTER, flags::CREATE | flags::EXCL, payload))
}

fn is_ours(filter: &Filter, mark: &Cookie) -> bool {
    filter.flower.as_ref().and_then(|flower| flower.actions.first()).is_some_and(|action| action.bears(mark))
}

/// Ours, first of all, for every packet, and a drop.
fn closes(filter: &Filter, mark: &Cookie) -> bool {
    is_ours(filter, mark)
        && filter.block.is_none()
        && (filter.chain, filter.pref, filter.protocol) == (ChainIndex(0), Pref::FIRST.0.get(), PROTOCOL_ALL)
        && filter.flower.as_ref().and_then(|flower| flower.rule.as_ref().ok()).is_some_and(|rule| {
            rule.key == Key::default() && rule.actions.steps.is_empty() && rule.actions.end == End::Drop
        })
}

/// Whether our closing filter is among a device's.
pub fn is_closed_by(filters: &[Filter], mark: &Cookie) -> bool {
    filters.iter().any(|filter| closes(filter, mark))
}

/// Whether our closing filter stands on the device.
pub fn is_closed(socket: &mut NetlinkSocket, ifindex: IfIndex, mark: &Cookie) -> Result<bool> {
    Ok(is_closed_by(&filters(socket, ifindex)?, mark))
}

/// Closes one port; see [`close_many`].
pub fn close(socket: &mut NetlinkSocket, ifindex: IfIndex, mark: Cookie, skip: Skip) -> Result<Closed> {
    let mut results = close_many(socket, &[ifindex], mark, skip)?;
    results.pop().map_or_else(
        || Err(Error::Foreign { operation: operation(ifindex), found: "no outcome".to_owned() }),
        |(_, result)| result,
    )
}

fn operation(ifindex: IfIndex) -> String {
    format!("close network device {ifindex}")
}

/// Closes ports with few system calls: an ingress hook where there is none, and the filter that drops. One result per
/// port, in the same order. Ports that are closed stay as they are.
pub fn close_many(
    socket: &mut NetlinkSocket,
    ports: &[IfIndex],
    mark: Cookie,
    skip: Skip,
) -> Result<Vec<(IfIndex, Result<Closed>)>> {
    let mut requests = Vec::with_capacity(2 * ports.len());
    for port in ports {
        requests.extend([ensure_request(*port), request(*port, mark, skip)?]);
    }
    let outcomes = socket.batch(format_args!("close {} ports", ports.len()), &requests, Acknowledge::Each)?;
    let mut results = Vec::with_capacity(ports.len());
    for (port, pair) in ports.iter().zip(outcomes.chunks_exact(2)) {
        let result = match pair {
            [hook, filter] => judge(socket, *port, hook, filter, &mark),
            _ => continue,
        };
        results.push((*port, result));
    }
    Ok(results)
}

fn judge(
    socket: &mut NetlinkSocket,
    port: IfIndex,
    hook: &Outcome,
    filter: &Outcome,
    mark: &Cookie,
) -> Result<Closed> {
    let refused = |errno: &Errno, extack: &Option<String>| Error::Refused {
        operation: operation(port),
        errno: *errno,
        extack: extack.clone(),
    };
    match (hook, filter) {
        (_, Outcome::Done { warning }) => Ok(Closed::Now { warning: warning.clone() }),
        // The filter's failure only follows from the hook's.
        (Outcome::Refused { errno, extack }, Outcome::Refused { .. }) if *errno != Errno::EEXIST => {
            Err(refused(errno, extack))
        }
        // The kernel says EEXIST for a twin, EINVAL or EEXIST for a stranger in our place.
        (_, Outcome::Refused { errno, extack }) => {
            let found = filters(socket, port)?;
            if found.iter().any(|filter| closes(filter, mark)) {
                return Ok(Closed::Already);
            }
            let stranger = found
                .iter()
                .find(|filter| filter.chain == ChainIndex(0) && filter.pref == Pref::FIRST.0.get());
            match stranger {
                Some(filter) => Err(Error::Foreign {
                    operation: operation(port),
                    found: format!(
                        "chain 0 pref 1 is taken by a filter that is not ours ({}, protocol {:#06x}, handle {:#x})",
                        filter.kind, filter.protocol, filter.handle
                    ),
                }),
                None => Err(refused(errno, extack)),
            }
        }
    }
}

/// Removes our closing filter and nothing else. Returns whether there was one.
///
/// The ingress hook stays, even if empty: it bears no mark, and OVS, which may have made it, does not expect it to go.
pub fn open(socket: &mut NetlinkSocket, ifindex: IfIndex, mark: &Cookie) -> Result<bool> {
    let mut removed = false;
    for filter in filters(socket, ifindex)?.iter().filter(|filter| is_ours(filter, mark)) {
        removed |= remove_filter(socket, filter)?;
    }
    Ok(removed)
}
