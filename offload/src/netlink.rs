//! The netlink session: links, representors' devlink ports, TC, conntrack.
//!
//! Owns blocking netlink sockets and the encoding of what goes over them. It never decides what should be there: callers
//! ask, compare and say what to change. It never runs a program and never touches what the caller did not name.
//!
//! Everything here blocks in the calling thread, for at most [`socket::REPLY_TIMEOUT`] per answer of the kernel.
//!
//! How it fails: every error says in words what was asked, and keeps the kernel's errno and its own explanation (extack). A
//! message that cannot be read is an error of the whole dump; a dump that the kernel marks as torn is repeated. After an
//! [`Error::Overrun`] or [`Error::TimedOut`] of a change nobody knows what was done: dump and compare.
//!
//! What goes to links and qdiscs is built from netlink-packet-route's types; filters and actions, of which it lacks most, are
//! written with [`wire`] straight into the datagram. What comes back is read by [`wire`], too, which looks only at attributes
//! we ask for: a kernel that adds or widens another one breaks no dump.
//!
//! Sources: Linux 6.12 `include/uapi/linux/{netlink,rtnetlink,if_link,devlink,pkt_cls}.h`,
//! `include/uapi/linux/netfilter/nfnetlink_conntrack.h`, RFC 3549.

pub mod batch;
pub mod conntrack;
pub mod devlink;
mod error;
mod extack;
mod frame;
pub mod generic;
pub mod link;
pub mod monitor;
pub mod request;
pub mod socket;
pub mod tc;
pub mod upcall;
pub mod wire;

pub use error::{Errno, Error, Result};
