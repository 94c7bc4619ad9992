//! Qdiscs, as far as an ingress hook needs one.

use netlink_packet_route::tc::{TcAttribute, TcHeader, TcMessage};

use super::{
    HANDLE_INGRESS, PARENT_INGRESS, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC, TCA_INGRESS_BLOCK, TCA_KIND,
    TCMSG,
};
use crate::ids::IfIndex;
use crate::netlink::error::{Errno, Result};
use crate::netlink::request::{Request, flags};
use crate::netlink::socket::NetlinkSocket;
use crate::netlink::wire::{Attributes, Malformed, u32_at};

/// The kind that OVS deletes and re-creates when it takes a port. (It leaves a `clsact` where it is.)
const INGRESS: &str = "ingress";
/// The kind for ports that we own alone: it outlives an OVS that takes the port by mistake.
const CLSACT: &str = "clsact";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    pub ifindex: IfIndex,
    pub kind: String,
    pub handle: u32,
    pub parent: u32,
    /// The shared block that its ingress hook uses.
    pub ingress_block: Option<u32>,
}

impl Qdisc {
    /// Whether filters for what enters can be hung there.
    pub fn has_ingress_hook(&self) -> bool {
        self.parent == PARENT_INGRESS
    }

    /// From the payload of an `RTM_NEWQDISC`.
    pub fn decode(payload: &[u8]) -> std::result::Result<Self, Malformed> {
        let attributes = Attributes::after(payload, TCMSG)?;
        let kind = attributes.find(TCA_KIND)?.ok_or_else(|| Malformed::new("a qdisc without a kind"))?;
        Ok(Self {
            ifindex: IfIndex(u32_at(payload, 4)?),
            kind: kind.text(),
            handle: u32_at(payload, 8)?,
            parent: u32_at(payload, 12)?,
            ingress_block: attributes.find(TCA_INGRESS_BLOCK)?.map(|block| block.u32()).transpose()?,
        })
    }
}

/// The qdiscs of all devices.
pub fn qdiscs(socket: &mut NetlinkSocket) -> Result<Vec<Qdisc>> {
    let request = Request::new(RTM_GETQDISC, 0, vec![0; TCMSG]);
    socket.dump(format_args!("list the qdiscs"), &request, |payload| Qdisc::decode(payload).map(Some))
}

fn message(ifindex: IfIndex, kind: &str) -> TcMessage {
    let header = TcHeader {
        index: ifindex.0.cast_signed(),
        handle: HANDLE_INGRESS.into(),
        parent: PARENT_INGRESS.into(),
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, vec![TcAttribute::Kind(kind.to_owned())])
}

pub(super) fn ensure_request(ifindex: IfIndex) -> Request {
    Request::emit(RTM_NEWQDISC, flags::CREATE | flags::EXCL, &message(ifindex, INGRESS))
}

/// Makes sure that the device has an ingress hook. One that is there, `clsact` too, is left as it is. Returns whether one
/// was made.
pub fn ensure_ingress(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<bool> {
    ensure(socket, ifindex, &ensure_request(ifindex), INGRESS)
}

/// As [`ensure_ingress`], with a `clsact`: for ports that we own alone. An `ingress` qdisc that is there is left as it is: it
/// has filters perhaps, and serves as well.
pub fn ensure_clsact(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<bool> {
    let request = Request::emit(RTM_NEWQDISC, flags::CREATE | flags::EXCL, &message(ifindex, CLSACT));
    ensure(socket, ifindex, &request, CLSACT)
}

fn ensure(socket: &mut NetlinkSocket, ifindex: IfIndex, request: &Request, kind: &str) -> Result<bool> {
    match socket.request(format_args!("add qdisc {kind} to network device {ifindex}"), request) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes an `ingress` qdisc with all its filters, whoever made them. A `clsact` is refused by the kernel (`EINVAL`).
/// Returns whether there was one.
pub fn remove_ingress(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<bool> {
    remove(socket, ifindex, INGRESS)
}

/// Removes a `clsact` qdisc with all its filters, whoever made them. An `ingress` is refused by the kernel (`EINVAL`).
/// Returns whether there was one.
pub fn remove_clsact(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<bool> {
    remove(socket, ifindex, CLSACT)
}

fn remove(socket: &mut NetlinkSocket, ifindex: IfIndex, kind: &str) -> Result<bool> {
    let request = Request::emit(RTM_DELQDISC, 0, &message(ifindex, kind));
    match socket.request(format_args!("remove qdisc {kind} of network device {ifindex}"), &request) {
        Ok(_) => Ok(true),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
