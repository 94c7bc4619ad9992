//! Frames by hand, as no stack would send them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::command::{Output, place};

pub const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";

fn hex_of_mac(mac: &str) -> String {
    mac.replace(':', "")
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Of what [`hex`] made.
pub fn bytes(hex: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
    hex.as_bytes().chunks(2).map(pair).collect()
}

/// RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// An Ethernet frame from an EtherType and what follows it.
pub fn ethernet(destination: &str, source: &str, ethertype: u16, payload: &[u8]) -> String {
    format!("{}{}{ethertype:04x}{}", hex_of_mac(destination), hex_of_mac(source), hex(payload))
}

/// The same behind one VLAN tag.
pub fn tagged(destination: &str, source: &str, vlan: u16, ethertype: u16, payload: &[u8]) -> String {
    let mut inside = vlan.to_be_bytes().to_vec();
    inside.extend(ethertype.to_be_bytes());
    inside.extend(payload);
    ethernet(destination, source, 0x8100, &inside)
}

pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("short");
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    header
}

/// UDP without a checksum, which IPv4 allows.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for field in [source, destination, u16::try_from(8 + payload.len()).expect("short"), 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// An ARP reply "`ip` is at `mac`" (op 2), or the gratuitous request (op 1).
pub fn arp(operation: u16, mac: &str, ip: Ipv4Addr, to_mac: &str, to_ip: Ipv4Addr) -> Vec<u8> {
    let bytes = |mac: &str| -> Vec<u8> {
        mac.split(':').map(|part| u8::from_str_radix(part, 16).expect("a MAC")).collect()
    };
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(bytes(mac));
    packet.extend(ip.octets());
    packet.extend(bytes(to_mac));
    packet.extend(to_ip.octets());
    packet
}

pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
    header.extend([next, hops]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header.extend(payload);
    header
}

/// ICMPv6 with its checksum over the pseudo-header, and the hop limit of neighbour discovery.
pub fn icmp6(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    icmp6_hops(source, destination, 255, message)
}

/// The same with another hop limit.
pub fn icmp6_hops(source: Ipv6Addr, destination: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<u8> {
    let mut covered = source.octets().to_vec();
    covered.extend(destination.octets());
    covered.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    covered.extend([0, 0, 0, 58]);
    covered.extend(message);
    let sum = checksum(&covered);
    let mut packet = message.to_vec();
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(source, destination, 58, hops, &packet)
}

fn hardware_address(mac: &str) -> impl Iterator<Item = u8> + '_ {
    mac.split(':').map(|part| u8::from_str_radix(part, 16).expect("a MAC"))
}

/// The message of a neighbour solicitation: "who has `target`? Tell `mac`".
pub fn solicitation(target: Ipv6Addr, mac: &str) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(hardware_address(mac));
    message
}

/// The message of an unsolicited neighbour advertisement: "`target` is at `mac`", override set.
pub fn advertisement(target: Ipv6Addr, mac: &str) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(hardware_address(mac));
    message
}

/// UDP over IPv6, where a datagram without a checksum is none.
pub fn udp6(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = udp(ports.0, ports.1, payload);
    let mut covered = source.octets().to_vec();
    covered.extend(destination.octets());
    covered.extend(u32::try_from(datagram.len()).expect("short").to_be_bytes());
    covered.extend([0, 0, 0, 17]);
    covered.extend(&datagram);
    let sum = checksum(&covered);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv6(source, destination, 17, 64, &datagram)
}

/// An unsolicited neighbour advertisement: "`target` is at `mac`", override set.
pub fn neighbour_advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: &str,
) -> Vec<u8> {
    icmp6(source, destination, &advertisement(target, mac))
}

/// Sends a frame as it is, `count` times.
#[track_caller]
pub fn send(at: &str, interface: &str, frame: &str, count: u32) -> Output {
    let bytes: Vec<&str> =
        frame.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex")).collect();
    let text = bytes.join(":");
    place(at, &["mausezahn", interface, "-q", "-c", &count.to_string(), "-d", "2msec", &text])
}
