//! rtnetlink in one namespace: links, addresses, routes.
//!
//! Owns one netlink socket, opened inside the namespace. Each request waits for the kernel's answer; an error says in
//! words what was asked. Knows nothing of VFs or pods.
use std::{io, net::IpAddr, os::fd::AsRawFd};

use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags},
    link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage, Prop},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
use nix::Error as Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder, packet_core::DefaultNla};
use thiserror::Error;
use tokio::{runtime::Handle as Runtime, task::JoinHandle};

use crate::{
    addr::{MacAddr, Prefix, Route},
    netns::{Netns, NetnsError},
};

mod list;

/// What the kernel refused.
#[derive(Debug, Error)]
pub enum LinkError {
    #[error("cannot {op}: {source}")]
    Kernel { op: String, source: io::Error },
    #[error("cannot {op}: {problem}")]
    Netlink { op: String, problem: String },
    #[error("cannot {op}: {source}: {holder} has that name")]
    NameTaken { op: String, source: io::Error, holder: String },
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
            Self::Kernel { source, .. } | Self::NameTaken { source, .. } => {
                source.raw_os_error().map(Errno::from_raw)
            }
            Self::Netlink { .. } | Self::Netns(_) => None,
        }
    }

    pub fn is_name_taken(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// IFLA_ALT_IFNAME (Linux 5.5): the kernel lets no other link of the namespace have one of them as a name of either kind.
    pub altnames: Vec<Vec<u8>>,
    /// IFLA_IFALIAS: any text, and empty where there is none.
    pub alias: Vec<u8>,
    pub mac: Option<MacAddr>,
    pub mtu: u32,
    pub up: bool,
    /// IFLA_PARENT_DEV_NAME (Linux 5.14): the PCI address of the device below, also where sysfs does not show it.
    pub parent: Option<String>,
}

impl Link {
    /// Those of a namespace.
    pub fn all(netns: &Netns) -> Result<Vec<Self>, LinkError> {
        let listed = netns.run(list::links)?;
        listed.map_err(|source| LinkError::Kernel { op: "list the interfaces".into(), source })
    }

    /// Is it a name of this link, of either kind?
    pub fn has_name(&self, name: &str) -> bool {
        self.name == name || self.has_altname(name)
    }

    pub fn has_altname(&self, name: &str) -> bool {
        self.altnames.iter().any(|altname| altname == name.as_bytes())
    }
}

/// Whose alternative names give way to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveWay {
    /// Only the link's own.
    Own,
    /// Those of all links in the namespace.
    All,
}

/// How often a name is taken from where it is an alternative one: udev may give it again meanwhile.
const TRIES: u32 = 4;

/// A session with one namespace's rtnetlink.
#[derive(Debug)]
pub struct Links<'a> {
    netns: &'a Netns,
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Drop for Links<'_> {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl<'a> Links<'a> {
    /// Opens the socket inside `netns`: a netlink socket stays with the namespace that it was made in.
    pub fn open(netns: &'a Netns) -> Result<Self, LinkError> {
        let runtime = Runtime::current();
        let opened = netns.run(|| {
            let _guard = runtime.enter();
            rtnetlink::new_connection()
        })?;
        let (connection, handle, _) =
            opened.map_err(|source| LinkError::Kernel { op: "open a netlink socket".into(), source })?;
        Ok(Self { netns, handle, connection: tokio::spawn(connection) })
    }

    pub fn list(&self) -> Result<Vec<Link>, LinkError> {
        Link::all(self.netns)
    }

    pub fn by_name(&self, name: &str) -> Result<Option<Link>, LinkError> {
        Ok(self.list()?.into_iter().find(|link| link.name == name))
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

    pub async fn set_mac(&self, link: &Link, mac: MacAddr) -> Result<(), LinkError> {
        self.set(unspec(link).address(mac.0.to_vec()).build(), format!("give {} the MAC {mac}", link.name))
            .await
    }

    pub async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<(), LinkError> {
        self.set(unspec(link).mtu(mtu).build(), format!("give {} the MTU {mtu}", link.name)).await
    }

    /// As [`Self::rename`], and takes the name away from where it is an alternative one.
    pub async fn take_name(&self, link: &Link, name: &str, of: GiveWay) -> Result<(), LinkError> {
        let mut tries = 0;
        loop {
            let error = match self.rename(link, name).await {
                Err(error) if error.is_name_taken() => error,
                other => return other,
            };
            let holder = self.list()?.into_iter().find(|it| it.has_name(name));
            let Some(holder) = holder else { return Err(error) };
            let gives_way = holder.has_altname(name) && (of == GiveWay::All || holder.index == link.index);
            if !gives_way || tries == TRIES {
                let LinkError::Kernel { op, source } = error else { return Err(error) };
                return Err(LinkError::NameTaken { op, source, holder: holder.name });
            }
            tries += 1;
            self.drop_altnames(&holder, [name.as_bytes()]).await?;
        }
    }

    pub async fn drop_altnames<'n>(
        &self,
        link: &Link,
        names: impl IntoIterator<Item = &'n [u8]>,
    ) -> Result<(), LinkError> {
        // Bytes, as a pod's names need not be text.
        let name = |name: &[u8]| Prop::Other(DefaultNla::new(list::IFLA_ALT_IFNAME, name.to_vec()));
        let props: Vec<Prop> = names.into_iter().map(name).collect();
        if props.is_empty() {
            return Ok(());
        }
        let mut request = self.handle.link().property_del(link.index);
        request.message_mut().attributes.push(LinkAttribute::PropList(props));
        let op = || format!("take alternative names from {}", link.name);
        request.execute().await.map_err(|error| LinkError::new(op(), error))
    }

    pub async fn set_alias(&self, link: &Link, alias: &str) -> Result<(), LinkError> {
        // Without an end mark, so that the empty one takes it away (dev_set_alias()).
        let alias = DefaultNla::new(list::IFLA_IFALIAS, alias.as_bytes().to_vec());
        let message = unspec(link).append_extra_attribute(LinkAttribute::Other(alias)).build();
        self.set(message, format!("set the alias of {}", link.name)).await
    }

    pub async fn add_altname(&self, link: &Link, name: &str) -> Result<(), LinkError> {
        let op = || format!("give {} the alternative name {name}", link.name);
        let request = self.handle.link().property_add(link.index).alt_ifname(&[name]);
        request.execute().await.map_err(|error| LinkError::new(op(), error))
    }

    /// Under `name` from the moment that it is there: nobody on either side sees it under another.
    pub async fn move_to(&self, link: &Link, netns: &Netns, name: &str) -> Result<(), LinkError> {
        let message = unspec(link).setns_by_fd(netns.fd().as_raw_fd()).name(name).build();
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
