//! From a TOML value to a checked one. Each function answers with the remedy when the value will not do.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use offload::netlink::devlink::DeviceHandle;
use rustls_pki_types::DnsName;
use toml::Value;

use super::{Remote, ZoneRange};

pub(crate) type Checked<T> = Result<T, String>;

pub(super) fn string(value: &Value) -> Checked<&str> {
    value.as_str().ok_or_else(|| "write a text in quotation marks".to_owned())
}

pub(super) fn boolean(value: &Value) -> Checked<bool> {
    value.as_bool().ok_or_else(|| "write true or false".to_owned())
}

/// A whole number within bounds.
pub(super) fn number<T>(value: &Value, bounds: &RangeInclusive<T>) -> Checked<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    value
        .as_integer()
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| format!("write a whole number from {} to {}", bounds.start(), bounds.end()))
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Checked<T> {
    let known = || words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let text = value.as_str();
    words
        .iter()
        .find(|(word, _)| text == Some(word))
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| format!("write one of {}", known()))
}

pub(super) fn parsed<T: FromStr>(value: &Value, remedy: &str) -> Checked<T> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| remedy.to_owned())
}

/// Empty means none.
pub(super) fn or_none<T>(value: &Value, parse: impl FnOnce(&Value) -> Checked<T>) -> Checked<Option<T>> {
    if value.as_str() == Some("") { Ok(None) } else { parse(value).map(Some) }
}

/// A comma-separated list as OVN writes it; empty text, empty list.
pub(super) fn comma_list<T: Ord + Clone>(
    value: &Value,
    mut item: impl FnMut(&str) -> Checked<T>,
) -> Checked<Vec<T>> {
    let text = string(value)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    unique(text.split(',').map(|part| item(part.trim())))
}

/// A TOML array with at least one member.
pub(super) fn array<T: Ord + Clone>(
    value: &Value,
    item: impl FnMut(&Value) -> Checked<T>,
    remedy: &str,
) -> Checked<Vec<T>> {
    match value.as_array() {
        Some(items) if !items.is_empty() => unique(items.iter().map(item)),
        _ => Err(remedy.to_owned()),
    }
}

fn unique<T: Ord + Clone>(items: impl Iterator<Item = Checked<T>>) -> Checked<Vec<T>> {
    let list = items.collect::<Checked<Vec<T>>>()?;
    let distinct: BTreeSet<_> = list.iter().collect();
    if distinct.len() == list.len() { Ok(list) } else { Err("name each member once".to_owned()) }
}

pub(super) fn path(value: &Value) -> Checked<PathBuf> {
    match value.as_str().map(PathBuf::from) {
        Some(path) if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) => Ok(path),
        _ => Err("write an absolute path: /…".to_owned()),
    }
}

pub(super) fn socket_address(value: &Value) -> Checked<SocketAddr> {
    parsed(value, "write address:port, for example 192.168.100.2:8443 or [fd00::2]:8443")
}

/// A name as RFC 1123 has it, the way Kubernetes names nodes: lower case.
pub(super) fn dns_subdomain(value: &Value) -> Checked<String> {
    match value.as_str() {
        Some(text) if crate::names::is_dns_subdomain(text) => Ok(text.to_owned()),
        _ => {
            Err("write a DNS name of lower-case letters, digits, '-' and '.', at most 253 characters"
                .to_owned())
        }
    }
}

/// What a certificate may hold as a DNS name.
pub(crate) fn certificate_name(value: &Value) -> Checked<String> {
    match value.as_str() {
        Some(text) if DnsName::try_from(text).is_ok() => Ok(text.to_owned()),
        _ => Err("write the DNS name that the host-shim's client certificate holds".to_owned()),
    }
}

/// Goes into OVS's external_ids, and from there into OVN's tables and command lines.
pub(crate) fn identifier(value: &Value) -> Checked<String> {
    match value.as_str() {
        Some(text)
            if (1..=253).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b)) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("write 1 to 253 letters, digits, '-', '_', '.' or ':'".to_owned()),
    }
}

pub(crate) fn interface_name(text: &str) -> Checked<String> {
    if crate::names::is_interface_name(text) && !text.contains(',') {
        Ok(text.to_owned())
    } else {
        Err("write a network device's name: 1 to 15 characters without '/', ':', ',' or white space"
            .to_owned())
    }
}

/// Is it the address of one host, on some link?
pub(crate) fn unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}

/// An end of a tunnel: some one host's address.
pub(crate) fn tunnel_address(text: &str) -> Checked<IpAddr> {
    text.parse()
        .ok()
        .filter(|ip: &IpAddr| {
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast)
        })
        .ok_or_else(|| "write this NIC's own unicast address in the fabric, IPv4 or IPv6".to_owned())
}

const REMOTE: &str = "write unix:/path, tcp:host:port or ssl:host:port; an IPv6 host in [brackets]";

/// Stricter than the session's own parser: an absolute path, a host that can be one.
pub(crate) fn remote(text: &str) -> Checked<Remote> {
    let (method, rest) = text.split_once(':').ok_or(REMOTE)?;
    if method == "unix" {
        let path = path(&Value::from(rest)).map_err(|_| REMOTE)?;
        return Ok(Remote::Unix(path));
    }
    let (host, port) = rest.rsplit_once(':').ok_or(REMOTE)?;
    let port = port.parse().ok().filter(|port: &u16| *port != 0).ok_or(REMOTE)?;
    let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().map_err(|_| REMOTE)?.to_string(),
        None if host.parse::<std::net::Ipv4Addr>().is_ok() || DnsName::try_from(host).is_ok() => {
            host.to_owned()
        }
        None => return Err(REMOTE.to_owned()),
    };
    match method {
        "tcp" => Ok(Remote::Tcp { host, port }),
        "ssl" => Ok(Remote::Ssl { host, port }),
        _ => Err(REMOTE.to_owned()),
    }
}

pub(super) fn devlink_device(value: &Value) -> Checked<DeviceHandle> {
    let text = string(value)?;
    let device = text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.parse().ok()).flatten();
    device.ok_or_else(|| {
        "write a devlink handle, for example pci/0000:03:00.0 (`devlink dev` lists them)".to_owned()
    })
}

impl FromStr for ZoneRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let zone = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().and_then(offload::ids::CtZone::new)
        };
        text.split_once('-')
            .and_then(|(first, last)| ZoneRange::new(zone(first)?, zone(last)?))
            .ok_or_else(|| "write first-last, both from 1 to 65535".to_owned())
    }
}
