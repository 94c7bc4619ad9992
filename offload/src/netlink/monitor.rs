//! Notifications: that something about links, TC or devlink ports changed.
//!
//! Meant for a thread of its own. An event only says where to look again: whoever acts on it dumps and compares. What was
//! lost, or could not be read, is an [`Event::Overrun`]: then everything is to be looked at again.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::devlink::{DeviceHandle, Devlink, PortHandle, notified};
use super::error::{Error, Result};
use super::frame::{Frame, Frames};
use super::generic;
use super::socket::{NetlinkSocket, Protocol};
use super::wire::{Malformed, u32_at};
use crate::ids::IfIndex;

const RTNLGRP_LINK: u32 = 1;
pub(super) const RTNLGRP_TC: u32 = 4;
/// `TCM_IFINDEX_MAGIC_BLOCK`.
const MAGIC_BLOCK: u32 = 0xffff_ffff;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A device appeared, changed or went.
    Link { ifindex: IfIndex, gone: bool },
    /// A qdisc, chain or filter of the device.
    Tc { ifindex: IfIndex },
    /// A filter of a shared block.
    TcBlock { block: u32 },
    /// A devlink device, or one of its ports.
    Devlink { device: DeviceHandle, port: Option<PortHandle> },
    /// Events were lost.
    Overrun,
}

/// Sockets that listen. Events are kept by the kernel from [`Monitor::open`] on, so open it before the first dump.
pub struct Monitor {
    route: NetlinkSocket,
    /// Not there on a kernel without devlink.
    devlink: Option<NetlinkSocket>,
}

impl Monitor {
    /// Listens in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        let route = NetlinkSocket::open(Protocol::Route)?;
        route.join(RTNLGRP_LINK)?;
        route.join(RTNLGRP_TC)?;
        let group = match Devlink::open() {
            Ok(devlink) => devlink.config_group(),
            Err(Error::NoFamily { .. }) => None,
            Err(error) => return Err(error),
        };
        let devlink = match group {
            Some(group) => {
                let socket = generic::open()?;
                socket.join(group)?;
                Some(socket)
            }
            None => None,
        };
        Ok(Self { route, devlink })
    }

    /// Waits for events, at most for `patience`; an empty answer means that nothing happened. Runs of equal events come
    /// as one.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Event>> {
        let (route_ready, devlink_ready) = self.poll(patience)?;
        let mut events = Vec::new();
        if route_ready {
            read(&mut self.route, route_event, &mut events)?;
        }
        if let (true, Some(socket)) = (devlink_ready, &mut self.devlink) {
            read(socket, devlink_event, &mut events)?;
        }
        events.dedup();
        Ok(events)
    }

    fn poll(&self, patience: Duration) -> Result<(bool, bool)> {
        let sockets: Vec<_> = std::iter::once(&self.route).chain(&self.devlink).collect();
        let mut ready = ready(&sockets, patience)?.into_iter();
        Ok((ready.next().unwrap_or(false), ready.next().unwrap_or(false)))
    }
}

/// Which of the sockets have something to read.
fn ready(sockets: &[&NetlinkSocket], patience: Duration) -> Result<Vec<bool>> {
    let mut sockets: Vec<_> = sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut sockets, timeout) {
        // A signal: as if nothing happened.
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => {
            let operation = "wait for netlink notifications".to_owned();
            return Err(Error::Socket { operation, source: errno.into() });
        }
    }
    // POLLERR announces ENOBUFS.
    Ok(sockets.iter().map(|socket| socket.revents().is_some_and(|events| !events.is_empty())).collect())
}

type Decoded<E> = std::result::Result<Option<E>, Malformed>;
type Decode = fn(u16, &[u8]) -> Decoded<Event>;

/// One socket that listens to groups it has joined; whoever has it says what its messages mean.
pub(super) struct Listener(NetlinkSocket);

impl Listener {
    pub fn new(socket: NetlinkSocket) -> Self {
        Self(socket)
    }

    /// The events of the next datagram; none if it did not come within `patience`. What is lost or cannot be read is told
    /// as `lost`.
    pub fn wait<E>(
        &mut self,
        patience: Duration,
        decode: impl FnMut(Frame<'_>) -> Decoded<E>,
        lost: impl Fn() -> E,
    ) -> Result<Vec<E>> {
        let mut events = Vec::new();
        if ready(&[&self.0], patience)?.first() == Some(&true) {
            read_frames(&mut self.0, decode, lost, &mut events)?;
        }
        Ok(events)
    }
}

/// Reads one datagram.
fn read(socket: &mut NetlinkSocket, decode: Decode, events: &mut Vec<Event>) -> Result<()> {
    read_frames(socket, |frame| decode(frame.kind, frame.payload), || Event::Overrun, events)
}

fn read_frames<E>(
    socket: &mut NetlinkSocket,
    decode: impl FnMut(Frame<'_>) -> Decoded<E>,
    lost: impl Fn() -> E,
    events: &mut Vec<E>,
) -> Result<()> {
    let datagram = match socket.receive(format_args!("read netlink notifications")) {
        Ok(datagram) => datagram,
        Err(Error::Overrun { .. }) => {
            events.push(lost());
            return Ok(());
        }
        Err(Error::TimedOut { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    decode_frames(datagram, decode, lost, events);
    Ok(())
}

fn decode_frames<E>(
    datagram: &[u8],
    mut decode: impl FnMut(Frame<'_>) -> Decoded<E>,
    lost: impl Fn() -> E,
    events: &mut Vec<E>,
) {
    for frame in Frames::new(datagram) {
        match frame.and_then(&mut decode) {
            Ok(event) => events.extend(event),
            Err(error) => {
                tracing::warn!(error = %error, "netlink notification cannot be read");
                events.push(lost());
            }
        }
    }
}

fn route_event(kind: u16, payload: &[u8]) -> std::result::Result<Option<Event>, Malformed> {
    // Both headers have the ifindex in the same place.
    let ifindex = || u32_at(payload, 4).map(IfIndex);
    Ok(match kind {
        libc::RTM_NEWLINK => Some(Event::Link { ifindex: ifindex()?, gone: false }),
        libc::RTM_DELLINK => Some(Event::Link { ifindex: ifindex()?, gone: true }),
        // NEW, DEL and GET of qdisc, class and filter stand in a row; chains further up.
        libc::RTM_NEWQDISC..=libc::RTM_GETTFILTER | RTM_NEWCHAIN | RTM_DELCHAIN => Some(match ifindex()? {
            IfIndex(MAGIC_BLOCK) => Event::TcBlock { block: u32_at(payload, 12)? },
            ifindex => Event::Tc { ifindex },
        }),
        _ => None,
    })
}

const RTM_NEWCHAIN: u16 = 100;
const RTM_DELCHAIN: u16 = 101;

fn devlink_event(_kind: u16, payload: &[u8]) -> std::result::Result<Option<Event>, Malformed> {
    Ok(notified(payload)?.map(|(device, port)| Event::Devlink { device, port }))
}

#[cfg(test)]
mod tests;
