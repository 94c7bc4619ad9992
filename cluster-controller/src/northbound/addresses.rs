//! What a port's `addresses` shall say. Pure.
//!
//! OVN gives an address to a port that asks for it (`"dynamic"`), and says so in `dynamic_addresses` of the northbound;
//! the southbound, where nic-agent looks, goes on saying `"dynamic"` (northd copies `addresses` as they stand). So what
//! OVN has given is put in the place of `"dynamic"`, and into a mark, from which it is put back should somebody change
//! it. OVN does not give it to another: the addresses of a port that has its own are taken, for OVN.
//!
//! A northbound that was lost knows none of that. What running pods have is in their PodAttachments, as their NICs'
//! agents saw it, and what the server's own port has in the NicNode's status; it counts where the northbound itself says
//! nothing. Of PodAttachments only those count that are older than the loss, that is, than the switch that was written
//! since ([`super::SINCE`]): a NIC does not choose what its next pods get. And nothing that another port of the northbound
//! has. All of it is written before any port that asks OVN ([`super::batch`]), which would else give it away.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use ovsdb_session::{Atom, Datum, Row, Uuid};

use super::observed::Observed;
use super::{ADDRESSES, Table};

/// Asks OVN.
pub const DYNAMIC: &str = "dynamic";

/// What OVN has given the port, if it still fits the subnets.
pub fn given<'a>(row: &'a Row, subnets: &[IpNet]) -> Option<&'a str> {
    let mark = row
        .get("external_ids")
        .and_then(|marks| marks.value_of(&Atom::from(ADDRESSES)))
        .and_then(Atom::as_str);
    let dynamic = row.get("dynamic_addresses").and_then(Datum::as_str);
    mark.into_iter().chain(dynamic).find(|text| fits(text, subnets))
}

/// A MAC, and an address of each subnet.
pub fn fits(text: &str, subnets: &[IpNet]) -> bool {
    let mut parts = text.split(' ');
    let mac = parts.next().is_some_and(|mac| {
        let octets: Vec<&str> = mac.split(':').collect();
        octets.len() == 6
            && octets.iter().all(|octet| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok())
    });
    let ips: Option<Vec<IpAddr>> = parts.map(|ip| ip.parse().ok()).collect();
    mac && ips.is_some_and(|ips| {
        ips.len() == subnets.len() && subnets.iter().all(|subnet| ips.iter().any(|ip| subnet.contains(ip)))
    })
}

/// Who has which MAC and which IP, ours and others'.
pub fn taken(observed: &Observed) -> HashMap<String, BTreeSet<Uuid>> {
    let mut taken: HashMap<String, BTreeSet<Uuid>> = HashMap::new();
    for (uuid, row) in observed.snapshot().table(Table::LogicalSwitchPort.name()) {
        let texts = ["addresses", "dynamic_addresses"].into_iter().filter_map(|column| row.get(column));
        for text in texts.flat_map(Datum::atoms).filter_map(Atom::as_str) {
            for part in text.split_whitespace() {
                let ip = part.parse().map(|ip: IpAddr| ip.to_string());
                taken.entry(ip.unwrap_or_else(|_| part.to_ascii_lowercase())).or_default().insert(uuid);
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(dynamic: Option<&str>, mark: Option<&str>) -> Row {
        let marks = Datum::map(mark.map(|mark| (ADDRESSES, mark)));
        let dynamic = Datum::set(dynamic);
        Row::from_pairs([("external_ids".into(), marks), ("dynamic_addresses".into(), dynamic)])
    }

    #[test]
    fn what_fits_counts_and_the_mark_before_the_rest() {
        let subnets: Vec<IpNet> = ["10.244.1.0/24", "fd00:1::/64"].map(|net| net.parse().unwrap()).to_vec();
        let (one, two) = ("0a:00:00:00:00:01 10.244.1.2 fd00:1::2", "0a:00:00:00:00:01 10.244.1.3 fd00:1::3");
        assert_eq!(given(&row(None, None), &subnets), None);
        assert_eq!(given(&row(Some(one), None), &subnets), Some(one));
        assert_eq!(given(&row(Some(one), Some(two)), &subnets), Some(two));
        for bad in [
            "0a:00:00:00:00:01",
            "0a:00:00:00:00:01 10.244.1.2",
            "0a:00:00:00:00:01 10.244.1.2 10.244.1.3",
            "0a:00:00:00:00:01 10.244.2.2 fd00:1::2",
            "0a:00:00:00:01 10.244.1.2 fd00:1::2",
            "dynamic",
            "",
        ] {
            assert_eq!(given(&row(Some(bad), None), &subnets), None, "{bad}");
            assert_eq!(given(&row(Some(one), Some(bad)), &subnets), Some(one), "{bad}");
        }
    }
}
