//! Captured from Linux 6.12 and compared with a second decoder.

use super::*;
use crate::netlink::wire::hex;
use netlink_bindings::rt_link;
use proptest::prelude::*;

/// `pf0vf0` of a simulated NIC, as RTM_GETLINK answers.
const VF: &str = concat!(
    "000001000400000002100000000000000b000300706630766630000008000d00e80300000500100002000000050011000000",
    "000008000400dc050000080032004400000008003300fa26000008001b000000000008001e000000000008003d0000000000",
    "08001f000100000008002800ffff0000080029000000010008003a000000010008003f000000010008004000000001000800",
    "3b000000010008003c00ffff00000500210000000000080023000000000008002f0000000000080030000000000005002700",
    "000000000a0001000eccfcbbdc2600000a000200ffffffffffff00000d0026006331706630766630000000000c0024007369",
    "6d6e69630001cc00170000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000064000700000000000000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "000000000000000000000c002b000500020000000000090006006e6f6f7000000000bc011a008c0002008800010000000000",
    "0000000000000000010000000100000001000000010000000000000001000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    "10270000e803000000000000000000000000000000000000010000002c010a00080001000000000014000500ffff00006c01",
    "0000445f0000e8030000f00002000000000040000000dc05000001000000010000000100000001000000ffffffffa00f0000",
    "e803000000000000803a09008051010003000000580200001000000000000000010000000100000000000000000000000000",
    "0000000000000000000000000000000000000000000001000000000000000000000010270000e80300000100000000000000",
    "00000000010000000000000000000000010000000000000000000000000000000000000080ee360000000000000000000100",
    "000000000000000000000000000000000000000000000004000000000000ffff0000ffffffff010000000000000000000000",
    "1400070000000000000000000000000000000000050008000000000024000e00000000000000000000000000000000000000",
    "000000000000000000000000000011003800323030313a30333a30302e3000000000080039007063690028003e8008000100",
    "7063690011000200323030313a30333a30302e3000000000080003000100000004004180",
);

/// `10.1.2.3/24` of device 4.
const ADDRESS: &str = concat!(
    "0218800004000000080001000a010203080002000a0102030b0003007066307666300000080008008000000014000600ffff",
    "ffffffffffffd2010000d2010000",
);

#[test]
fn a_representor() {
    let device = "0e:cc:fc:bb:dc:26".parse().ok();
    let expected = Link {
        ifindex: IfIndex(4),
        name: "pf0vf0".to_owned(),
        mac: device,
        mtu: 1500,
        up: false,
        running: false,
        carrier: false,
        phys_switch_id: Some(SwitchId(b"simnic\x00\x01".to_vec())),
        phys_port_name: Some("c1pf0vf0".to_owned()),
        parent: Some(("pci".to_owned(), "2001:03:00.0".to_owned())),
        devlink_port: Some(PortHandle { device: "pci/2001:03:00.0".parse().unwrap(), index: 1 }),
        link_netnsid: None,
        master: None,
        kind: None,
    };
    let link = Link::decode(&hex(VF)).unwrap();
    assert_eq!(link, expected);
    assert_eq!(link.phys_switch_id.unwrap().to_string(), "73696d6e69630001");
}

#[test]
fn an_address_and_its_removal() {
    let bytes = hex(ADDRESS);
    let (address, removal) = decode_address(&bytes, IfIndex(4)).unwrap().unwrap();
    assert_eq!(address, Address { address: "10.1.2.3".parse().unwrap(), prefix_length: 24 });
    // Family and prefix length, ifindex, local, address: as `ip addr del` has them.
    assert_eq!(removal.payload, hex("0218000004000000080002000a010203080001000a010203"));
    assert_eq!(decode_address(&bytes, IfIndex(5)).unwrap(), None);
}

#[test]
fn what_we_set_as_a_second_decoder_reads_it() {
    let mut writer = ifinfo(Some(IfIndex(7)), IFF_UP, IFF_UP);
    writer.put_u32(IFLA_MTU, 9000).put_text(IFLA_IFNAME, "p0");
    let bytes = writer.finish().unwrap();
    let (header, attributes) = rt_link::OpSetlinkDo::decode_request(&bytes);
    assert_eq!((header.ifi_index, header.ifi_flags, header.ifi_change), (7, 1, 1));
    assert_eq!(attributes.get_mtu().unwrap(), 9000);
    assert_eq!(attributes.get_ifname().unwrap(), c"p0");
}

#[test]
fn a_device_without_a_name_is_malformed() {
    assert!(Link::decode(&[0; 16]).is_err());
    assert!(Link::decode(&[0; 15]).is_err());
}

/// This machine's own loopback: the one device that every namespace has.
#[test]
fn loopback_of_this_machine() {
    let mut socket = NetlinkSocket::open(crate::netlink::socket::Protocol::Route).unwrap();
    let lo = link_by_name(&mut socket, "lo").unwrap().unwrap();
    assert_eq!(lo.ifindex, IfIndex(1));
    assert!(links(&mut socket).unwrap().iter().any(|link| link.ifindex == lo.ifindex && link.name == "lo"));
    assert_eq!(link_by_name(&mut socket, "no-such-device").unwrap(), None);
    let gone = set_mtu(&mut socket, IfIndex(0x7fff_fff0), 1500).unwrap_err();
    assert!(gone.to_string().starts_with("set the MTU of network device 2147483632 to 1500: "), "{gone}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Link::decode(&bytes), decode_address(&bytes, IfIndex(1)));
    }

    #[test]
    fn a_damaged_capture_does_not_panic(at in 0usize..736, with: u8) {
        let mut bytes = hex(VF);
        bytes[at] = with;
        let _ = Link::decode(&bytes);
    }
}
