//! Captured from Linux 6.12 with the simulated NIC and compared with a second decoder.

use super::*;
use crate::netlink::wire::hex;
use netlink_bindings::devlink as oracle;
use proptest::prelude::*;

/// The server's PF.
const HOST_PF: &str = concat!(
    "07010000080001007063690011000200323030313a30333a30302e3000000000080003000000000006000400020000000800",
    "0600030000000b0007007066306870660000050094000000000006004d0003000000080096000100000006007f0000000000",
    "0500950001000000100091000a000100e65538908bcb0000",
);

/// VF 1, with a netdev and no address yet.
const VF1: &str = concat!(
    "07010000080001007063690011000200323030313a30333a30302e3000000000080003000200000006000400020000000800",
    "0600050000000b0007007066307666310000050094000000000006004d0004000000080096000100000006007f0000000000",
    "06008000010000000500950001000000100091000a0001000000000000000000",
);

/// The cable.
const UPLINK: &str = concat!(
    "07010000080001007063690011000200323030313a30333a30302e300000000008000300ffff000006000400020000000800",
    "0600020000000700070070300000050094000000000006004d000000000008004e0000000000",
);

/// In switchdev mode.
const ESWITCH: &str = "1d010000080001007063690011000200323030313a30333a30302e30000000000600190001000000";

/// Driver, serial number, one running version.
const INFO: &str = concat!(
    "33010000080001007063690011000200323030313a30333a30302e30000000000f00630053494d4e49433030303100002000",
    "6500070067006677000011006800302e302e302d73696d6e6963000000000b00620073696d6e69630000",
);

fn handle(index: u32) -> PortHandle {
    PortHandle { device: "pci/2001:03:00.0".parse().unwrap(), index }
}

fn netdev(ifindex: u32, name: &str) -> Netdev {
    Netdev { ifindex: IfIndex(ifindex), name: name.to_owned() }
}

#[test]
fn ports() {
    let pf = Port {
        handle: handle(0),
        kind: PortType::Ethernet,
        flavour: Flavour::PciPf { controller: 1, pf: 0, external: true },
        netdev: Some(netdev(3, "pf0hpf")),
        function_mac: "e6:55:38:90:8b:cb".parse().ok(),
    };
    assert_eq!(decode::port(&hex(HOST_PF)).unwrap(), pf);
    let vf = Port {
        handle: handle(2),
        flavour: Flavour::PciVf { controller: 1, pf: 0, vf: 1, external: true },
        netdev: Some(netdev(5, "pf0vf1")),
        function_mac: Some(MacAddr::ZERO),
        ..pf.clone()
    };
    assert_eq!(decode::port(&hex(VF1)).unwrap(), vf);
    let uplink = Port {
        handle: handle(0xffff),
        flavour: Flavour::Physical { number: Some(0) },
        netdev: Some(netdev(2, "p0")),
        function_mac: None,
        ..pf
    };
    assert_eq!(decode::port(&hex(UPLINK)).unwrap(), uplink);
}

#[test]
fn mode_and_info() {
    assert_eq!(decode::eswitch(&hex(ESWITCH)).unwrap().mode, EswitchMode::Switchdev);
    let info = Info {
        driver: Some("simnic".to_owned()),
        serial: Some("SIMNIC0001".to_owned()),
        board_serial: None,
        running: vec![("fw".to_owned(), "0.0.0-simnic".to_owned())],
    };
    assert_eq!(decode::info(&hex(INFO)).unwrap(), info);
}

#[test]
fn the_second_decoder_agrees() {
    for capture in [HOST_PF, VF1, UPLINK] {
        let bytes = hex(capture);
        let theirs = oracle::OpPortGetDo::decode_request(&bytes);
        let ours = decode::port(&bytes).unwrap();
        assert_eq!(theirs.get_port_index().unwrap(), ours.handle.index);
        assert_eq!(theirs.get_dev_name().unwrap().to_str().unwrap(), ours.handle.device.device);
    }
}

#[test]
fn a_request_names_its_device() {
    let mut writer = named(CMD_PORT_SET, &handle(2).device);
    writer.put_u32(ATTR_PORT_INDEX, 2).nest(ATTR_PORT_FUNCTION, |f| {
        f.put(FUNCTION_HW_ADDR, &[2, 0, 0, 0, 0, 1]);
    });
    let bytes = writer.finish().unwrap();
    let theirs = oracle::OpPortSetDo::decode_request(&bytes);
    assert_eq!(theirs.get_bus_name().unwrap(), c"pci");
    assert_eq!(theirs.get_port_index().unwrap(), 2);
    assert_eq!(theirs.get_port_function().unwrap().get_hw_addr().unwrap(), [2, 0, 0, 0, 0, 1]);
}

#[test]
fn device_text() {
    let device: DeviceHandle = "pci/0000:03:00.0".parse().unwrap();
    assert_eq!(device.to_string(), "pci/0000:03:00.0");
    for bad in ["", "pci", "/x", "pci/", "pci/0000:03:00.0/3"] {
        assert!(bad.parse::<DeviceHandle>().is_err(), "{bad}");
    }
}

/// Kernels before 5.10 know neither controllers nor `external`.
#[test]
fn a_pf_that_is_not_said_to_be_ours_is_the_servers() {
    let mut bytes = hex(HOST_PF);
    for known in [[5, 0, 149, 0], [8, 0, 150, 0]] {
        let at = bytes.windows(4).position(|w| w == known).unwrap();
        bytes[at + 3] = 0x3f;
    }
    let flavour = decode::port(&bytes).unwrap().flavour;
    assert_eq!(flavour, Flavour::PciPf { controller: 0, pf: 0, external: true });
    let mut own = hex(HOST_PF);
    let at = own.windows(5).position(|w| w == [5, 0, 149, 0, 1]).unwrap();
    own[at + 4] = 0;
    assert_eq!(decode::port(&own).unwrap().flavour, Flavour::PciPf { controller: 1, pf: 0, external: false });
}

#[test]
fn a_vf_port_without_its_number_is_malformed() {
    let mut bytes = hex(VF1);
    // PORT_PCI_VF_NUMBER (128) becomes something that nobody knows.
    let at = bytes.windows(4).position(|w| w == [6, 0, 128, 0]).unwrap();
    bytes[at + 3] = 0x3f;
    assert!(decode::port(&bytes).is_err());
}

/// A parameter's answer, by the numbers of include/uapi/linux/devlink.h: name 81, type 83, values 84 and 85, data 86, mode 87.
fn param(kind: u8, values: &[(u8, Option<&[u8]>)]) -> Vec<u8> {
    let mut writer = generic::payload(38, 1);
    writer.put_text(1, "pci").put_text(2, "0000:03:00.0").nest(80, |param| {
        param.put_text(81, "flow_steering_mode").put_u8(83, kind).nest(84, |list| {
            for (mode, data) in values {
                list.nest(85, |value| {
                    if let Some(data) = data {
                        value.put(86, data);
                    }
                    value.put_u8(87, *mode);
                });
            }
        });
    });
    writer.finish().unwrap()
}

#[test]
fn a_parameter_has_its_type_and_the_value_of_now() {
    let read = |kind, values: &[(u8, Option<&[u8]>)]| decode::param(&param(kind, values));
    assert_eq!(read(5, &[(0, Some(b"smfs\0"))]), Ok(ParamValue::Text("smfs".into())));
    assert_eq!(read(6, &[(0, Some(b""))]), Ok(ParamValue::Flag(true)));
    assert_eq!(read(6, &[(0, None)]), Ok(ParamValue::Flag(false)));
    assert_eq!(read(3, &[(1, Some(&7u32.to_ne_bytes()))]), Ok(ParamValue::Number(7)));
    // What comes after the next reset of the driver (1) is not in force now.
    let both: [(u8, Option<&[u8]>); 2] = [(1, Some(b"dmfs\0")), (0, Some(b"smfs\0"))];
    assert_eq!(read(5, &both), Ok(ParamValue::Text("smfs".into())));
    for (kind, values) in [(5, vec![]), (5, vec![(0, None)]), (9, vec![(0, Some(&b"x"[..]))])] {
        assert!(read(kind, &values).is_err(), "{kind} {values:?}");
    }
}

#[test]
fn an_eswitch_says_its_modes() {
    let said = |encap: Option<u8>| {
        let mut writer = generic::payload(29, 1);
        writer.put_text(1, "pci").put_text(2, "0000:03:00.0").put_u16(25, 1);
        if let Some(encap) = encap {
            writer.put_u8(62, encap);
        }
        decode::eswitch(&writer.finish().unwrap()).unwrap()
    };
    let switchdev = |encap| Eswitch { mode: EswitchMode::Switchdev, encap };
    assert_eq!(said(None), switchdev(None));
    assert_eq!(said(Some(0)), switchdev(Some(EncapMode::None)));
    assert_eq!(said(Some(1)), switchdev(Some(EncapMode::Basic)));
    assert_eq!(said(Some(2)), switchdev(Some(EncapMode::Other(2))));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (decode::port(&bytes), decode::info(&bytes), decode::eswitch(&bytes), decode::param(&bytes), decode::device_message(&bytes), notified(&bytes));
    }
}
