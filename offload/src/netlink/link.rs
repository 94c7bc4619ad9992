//! Network devices: what there is, and the few things the agent sets on a representor.
//!
//! Never creates, deletes, renames or moves a device.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::devlink::PortHandle;
use super::error::{Errno, Error, Result};
use super::request::Request;
use super::socket::NetlinkSocket;
use super::wire::{Attributes, Malformed, Writer, array, u32_at};
use crate::ids::{IfIndex, MacAddr};

const RTM_GETLINK: u16 = libc::RTM_GETLINK;
const RTM_SETLINK: u16 = libc::RTM_SETLINK;
const RTM_GETADDR: u16 = libc::RTM_GETADDR;
const RTM_DELADDR: u16 = libc::RTM_DELADDR;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER: u16 = 33;
const IFLA_PHYS_SWITCH_ID: u16 = 36;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PHYS_PORT_NAME: u16 = 38;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_DEVLINK_PORT: u16 = 62;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// Leave the counters out of the dump.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 0x40;
/// `struct ifinfomsg`.
const IFINFO: usize = 16;
/// `struct ifaddrmsg`.
const IFADDR: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// Which eSwitch a port belongs to (`IFLA_PHYS_SWITCH_ID`); in text as sysfs writes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SwitchId(pub Vec<u8>);

impl fmt::Display for SwitchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SwitchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A network device as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub ifindex: IfIndex,
    pub name: String,
    /// `None` for devices whose addresses are not Ethernet's.
    pub mac: Option<MacAddr>,
    pub mtu: u32,
    /// Set up by the administrator.
    pub up: bool,
    /// Up and usable, as the kernel sees it.
    pub running: bool,
    pub carrier: bool,
    pub phys_switch_id: Option<SwitchId>,
    pub phys_port_name: Option<String>,
    /// Bus and name of the device that it belongs to, for instance `pci`, `0000:03:00.0` (since Linux 5.14).
    pub parent: Option<(String, String)>,
    /// Its devlink port (since Linux 6.2).
    pub devlink_port: Option<PortHandle>,
    /// Where the other end or the lower device is, if in another network namespace.
    pub link_netnsid: Option<i32>,
    /// The bridge, bond or `ovs-system` that has it.
    pub master: Option<IfIndex>,
    /// For software devices: `veth`, `openvswitch`, ...
    pub kind: Option<String>,
}

impl Link {
    /// From the payload of an `RTM_NEWLINK`.
    pub fn decode(payload: &[u8]) -> std::result::Result<Self, Malformed> {
        let flags = u32_at(payload, 8)?;
        let mut link = Self {
            ifindex: IfIndex(u32_at(payload, 4)?),
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags & IFF_UP != 0,
            running: flags & IFF_RUNNING != 0,
            carrier: false,
            phys_switch_id: None,
            phys_port_name: None,
            parent: None,
            devlink_port: None,
            link_netnsid: None,
            master: None,
            kind: None,
        };
        let (mut parent_bus, mut parent_name) = (None, None);
        for attribute in Attributes::after(payload, IFINFO)? {
            let attribute = attribute?;
            match attribute.kind {
                IFLA_ADDRESS => link.mac = attribute.mac(),
                IFLA_IFNAME => link.name = attribute.text(),
                IFLA_MTU => link.mtu = attribute.u32()?,
                IFLA_MASTER => link.master = Some(IfIndex(attribute.u32()?)),
                IFLA_CARRIER => link.carrier = attribute.u8()? != 0,
                IFLA_PHYS_SWITCH_ID => link.phys_switch_id = Some(SwitchId(attribute.value.to_vec())),
                IFLA_PHYS_PORT_NAME => link.phys_port_name = Some(attribute.text()),
                IFLA_LINK_NETNSID => link.link_netnsid = Some(attribute.i32()?),
                IFLA_PARENT_DEV_NAME => parent_name = Some(attribute.text()),
                IFLA_PARENT_DEV_BUS_NAME => parent_bus = Some(attribute.text()),
                IFLA_DEVLINK_PORT => link.devlink_port = PortHandle::decode(attribute.nested())?,
                IFLA_LINKINFO => link.kind = attribute.nested().find(IFLA_INFO_KIND)?.map(|kind| kind.text()),
                _ => {}
            }
        }
        link.parent = parent_bus.zip(parent_name);
        if link.name.is_empty() {
            return Err(Malformed::new("a device without a name"));
        }
        Ok(link)
    }
}

/// IPv4 settings of a device that netlink can set (`IPV4_DEVCONF_*`); what they mean is in the kernel's ip-sysctl.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Ipv4Setting {
    Forwarding = 1,
    ProxyArp = 3,
    AcceptRedirects = 4,
    SendRedirects = 6,
    RpFilter = 8,
    ArpIgnore = 19,
    ArpNotify = 22,
    AcceptLocal = 23,
}

fn ifinfo(ifindex: Option<IfIndex>, flags: u32, change: u32) -> Writer {
    let index = ifindex.map_or(0, |index| index.0);
    let mut header = [0; IFINFO];
    let fields = [index, flags, change].map(u32::to_ne_bytes);
    header.iter_mut().skip(4).zip(fields.as_flattened()).for_each(|(to, from)| *to = *from);
    Writer::new(&header)
}

fn payload(operation: fmt::Arguments<'_>, writer: Writer) -> Result<Vec<u8>> {
    writer.finish().map_err(|source| Error::Malformed { operation: operation.to_string(), source })
}

/// All devices of the namespace.
pub fn links(socket: &mut NetlinkSocket) -> Result<Vec<Link>> {
    let operation = format_args!("list the network devices");
    let mut writer = ifinfo(None, 0, 0);
    writer.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let request = Request::new(RTM_GETLINK, 0, payload(operation, writer)?);
    socket.dump(operation, &request, |bytes| Link::decode(bytes).map(Some))
}

fn link(
    socket: &mut NetlinkSocket,
    operation: fmt::Arguments<'_>,
    mut writer: Writer,
) -> Result<Option<Link>> {
    writer.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let request = Request::new(RTM_GETLINK, 0, payload(operation, writer)?);
    match socket.request(operation, &request) {
        Ok(answer) => {
            let malformed = |source| Error::Malformed { operation: operation.to_string(), source };
            let first =
                answer.payloads.first().ok_or_else(|| malformed(Malformed::new("an empty answer")))?;
            Link::decode(first).map(Some).map_err(malformed)
        }
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The device of that number, if there is one.
pub fn link_by_index(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<Option<Link>> {
    link(socket, format_args!("look up network device {ifindex}"), ifinfo(Some(ifindex), 0, 0))
}

/// The device of that name, if there is one.
pub fn link_by_name(socket: &mut NetlinkSocket, name: &str) -> Result<Option<Link>> {
    let mut writer = ifinfo(None, 0, 0);
    writer.put_text(IFLA_IFNAME, name);
    link(socket, format_args!("look up network device {name}"), writer)
}

fn set(socket: &mut NetlinkSocket, operation: fmt::Arguments<'_>, writer: Writer) -> Result<()> {
    let request = Request::new(RTM_SETLINK, 0, payload(operation, writer)?);
    socket.request(operation, &request).map(drop)
}

/// Sets the device up.
pub fn set_up(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<()> {
    set(socket, format_args!("set network device {ifindex} up"), ifinfo(Some(ifindex), IFF_UP, IFF_UP))
}

/// Sets the device down.
pub fn set_down(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<()> {
    set(socket, format_args!("set network device {ifindex} down"), ifinfo(Some(ifindex), 0, IFF_UP))
}

/// Sets the MTU.
pub fn set_mtu(socket: &mut NetlinkSocket, ifindex: IfIndex, mtu: u32) -> Result<()> {
    let mut writer = ifinfo(Some(ifindex), 0, 0);
    writer.put_u32(IFLA_MTU, mtu);
    set(socket, format_args!("set the MTU of network device {ifindex} to {mtu}"), writer)
}

/// Keeps the kernel from giving the device an IPv6 address of its own. Where IPv6 is off there is nothing to do.
pub fn set_addr_gen_mode_none(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<()> {
    let mut writer = ifinfo(Some(ifindex), 0, 0);
    writer.nest(IFLA_AF_SPEC, |families| {
        families.nest(family(libc::AF_INET6), |inet6| {
            inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        });
    });
    let operation = format_args!("turn IPv6 address generation off on network device {ifindex}");
    match set(socket, operation, writer) {
        Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT) => Ok(()),
        other => other,
    }
}

/// Sets IPv4 settings of the device. (The kernel offers no such thing for IPv6.)
pub fn set_ipv4(socket: &mut NetlinkSocket, ifindex: IfIndex, settings: &[(Ipv4Setting, u32)]) -> Result<()> {
    let mut writer = ifinfo(Some(ifindex), 0, 0);
    writer.nest(IFLA_AF_SPEC, |families| {
        families.nest(family(libc::AF_INET), |inet| {
            inet.nest(IFLA_INET_CONF, |conf| {
                for (setting, value) in settings {
                    conf.put_u32(*setting as u16, *value);
                }
            });
        });
    });
    set(socket, format_args!("set {settings:?} on network device {ifindex}"), writer)
}

/// Makes a representor mute for the NIC itself: no IPv6 address of its own, no ARP reply whatever is asked, no
/// forwarding, no proxy ARP, no redirects believed. Addresses that it has already stay: see [`flush_addresses`].
pub fn silence(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<()> {
    set_addr_gen_mode_none(socket, ifindex)?;
    // arp_ignore 8: "do not reply for all local addresses".
    let settings = [
        (Ipv4Setting::ArpIgnore, 8),
        (Ipv4Setting::Forwarding, 0),
        (Ipv4Setting::ProxyArp, 0),
        (Ipv4Setting::AcceptRedirects, 0),
        (Ipv4Setting::SendRedirects, 0),
    ];
    set_ipv4(socket, ifindex, &settings)
}

fn family(number: libc::c_int) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub address: IpAddr,
    pub prefix_length: u8,
}

fn ifaddr(family: u8, prefix_length: u8, ifindex: IfIndex) -> [u8; IFADDR] {
    let [a, b, c, d] = ifindex.0.to_ne_bytes();
    [family, prefix_length, 0, 0, a, b, c, d]
}

/// `None` for an address of another device or family.
fn decode_address(
    payload: &[u8],
    wanted: IfIndex,
) -> std::result::Result<Option<(Address, Request)>, Malformed> {
    let [family, prefix_length, _, _] = array::<4>(payload, 0)?;
    let (mut local, mut address) = (None, None);
    for attribute in Attributes::after(payload, IFADDR)? {
        let attribute = attribute?;
        match attribute.kind {
            IFA_LOCAL => local = Some(attribute.value),
            IFA_ADDRESS => address = Some(attribute.value),
            _ => {}
        }
    }
    // On point-to-point devices IFA_ADDRESS is the other end's.
    let (Some(own), true) = (local.or(address), u32_at(payload, 4)? == wanted.0) else { return Ok(None) };
    let ip: IpAddr = match libc::c_int::from(family) {
        libc::AF_INET => array::<4>(own, 0)?.into(),
        libc::AF_INET6 => array::<16>(own, 0)?.into(),
        _ => return Ok(None),
    };
    let mut writer = Writer::new(&ifaddr(family, prefix_length, wanted));
    if let Some(local) = local {
        writer.put(IFA_LOCAL, local);
    }
    if let Some(address) = address {
        writer.put(IFA_ADDRESS, address);
    }
    let removal = Request::new(RTM_DELADDR, 0, writer.finish()?);
    Ok(Some((Address { address: ip, prefix_length }, removal)))
}

fn address_dump(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<Vec<(Address, Request)>> {
    let operation = format_args!("list the addresses of network device {ifindex}");
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let header = ifaddr(u8::try_from(family).unwrap_or_default(), 0, ifindex);
        let request = Request::new(RTM_GETADDR, 0, header.to_vec());
        match socket.dump(operation, &request, |bytes| decode_address(bytes, ifindex)) {
            Ok(addresses) => found.extend(addresses),
            // A device whose MTU is too small for a family, or that just went, has none.
            Err(error) if error.errno() == Some(Errno::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    // Without IPv6 in the kernel the second dump answers with all families.
    found.dedup_by_key(|(address, _)| *address);
    Ok(found)
}

/// The addresses of a device.
pub fn addresses(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<Vec<Address>> {
    Ok(address_dump(socket, ifindex)?.into_iter().map(|(address, _)| address).collect())
}

/// Removes every address of a device and returns those that were there.
pub fn flush_addresses(socket: &mut NetlinkSocket, ifindex: IfIndex) -> Result<Vec<Address>> {
    let mut removed = Vec::new();
    for (address, request) in address_dump(socket, ifindex)? {
        let operation = format_args!("remove {} from network device {ifindex}", address.address);
        match socket.request(operation, &request) {
            // A secondary IPv4 address goes with its primary one.
            Ok(_) => removed.push(address),
            Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) => removed.push(address),
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
