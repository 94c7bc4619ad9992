//! rtnetlink in one namespace: links, addresses, routes.
//!
//! Owns one netlink socket, opened inside the namespace. Each request waits for the kernel's answer; an error says in
//! words what was asked. Knows nothing of VFs or pods.
use std::{io, net::IpAddr, os::fd::AsRawFd};

use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags},
    link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use thiserror::Error;
use tokio::{runtime::Handle as Runtime, task::JoinHandle};

use crate::{
    addr::{Mac, Prefix, Route},
    netns::{Netns, NetnsError},
};

/// What the kernel refused.
#[derive(Debug, Error)]
pub enum LinkError {
    #[error("cannot {op}: {source}")]
    Kernel { op: String, source: io::Error },
    #[error("cannot {op}: {problem}")]
    Netlink { op: String, problem: String },
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl LinkError {
    fn new(op: String, error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => Self::Kernel { op, source: message.to_io() },
            other => Self::Netlink { op, problem: other.to_string() },
        }
    }

    /// The errno, if it was the kernel's.
    pub fn errno(&self) -> Option<nix::Error> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error().map(nix::Error::from_raw),
            _ => None,
        }
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    /// IFLA_PARENT_DEV_NAME (Linux 5.14): the PCI address of the device below, also where sysfs does not show it.
    pub parent: Option<String>,
}

/// A session with one namespace's rtnetlink.
#[derive(Debug)]
pub struct Links {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Links {
    /// Opens the socket inside `netns`: a netlink socket stays with the namespace that it was made in.
    pub fn open(netns: &Netns) -> Result<Self, LinkError> {
        let runtime = Runtime::current();
        let opened = netns.run(|| {
            let _guard = runtime.enter();
            rtnetlink::new_connection()
        })?;
        let (connection, handle, _) =
            opened.map_err(|source| LinkError::Kernel { op: "open a netlink socket".into(), source })?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        let op = || "list the interfaces".to_owned();
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| LinkError::new(op(), error))?;
        Ok(messages.iter().map(read_link).collect())
    }

    pub async fn by_name(&self, name: &str) -> Result<Option<Link>, LinkError> {
        Ok(self.list().await?.into_iter().find(|link| link.name == name))
    }

    async fn set(&self, message: LinkMessage, op: String) -> Result<(), LinkError> {
        self.handle.link().set(message).execute().await.map_err(|error| LinkError::new(op, error))
    }

    pub async fn down(&self, link: &Link) -> Result<(), LinkError> {
        self.set(unspec(link).down().build(), format!("set {} down", link.name)).await
    }

    pub async fn up(&self, link: &Link) -> Result<(), LinkError> {
        self.set(unspec(link).up().build(), format!("set {} up", link.name)).await
    }

    pub async fn rename(&self, link: &Link, name: &str) -> Result<(), LinkError> {
        self.set(unspec(link).name(name).build(), format!("rename {} to {name}", link.name)).await
    }

    pub async fn set_mac(&self, link: &Link, mac: Mac) -> Result<(), LinkError> {
        self.set(unspec(link).address(mac.0.to_vec()).build(), format!("give {} the MAC {mac}", link.name))
            .await
    }

    pub async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<(), LinkError> {
        self.set(unspec(link).mtu(mtu).build(), format!("give {} the MTU {mtu}", link.name)).await
    }

    pub async fn move_to(&self, link: &Link, netns: &Netns) -> Result<(), LinkError> {
        let message = unspec(link).setns_by_fd(netns.fd().as_raw_fd()).build();
        self.set(message, format!("move {} to {}", link.name, netns.path().display())).await
    }

    /// Makes the link-local address the EUI-64 of the MAC, the only one that the NIC lets out.
    pub async fn set_eui64(&self, link: &Link) -> Result<(), LinkError> {
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::Eui64)]);
        let message = unspec(link).append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![inet6])).build();
        self.set(message, format!("set addr_gen_mode of {} to eui64", link.name)).await
    }

    pub async fn addresses(&self, link: &Link) -> Result<Vec<Prefix>, LinkError> {
        let op = || format!("list the addresses of {}", link.name);
        let dump = self.handle.address().get().set_link_index_filter(link.index).execute();
        let messages: Vec<_> = dump.try_collect().await.map_err(|error| LinkError::new(op(), error))?;
        Ok(messages
            .iter()
            .filter(|message| message.header.index == link.index)
            .filter_map(|message| {
                // IFA_LOCAL is the address itself; IFA_ADDRESS is the peer's on point-to-point links.
                let find = |local: bool| {
                    message.attributes.iter().find_map(|attribute| match attribute {
                        AddressAttribute::Local(addr) if local => Some(*addr),
                        AddressAttribute::Address(addr) if !local => Some(*addr),
                        _ => None,
                    })
                };
                let addr = find(true).or_else(|| find(false))?;
                Some(Prefix { addr, len: message.header.prefix_len })
            })
            .collect())
    }

    /// IPv6 without duplicate address detection: the NIC lets nobody else use the address, and a tentative one could
    /// not be used for a second.
    pub async fn add_address(&self, link: &Link, prefix: Prefix) -> Result<(), LinkError> {
        let mut request = self.handle.address().add(link.index, prefix.addr, prefix.len);
        if prefix.is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let op = || format!("give {} the address {prefix}", link.name);
        request.execute().await.map_err(|error| LinkError::new(op(), error))
    }

    /// The unicast routes of the main table that go out by `link`.
    pub async fn routes(&self, link: &Link) -> Result<Vec<Route>, LinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let op = || format!("list the routes of {}", link.name);
            let messages: Vec<RouteMessage> = self
                .handle
                .route()
                .get(request)
                .execute()
                .try_collect()
                .await
                .map_err(|error| LinkError::new(op(), error))?;
            routes.extend(messages.iter().filter_map(|message| read_route(message, link.index)));
        }
        Ok(routes)
    }

    /// `onlink`: the gateway is reached by this link although none of its prefixes holds it.
    pub async fn add_route(&self, link: &Link, route: &Route, onlink: bool) -> Result<(), LinkError> {
        let op = || format!("add the route {route} to {}", link.name);
        let invalid = |error| LinkError::Netlink { op: op(), problem: format!("{error:?}") };
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(route.destination.addr, route.destination.len)
            .map_err(invalid)?
            .output_interface(link.index);
        match route.gateway {
            Some(gateway) => builder = builder.gateway(gateway).map_err(invalid)?,
            None => builder = builder.scope(netlink_packet_route::route::RouteScope::Link),
        }
        if onlink {
            builder = builder.onlink();
        }
        self.handle.route().add(builder.build()).execute().await.map_err(|error| LinkError::new(op(), error))
    }
}

fn unspec(link: &Link) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(link.index)
}

fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        parent: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = Mac::from_bytes(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::ParentDevName(name) => link.parent = Some(name.clone()),
            _ => {}
        }
    }
    link
}

fn read_route(message: &RouteMessage, index: u32) -> Option<Route> {
    let mut table = u32::from(message.header.table);
    let mut oif = None;
    let mut gateway = None;
    let mut destination = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(number) => oif = Some(*number),
            RouteAttribute::Gateway(addr) => gateway = read_ip(addr),
            RouteAttribute::Destination(addr) => destination = read_ip(addr),
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN)
        || oif != Some(index)
        || message.header.kind != RouteType::Unicast
    {
        return None;
    }
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        _ => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let len = message.header.destination_prefix_length;
    Some(Route { destination: Prefix { addr: destination.unwrap_or(any), len }, gateway })
}

fn read_ip(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(addr) => Some((*addr).into()),
        RouteAddress::Inet6(addr) => Some((*addr).into()),
        _ => None,
    }
}
