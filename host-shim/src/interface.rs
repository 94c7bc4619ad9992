//! The interface inside the pod: set up as the NIC says, and compared with it.
//!
//! IPv6: the link-local address is the EUI-64 of the MAC and there is no duplicate address detection, because the NIC
//! lets the pod use its own addresses and nobody else's. When the NIC gives any address, its word is complete: router
//! advertisements are not accepted, for an address made from one could be chosen as a source and the NIC would drop it.
//! When it gives none, the pod's addresses are dynamic and advertisements stay as the namespace has them.
use std::{fmt::Display, fs, io};

use nix::Error as Errno;

use crate::{
    addr::{MacAddr, Prefix, Route},
    attachment::Attachment,
    link::{GiveWay, Link, LinkError, Links},
    netns::{Netns, NetnsError},
    note,
    result::PrevRoute,
};

/// An interface as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub mac: Option<MacAddr>,
    pub mtu: u32,
    pub up: bool,
    pub addresses: Vec<Prefix>,
    pub routes: Vec<Route>,
}

/// An interface as it should be. What is None or absent is not compared: the pod may add to what it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    pub mac: Option<MacAddr>,
    pub mtu: Option<u32>,
    pub addresses: Vec<Prefix>,
    pub routes: Vec<PrevRoute>,
}

impl From<&Attachment> for Expected {
    fn from(attachment: &Attachment) -> Self {
        let route = |route: &Route| PrevRoute { destination: route.destination, gateway: route.gateway };
        Self {
            mac: Some(attachment.mac),
            mtu: attachment.mtu,
            addresses: attachment.addresses.iter().map(|address| address.prefix).collect(),
            routes: attachment.routes.iter().map(route).collect(),
        }
    }
}

impl Expected {
    /// What of it `observed` does not have, in words.
    pub fn missing_in(&self, observed: &Observed) -> Vec<String> {
        let mut missing = Vec::new();
        if !observed.up {
            missing.push("the interface is down".into());
        }
        if let Some(mac) = self.mac.filter(|mac| Some(*mac) != observed.mac) {
            missing.push(format!("MAC is {}, not {mac}", or_none(observed.mac)));
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu != observed.mtu) {
            missing.push(format!("MTU is {}, not {mtu}", observed.mtu));
        }
        let absent = self.addresses.iter().filter(|address| !observed.addresses.contains(address));
        missing.extend(absent.map(|address| format!("address {address} is missing")));
        for route in &self.routes {
            let matches = |have: &&Route| {
                have.destination == route.destination
                    && (route.gateway.is_none() || route.gateway == have.gateway)
            };
            if !observed.routes.iter().any(|have| matches(&have)) {
                let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                missing.push(format!("route {}{via} is missing", route.destination));
            }
        }
        missing
    }
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// Reads the interface `name`; None when there is none.
pub async fn observe(netns: &Netns, name: &str) -> Result<Option<(Link, Observed)>, LinkError> {
    let links = Links::open(netns)?;
    let Some(link) = links.by_name(name)? else { return Ok(None) };
    let observed = Observed {
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        addresses: links.addresses(&link).await?,
        routes: links.routes(&link).await?,
    };
    Ok(Some((link, observed)))
}

/// Sets up an interface that has just arrived in the pod, down and under a transit name; or one that was half set up.
pub async fn configure(
    netns: &Netns,
    arrived: &Link,
    name: &str,
    wanted: &Attachment,
) -> Result<(), LinkError> {
    let links = Links::open(netns)?;
    // The runtime says what it is called; an alternative name of another is one of several.
    if arrived.name != name {
        links.take_name(arrived, name, GiveWay::All).await?;
    }
    let link = Link { name: name.to_owned(), ..arrived.clone() };
    if link.mac != Some(wanted.mac) {
        links.set_mac(&link, wanted.mac).await?;
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != link.mtu) {
        links.set_mtu(&link, mtu).await?;
    }
    prepare_ipv6(netns, &links, &link, wanted).await?;
    links.up(&link).await?;
    for address in &wanted.addresses {
        match links.add_address(&link, address.prefix).await {
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                if !links.addresses(&link).await?.contains(&address.prefix) {
                    return Err(error);
                }
            }
            other => other?,
        }
    }
    for route in &wanted.routes {
        match links.add_route(&link, route, wanted.needs_onlink(route)).await {
            // The kernel's own route of a prefix, or the same one named twice. One by another interface is a conflict.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                if !links.routes(&link).await?.contains(route) {
                    return Err(error);
                }
            }
            other => other?,
        }
    }
    Ok(())
}

/// The kernel may have taken a setting and not follow it.
pub async fn confirm(netns: &Netns, name: &str, wanted: &Attachment) -> Result<Observed, LinkError> {
    let op = || format!("set up {name} as the NIC says");
    let different = |problem| LinkError::Netlink { op: op(), problem };
    let Some((_, observed)) = observe(netns, name).await? else {
        return Err(different("there is no such interface".to_owned()));
    };
    let problems = Expected::from(wanted).missing_in(&observed);
    if problems.is_empty() { Ok(observed) } else { Err(different(problems.join("; "))) }
}

async fn prepare_ipv6(
    netns: &Netns,
    links: &Links<'_>,
    link: &Link,
    wanted: &Attachment,
) -> Result<(), LinkError> {
    if wanted.has_ipv6() {
        // Some runtimes start a sandbox with IPv6 off.
        sysctl(netns, link, "disable_ipv6", "0")?;
    }
    if !wanted.addresses.is_empty() {
        sysctl(netns, link, "accept_ra", "0")?;
        sysctl(netns, link, "autoconf", "0")?;
    }
    sysctl(netns, link, "accept_dad", "0")?;
    match links.set_eui64(link).await {
        // The host has no IPv6 at all, or the link's MTU is too small for it (inet6_validate_link_af()).
        Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT) && !wanted.has_ipv6() => Ok(()),
        other => other,
    }
}

/// `/proc/sys/net` shows the namespace of the thread that opens it (fs/proc/proc_sysctl.c).
fn sysctl(netns: &Netns, link: &Link, key: &str, value: &str) -> Result<(), NetnsError> {
    let path = format!("/proc/sys/net/ipv6/conf/{}/{key}", link.name);
    let written = netns.run(|| fs::write(&path, value))?;
    // Absent: a kernel without IPv6.
    if let Err(error) = written
        && error.kind() != io::ErrorKind::NotFound
    {
        note(format_args!("cannot write {path}: {error}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
