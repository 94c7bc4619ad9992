//! The list of a namespace's links, read by hand: in a pod the names are the pod's.
//!
//! A name is any bytes but '/', ':' and spaces (`dev_valid_name()`, net/core/dev.c), an alternative one any at all, and
//! all of them together may fill 64 KiB. The library that does the rest drops a message whose text is not UTF-8 without an
//! error, and its buffer is smaller than such a message: with it a pod could hide its VF from us.
use std::io;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::Link;
use crate::addr::MacAddr;

// include/uapi/linux/{netlink,rtnetlink,if_link}.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_HEADER: usize = 16;
const IFINFOMSG: usize = 16;
const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
pub(super) const IFLA_IFALIAS: u16 = 20;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_PROP_LIST: u16 = 52;
pub(super) const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PARENT_DEV_NAME: u16 = 56;
/// With any mask at all the kernel makes its answer as large as the largest link needs (`rtnl_calcit()`); without one, a
/// link of many names ends the list with EMSGSIZE.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// NLA_F_NESTED and NLA_F_NET_BYTEORDER are no part of a type.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// All links of the namespace that the calling thread is in. Blocks, for as long as the kernel writes its answer.
pub(super) fn links() -> io::Result<Vec<Link>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.send_to(&request(), &SocketAddr::new(0, 0), 0)?;
    let mut links = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if read(&datagram, &mut links)? {
            return Ok(links);
        }
    }
}

fn request() -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(40_u32.to_ne_bytes());
    message.extend(RTM_GETLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Sequence and port, then an ifinfomsg of AF_UNSPEC.
    message.extend([0; 8 + IFINFOMSG]);
    message.extend(8_u16.to_ne_bytes());
    message.extend(IFLA_EXT_MASK.to_ne_bytes());
    message.extend(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    message
}

/// True at the list's end.
fn read(datagram: &[u8], links: &mut Vec<Link>) -> io::Result<bool> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is malformed");
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
        let kind = u16_at(rest, 4).ok_or_else(malformed)?;
        let payload = rest.get(NLMSG_HEADER..length).ok_or_else(malformed)?;
        match kind {
            RTM_NEWLINK => links.push(read_link(payload).ok_or_else(malformed)?),
            // Both begin with a negative errno, or zero.
            NLMSG_DONE | NLMSG_ERROR => {
                let errno = u32_at(payload, 0).unwrap_or_default().cast_signed();
                return if errno == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-errno)) };
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn read_link(message: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(message, 4)?,
        name: String::new(),
        altnames: Vec::new(),
        alias: Vec::new(),
        mac: None,
        mtu: 0,
        up: u32_at(message, 8)? & IFF_UP != 0,
        parent: None,
    };
    for (kind, value) in attributes(message.get(IFINFOMSG..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = MacAddr::from_bytes(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_IFALIAS => link.alias = without_end(value).to_vec(),
            IFLA_PARENT_DEV_NAME => link.parent = Some(text(value)),
            IFLA_PROP_LIST => {
                let names = attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                link.altnames = names.map(|(_, name)| without_end(name).to_vec()).collect();
            }
            _ => {}
        }
    }
    Some(link)
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn without_end(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What is not UTF-8 is no name of ours: it need only be shown.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(without_end(bytes)).into_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
