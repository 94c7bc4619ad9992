//! Datagrams, read without a socket.

use super::*;
use crate::netlink::request::Request;

fn decode_datagram(datagram: &[u8], decode: Decode) -> Vec<Event> {
    let mut events = Vec::new();
    decode_frames(datagram, |frame| decode(frame.kind, frame.payload), || Event::Overrun, &mut events);
    events
}

fn datagram(messages: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, payload) in messages {
        Request::new(*kind, 0, payload.clone()).append_to(&mut bytes, 0, 0, 0);
    }
    bytes
}

/// Family, padding, ifindex, handle, parent, info.
fn header(ifindex: u32, parent: u32) -> Vec<u8> {
    [0, ifindex, 0, parent, 0].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn links_and_tc() {
    let bytes = datagram(&[
        (libc::RTM_NEWLINK, header(4, 0)),
        (libc::RTM_DELLINK, header(5, 0)),
        (libc::RTM_NEWQDISC, header(6, 0)),
        (libc::RTM_DELTFILTER, header(7, 0)),
        (RTM_DELCHAIN, header(8, 0)),
        (libc::RTM_NEWTFILTER, header(MAGIC_BLOCK, 22)),
        (libc::RTM_NEWROUTE, header(9, 0)),
    ]);
    let expected = [
        Event::Link { ifindex: IfIndex(4), gone: false },
        Event::Link { ifindex: IfIndex(5), gone: true },
        Event::Tc { ifindex: IfIndex(6) },
        Event::Tc { ifindex: IfIndex(7) },
        Event::Tc { ifindex: IfIndex(8) },
        Event::TcBlock { block: 22 },
    ];
    assert_eq!(decode_datagram(&bytes, route_event), expected);
}

#[test]
fn what_cannot_be_read_counts_as_lost() {
    let bytes = datagram(&[(libc::RTM_NEWLINK, vec![0; 4]), (libc::RTM_NEWLINK, header(4, 0))]);
    let expected = [Event::Overrun, Event::Link { ifindex: IfIndex(4), gone: false }];
    assert_eq!(decode_datagram(&bytes, route_event), expected);
    assert_eq!(decode_datagram(&[1, 2, 3], route_event), [Event::Overrun]);
}

#[test]
fn devlink_ports_and_devices() {
    let mut device = generic::payload(3, 1);
    device.put_text(1, "pci").put_text(2, "0000:03:00.0");
    let mut port = generic::payload(7, 1);
    port.put_text(1, "pci").put_text(2, "0000:03:00.0").put_u32(3, 9);
    let bytes = datagram(&[(20, device.finish().unwrap()), (20, port.finish().unwrap())]);
    let device: DeviceHandle = "pci/0000:03:00.0".parse().unwrap();
    let expected = [
        Event::Devlink { device: device.clone(), port: None },
        Event::Devlink { device: device.clone(), port: Some(PortHandle { device, index: 9 }) },
    ];
    assert_eq!(decode_datagram(&bytes, devlink_event), expected);
}

#[test]
fn nothing_happens_and_the_wait_ends() {
    let mut monitor = Monitor::open().unwrap();
    let _ = monitor.wait(Duration::ZERO).unwrap();
}
