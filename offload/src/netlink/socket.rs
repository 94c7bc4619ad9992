//! One blocking netlink socket: request and acknowledgement, dump, batch.

use std::fmt::Arguments;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::SocketAddr;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::batch::Batch;
use super::error::{Errno, Error, Result};
use super::extack::Ack;
use super::frame::{DUMP_INTERRUPTED, Frame, Frames};
use super::request::{Request, flags};
use super::wire::Malformed;

/// How long an answer of the kernel may take. It answers in the same call, so this only ends what would hang.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The receive buffer that is asked for. The default (208 KiB) loses acknowledgements of a few hundred requests.
const RECEIVE_BUFFER: usize = 4 << 20;
const SEND_BUFFER: usize = 1 << 20;
/// The kernel builds dump datagrams of at most 32 KiB; answers to a single request can be larger.
const DATAGRAM: usize = 256 << 10;
const DUMP_TRIES: u32 = 8;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Route,
    Generic,
    Netfilter,
}

/// What a request brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The payloads of the messages in front of the acknowledgement.
    pub payloads: Vec<Vec<u8>>,
    /// The text of an acknowledgement that reports success: why, for instance, the hardware would not have a filter.
    pub warning: Option<String>,
}

/// Which requests of a batch the kernel acknowledges. Errors it always reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// Only the last one of each datagram: fastest, but the warnings of the others are lost.
    Last,
    /// Every one, so that every warning arrives.
    Each,
}

/// What became of one request of a batch that is worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done { warning: Option<String> },
    Refused { errno: Errno, extack: Option<String> },
}

/// A socket to the kernel. One request is in flight at a time. After an error that is not the kernel's own refusal
/// ([`Error::errno`] is `None`), open a new one: an unfinished dump may keep the kernel from starting another.
pub struct NetlinkSocket {
    socket: netlink_sys::Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket_error(operation: Arguments<'_>, source: io::Error) -> Error {
    let operation = operation.to_string();
    match source.raw_os_error() {
        Some(libc::EAGAIN) => Error::TimedOut { operation, seconds: REPLY_TIMEOUT.as_secs() },
        Some(libc::ENOBUFS) => Error::Overrun { operation },
        _ => Error::Socket { operation, source },
    }
}

fn malformed(operation: Arguments<'_>) -> impl FnOnce(Malformed) -> Error {
    let operation = operation.to_string();
    move |source| Error::Malformed { operation, source }
}

fn refused(operation: Arguments<'_>, code: i32, extack: Option<String>) -> Error {
    Error::Refused { operation: operation.to_string(), errno: Errno(code.saturating_neg()), extack }
}

impl NetlinkSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let (number, name) = match protocol {
            Protocol::Route => (NETLINK_ROUTE, "open a route netlink socket"),
            Protocol::Generic => (NETLINK_GENERIC, "open a generic netlink socket"),
            Protocol::Netfilter => (NETLINK_NETFILTER, "open a netfilter netlink socket"),
        };
        Self::open_bound(number).map_err(|source| Error::Socket { operation: name.to_owned(), source })
    }

    fn open_bound(protocol: isize) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        let seconds = i64::try_from(REPLY_TIMEOUT.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(seconds))?;
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(seconds))?;
        // Beyond rmem_max only with CAP_NET_ADMIN; without it, as much as is allowed.
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
        setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER))?;
        Ok(Self { socket, port, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Listens to a multicast group.
    pub fn join(&self, group: u32) -> Result<()> {
        self.socket.add_membership(group).map_err(|source| Error::Socket {
            operation: format!("listen to netlink multicast group {group}"),
            source,
        })
    }

    /// How many bytes may wait to be read; what does not fit is lost, and told as [`Error::Overrun`].
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<()> {
        setsockopt(&self.socket, sockopt::RcvBuf, &bytes).map_err(|errno| Error::Socket {
            operation: format!("set a netlink receive buffer to {bytes} bytes"),
            source: errno.into(),
        })
    }

    /// The kernel's name for this socket. Notifications of a change bear the port of who asked for it.
    pub fn port(&self) -> u32 {
        self.port
    }

    fn next_sequence(&mut self) -> u32 {
        // 0 is what notifications carry.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    fn send(&self, operation: Arguments<'_>, datagram: &[u8]) -> Result<()> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.socket.send_to(datagram, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(socket_error(operation, error)),
            }
        }
    }

    /// The next datagram from the kernel. Another process may send to our port, too: such is skipped.
    pub(super) fn receive(&mut self, operation: Arguments<'_>) -> Result<&[u8]> {
        loop {
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, libc::MSG_TRUNC) {
                Ok((length, from)) if from.port_number() == 0 => {
                    if length > self.buffer.len() {
                        return Err(malformed(operation)(Malformed::new(format!(
                            "a datagram of {length} bytes is larger than the buffer of {}",
                            self.buffer.len()
                        ))));
                    }
                    return Ok(&self.buffer);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(socket_error(operation, error)),
            }
        }
    }

    /// Receives datagrams and hands `each` the messages whose sequence numbers are in `first..=last`, until it breaks.
    fn replies(
        &mut self,
        operation: Arguments<'_>,
        first: u32,
        last: u32,
        mut each: impl FnMut(Frame<'_>) -> Result<std::ops::ControlFlow<()>>,
    ) -> Result<()> {
        let port = self.port;
        loop {
            let datagram = self.receive(operation)?;
            for frame in Frames::new(datagram) {
                let frame = frame.map_err(malformed(operation))?;
                // Late answers to a request that timed out have other numbers.
                if frame.port != port || !(first..=last).contains(&frame.sequence) || frame.kind == NLMSG_NOOP
                {
                    continue;
                }
                if frame.kind == NLMSG_OVERRUN {
                    return Err(Error::Overrun { operation: operation.to_string() });
                }
                if each(frame)?.is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn request(&mut self, operation: Arguments<'_>, request: &Request) -> Result<Answer> {
        let sequence = self.next_sequence();
        let mut datagram = Vec::new();
        request.append_to(&mut datagram, flags::ACK, sequence, self.port);
        self.send(operation, &datagram)?;
        let mut answer = Answer::default();
        self.replies(operation, sequence, sequence, |frame| {
            if frame.kind != NLMSG_ERROR {
                answer.payloads.push(frame.payload.to_vec());
                return Ok(std::ops::ControlFlow::Continue(()));
            }
            let ack = Ack::from_error(frame.flags, frame.payload).map_err(malformed(operation))?;
            if ack.code != 0 {
                return Err(refused(operation, ack.code, ack.text));
            }
            answer.warning = ack.text;
            Ok(std::ops::ControlFlow::Break(()))
        })?;
        Ok(answer)
    }

    /// Dumps, and decodes every message. `decode` returns `None` for what the caller did not ask for. A dump that the
    /// kernel marks as torn by a change is repeated.
    pub fn dump<T>(
        &mut self,
        operation: Arguments<'_>,
        request: &Request,
        mut decode: impl FnMut(&[u8]) -> std::result::Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_TRIES {
            let sequence = self.next_sequence();
            let mut datagram = Vec::new();
            request.append_to(&mut datagram, flags::DUMP, sequence, self.port);
            self.send(operation, &datagram)?;
            let mut found = Vec::new();
            let mut torn = false;
            let mut unreadable = None;
            self.replies(operation, sequence, sequence, |frame| {
                torn |= frame.flags & DUMP_INTERRUPTED != 0;
                let ack = match frame.kind {
                    NLMSG_DONE => Ack::from_done(frame.flags, frame.payload),
                    NLMSG_ERROR => Ack::from_error(frame.flags, frame.payload),
                    _ => {
                        // To the end in any case: until it is read, the kernel refuses another dump (EBUSY).
                        match decode(frame.payload) {
                            Ok(item) => found.extend(item),
                            Err(error) => unreadable = unreadable.take().or(Some(error)),
                        }
                        return Ok(std::ops::ControlFlow::Continue(()));
                    }
                }
                .map_err(malformed(operation))?;
                if ack.code != 0 {
                    return Err(refused(operation, ack.code, ack.text));
                }
                Ok(std::ops::ControlFlow::Break(()))
            })?;
            if let Some(error) = unreadable {
                return Err(malformed(operation)(error));
            }
            if !torn {
                return Ok(found);
            }
        }
        Err(Error::Interrupted { operation: operation.to_string(), tries: DUMP_TRIES })
    }

    /// Sends many requests in few datagrams. The kernel executes them in order and goes on after an error, so the answer
    /// has one outcome per request, in the same order.
    ///
    /// After an error of this function itself it is unknown which requests were executed: dump and compare.
    pub fn batch(
        &mut self,
        operation: Arguments<'_>,
        requests: &[Request],
        acknowledge: Acknowledge,
    ) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut batch = Batch::default();
        for request in requests {
            batch.push_request(request, acknowledge == Acknowledge::Each).map_err(malformed(operation))?;
            if batch.is_full() {
                self.exchange(operation, &mut batch, &mut outcomes)?;
            }
        }
        self.exchange(operation, &mut batch, &mut outcomes)?;
        Ok(outcomes)
    }

    /// Sends what is in the batch, empties it, and adds one outcome per message to `outcomes`, in the same order. The same
    /// holds of errors as in [`Self::batch`].
    pub fn exchange(
        &mut self,
        operation: Arguments<'_>,
        batch: &mut Batch,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let (first, last) = (self.sequence + 1, self.sequence + count);
        self.sequence = last;
        self.send(operation, batch.seal(first, self.port))?;
        let offset = outcomes.len();
        outcomes.resize(offset + batch.len(), Outcome::Done { warning: None });
        batch.clear();
        self.replies(operation, first, last, |frame| {
            if frame.kind != NLMSG_ERROR {
                return Ok(std::ops::ControlFlow::Continue(()));
            }
            let ack = Ack::from_error(frame.flags, frame.payload).map_err(malformed(operation))?;
            let index = offset + (frame.sequence - first) as usize;
            if let Some(outcome) = outcomes.get_mut(index) {
                *outcome = if ack.code == 0 {
                    Outcome::Done { warning: ack.text }
                } else {
                    Outcome::Refused { errno: Errno(ack.code.saturating_neg()), extack: ack.text }
                };
            }
            Ok(if frame.sequence == last {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            })
        })
    }
}

#[cfg(test)]
mod tests;
