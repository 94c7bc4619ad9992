//! What OVN's southbound says of a logical port.

pub mod link;
mod port;
pub mod state;

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::attachment::Binding;

/// Key in `Port_Binding.external_ids` (northd copies a logical switch port's there) by which a CMS lets a pod be a DHCP
/// client.
pub const DHCP: &str = "drawbridge.dev/dhcp";
/// The same: the addresses from which its DHCP servers answer, comma between them. Without it the profile's are.
pub const DHCP_SERVERS: &str = "drawbridge.dev/dhcp-servers";

/// Why a `Port_Binding` gives no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum IdentityError {
    #[error("it has no address: set the logical switch port's addresses")]
    Empty,
    #[error("its addresses are {0:?}: a boundary needs a MAC of its own")]
    Unknown(String),
    #[error("its addresses {text:?} hold {part:?}, which is no {what}")]
    Malformed { text: String, part: String, what: Cow<'static, str> },
    #[error("its MAC {0} is not an interface's: all zeroes, or multicast")]
    NotUnicast(offload::ids::MacAddr),
    #[error(
        "its external_ids:{DHCP_SERVERS} hold {0:?}, which is no IP address: write addresses, comma between them"
    )]
    DhcpServer(String),
}

/// Reads `Port_Binding.mac`: a set of "MAC IP...", or "unknown" (ovn-sb(5)). A port with several MACs has the first; one
/// without an IP address speaks no IP, not even DHCP: OVN's answers only for addresses that it knows.
pub fn identity<'a>(
    mac_column: impl IntoIterator<Item = &'a str>,
    dhcp: bool,
    dhcp_servers: Vec<IpAddr>,
) -> Result<Binding, IdentityError> {
    let mut unknown = None;
    let mut entries: Vec<&str> = Vec::new();
    for entry in mac_column {
        if entry.split_whitespace().next().is_none_or(|first| first == "unknown" || first == "router") {
            unknown = Some(entry.to_owned());
        } else {
            entries.push(entry);
        }
    }
    // OVSDB keeps sets in no order: ours is by text, so that a restart does not change it.
    entries.sort_unstable();
    let text = *entries.first().ok_or(unknown.map_or(IdentityError::Empty, IdentityError::Unknown))?;
    let mut parts = text.split_whitespace();
    let malformed = |part: &str, what: &'static str| IdentityError::Malformed {
        text: text.to_owned(),
        part: part.to_owned(),
        what: Cow::Borrowed(what),
    };
    let first = parts.next().unwrap_or_default();
    let mac: offload::ids::MacAddr = first.parse().map_err(|_| malformed(first, "MAC address"))?;
    if !mac.is_unicast() {
        return Err(IdentityError::NotUnicast(mac));
    }
    let mut ips = Vec::new();
    for part in parts {
        // northd writes plain addresses; other CMS versions were seen to write prefixes.
        let ip = part.split('/').next().unwrap_or_default();
        let ip: IpAddr = ip.parse().map_err(|_| malformed(part, "IP address"))?;
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips.sort_unstable();
    Ok(Binding { mac, ips, dhcp, dhcp_servers })
}

/// The servers that a port names itself.
pub fn dhcp_servers(text: &str) -> Result<Vec<IpAddr>, IdentityError> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| IdentityError::DhcpServer(word.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let b = identity(["0a:00:00:00:00:0a fd00::a 10.244.0.10"], false, Vec::new()).unwrap();
        assert_eq!(b.mac.to_string(), "0a:00:00:00:00:0a");
        assert_eq!((b.ipv4().len(), b.ipv6().len(), b.dhcp), (1, 1, false));
        assert!(identity(["0a:00:00:00:00:0a"], false, Vec::new()).unwrap().ips.is_empty());
        assert!(identity(["0a:00:00:00:00:0a 10.0.0.1"], true, Vec::new()).unwrap().dhcp);
        let b = identity(
            ["unknown", "0a:00:00:00:00:0b 10.0.0.2", "0a:00:00:00:00:0a 10.0.0.1/24"],
            false,
            Vec::new(),
        )
        .unwrap();
        assert_eq!(
            (b.mac.to_string().as_str(), b.ips[0].to_string().as_str()),
            ("0a:00:00:00:00:0a", "10.0.0.1")
        );
    }

    #[test]
    fn says_why_there_is_no_identity() {
        for (column, says) in [
            (vec![], "no address"),
            (vec!["unknown"], "unknown"),
            (vec!["0a:00:00:00:00 10.0.0.1"], "MAC address"),
            (vec!["0a:00:00:00:00:0a 10.0.0.256"], "10.0.0.256"),
            (vec!["01:00:5e:00:00:01 10.0.0.1"], "multicast"),
        ] {
            let error = identity(column, false, Vec::new()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
