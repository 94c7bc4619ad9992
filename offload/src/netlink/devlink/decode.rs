//! devlink's messages, read.

use super::{
    DeviceHandle, EncapMode, Eswitch, EswitchMode, Flavour, Info, Netdev, ParamValue, Port, PortHandle,
    PortType,
};
use crate::ids::IfIndex;
use crate::netlink::generic::HEADER;
use crate::netlink::wire::{Attributes, Malformed};

const PORT_TYPE: u16 = 4;
const PORT_NETDEV_IFINDEX: u16 = 6;
const PORT_NETDEV_NAME: u16 = 7;
const ESWITCH_MODE: u16 = 25;
const ESWITCH_ENCAP_MODE: u16 = 62;
const PORT_FLAVOUR: u16 = 77;
const PORT_NUMBER: u16 = 78;
const PARAM: u16 = 80;
const PARAM_TYPE: u16 = 83;
const PARAM_VALUES_LIST: u16 = 84;
const PARAM_VALUE: u16 = 85;
const PARAM_VALUE_DATA: u16 = 86;
const PARAM_VALUE_CMODE: u16 = 87;
const INFO_DRIVER_NAME: u16 = 98;
const INFO_SERIAL_NUMBER: u16 = 99;
const INFO_VERSION_RUNNING: u16 = 101;
const INFO_VERSION_NAME: u16 = 103;
const INFO_VERSION_VALUE: u16 = 104;
const PORT_PCI_PF_NUMBER: u16 = 127;
const PORT_PCI_VF_NUMBER: u16 = 128;
const INFO_BOARD_SERIAL_NUMBER: u16 = 146;
const PORT_EXTERNAL: u16 = 149;
const PORT_CONTROLLER_NUMBER: u16 = 150;
const PORT_PCI_SF_NUMBER: u16 = 164;

/// `NLA_U8` and so on, as the kernel numbers them for itself (include/net/netlink.h).
const TYPE_U8: u8 = 1;
const TYPE_U16: u8 = 2;
const TYPE_U32: u8 = 3;
const TYPE_U64: u8 = 4;
const TYPE_STRING: u8 = 5;
const TYPE_FLAG: u8 = 6;
/// `DEVLINK_PARAM_CMODE_RUNTIME`.
const CMODE_RUNTIME: u8 = 0;

const FLAVOUR_PHYSICAL: u16 = 0;
const FLAVOUR_PCI_PF: u16 = 3;
const FLAVOUR_PCI_VF: u16 = 4;
const FLAVOUR_PCI_SF: u16 = 7;
/// What the kernel calls a flavour that we were not told.
const FLAVOUR_UNKNOWN: u16 = u16::MAX;

pub(super) fn device(attributes: Attributes<'_>) -> Result<Option<DeviceHandle>, Malformed> {
    let bus = attributes.find(super::ATTR_BUS_NAME)?;
    let device = attributes.find(super::ATTR_DEV_NAME)?;
    Ok(bus.zip(device).map(|(bus, device)| DeviceHandle { bus: bus.text(), device: device.text() }))
}

pub(super) fn device_message(payload: &[u8]) -> Result<DeviceHandle, Malformed> {
    device(Attributes::after(payload, HEADER)?)?
        .ok_or_else(|| Malformed::new("a devlink device without a name"))
}

pub(super) fn eswitch(payload: &[u8]) -> Result<Eswitch, Malformed> {
    let attributes = Attributes::after(payload, HEADER)?;
    let mode =
        attributes.find(ESWITCH_MODE)?.ok_or_else(|| Malformed::new("an eSwitch without a mode"))?.u16()?;
    let encap = attributes.find(ESWITCH_ENCAP_MODE)?.map(|encap| encap.u8()).transpose()?;
    Ok(Eswitch {
        mode: match mode {
            0 => EswitchMode::Legacy,
            1 => EswitchMode::Switchdev,
            other => EswitchMode::Other(other),
        },
        encap: encap.map(|encap| match encap {
            0 => EncapMode::None,
            1 => EncapMode::Basic,
            other => EncapMode::Other(other),
        }),
    })
}

/// The value that is in force: of runtime, or else the one that there is.
pub(super) fn param(payload: &[u8]) -> Result<ParamValue, Malformed> {
    let missing = || Malformed::new("a devlink parameter without a type or a value");
    let param = Attributes::after(payload, HEADER)?.find(PARAM)?.ok_or_else(missing)?.nested();
    let kind = param.find(PARAM_TYPE)?.ok_or_else(missing)?.u8()?;
    let (mut first, mut runtime) = (None, None);
    for value in param.find(PARAM_VALUES_LIST)?.ok_or_else(missing)?.nested() {
        let value = value?;
        if value.kind == PARAM_VALUE {
            first = first.or(Some(value.nested()));
            let mode = value.nested().find(PARAM_VALUE_CMODE)?.map(|mode| mode.u8()).transpose()?;
            runtime = runtime.or((mode == Some(CMODE_RUNTIME)).then(|| value.nested()));
        }
    }
    let data = runtime.or(first).ok_or_else(missing)?.find(PARAM_VALUE_DATA)?;
    // A flag that is not set has no data.
    if kind == TYPE_FLAG {
        return Ok(ParamValue::Flag(data.is_some()));
    }
    let data = data.ok_or_else(missing)?;
    Ok(match kind {
        TYPE_STRING => ParamValue::Text(data.text()),
        TYPE_U8 => ParamValue::Number(data.u8()?.into()),
        TYPE_U16 => ParamValue::Number(data.u16()?.into()),
        TYPE_U32 => ParamValue::Number(data.u32()?.into()),
        TYPE_U64 => ParamValue::Number(data.u64()?),
        other => return Err(Malformed::new(format!("a devlink parameter of the unknown type {other}"))),
    })
}

pub(super) fn info(payload: &[u8]) -> Result<Info, Malformed> {
    let mut info = Info::default();
    for attribute in Attributes::after(payload, HEADER)? {
        let attribute = attribute?;
        match attribute.kind {
            INFO_DRIVER_NAME => info.driver = Some(attribute.text()),
            INFO_SERIAL_NUMBER => info.serial = Some(attribute.text()),
            INFO_BOARD_SERIAL_NUMBER => info.board_serial = Some(attribute.text()),
            INFO_VERSION_RUNNING => {
                let name = attribute.nested().find(INFO_VERSION_NAME)?;
                let value = attribute.nested().find(INFO_VERSION_VALUE)?;
                info.running.extend(name.zip(value).map(|(name, value)| (name.text(), value.text())));
            }
            _ => {}
        }
    }
    Ok(info)
}

/// The numbers of a port, before its flavour says which of them mean something.
#[derive(Default)]
struct Numbers {
    flavour: Option<u16>,
    number: Option<u32>,
    controller: u32,
    external: Option<bool>,
    pf: Option<u16>,
    vf: Option<u16>,
    sf: Option<u32>,
}

impl Numbers {
    fn flavour(self) -> Result<Flavour, Malformed> {
        let missing = || Malformed::new("a devlink port without the numbers that its flavour has");
        let Self { flavour, number, controller, external, pf, vf, sf } = self;
        // Kernels before 5.10 do not say. What is not said to be the NIC's own is the server's.
        let external = external.unwrap_or(true);
        Ok(match flavour.unwrap_or(FLAVOUR_UNKNOWN) {
            FLAVOUR_PHYSICAL => Flavour::Physical { number },
            FLAVOUR_PCI_PF => Flavour::PciPf { controller, pf: pf.ok_or_else(missing)?, external },
            FLAVOUR_PCI_VF => {
                let (pf, vf) = pf.zip(vf).ok_or_else(missing)?;
                Flavour::PciVf { controller, pf, vf, external }
            }
            FLAVOUR_PCI_SF => {
                let (pf, sf) = pf.zip(sf).ok_or_else(missing)?;
                Flavour::PciSf { controller, pf, sf, external }
            }
            other => Flavour::Other(other),
        })
    }
}

pub(super) fn port(payload: &[u8]) -> Result<Port, Malformed> {
    let attributes = Attributes::after(payload, HEADER)?;
    let handle = PortHandle::decode(attributes)?
        .ok_or_else(|| Malformed::new("a devlink port without device and number"))?;
    let mut numbers = Numbers::default();
    let (mut kind, mut ifindex, mut name, mut function_mac) = (PortType::NotSet, None, None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            PORT_TYPE => {
                kind = match attribute.u16()? {
                    0 => PortType::NotSet,
                    1 => PortType::Auto,
                    2 => PortType::Ethernet,
                    3 => PortType::Infiniband,
                    other => PortType::Other(other),
                }
            }
            PORT_NETDEV_IFINDEX => ifindex = Some(IfIndex(attribute.u32()?)),
            PORT_NETDEV_NAME => name = Some(attribute.text()),
            PORT_FLAVOUR => numbers.flavour = Some(attribute.u16()?),
            PORT_NUMBER => numbers.number = Some(attribute.u32()?),
            PORT_CONTROLLER_NUMBER => numbers.controller = attribute.u32()?,
            PORT_EXTERNAL => numbers.external = Some(attribute.u8()? != 0),
            PORT_PCI_PF_NUMBER => numbers.pf = Some(attribute.u16()?),
            PORT_PCI_VF_NUMBER => numbers.vf = Some(attribute.u16()?),
            PORT_PCI_SF_NUMBER => numbers.sf = Some(attribute.u32()?),
            super::ATTR_PORT_FUNCTION => {
                function_mac = attribute.nested().find(super::FUNCTION_HW_ADDR)?.and_then(|mac| mac.mac());
            }
            _ => {}
        }
    }
    let netdev = ifindex.zip(name).map(|(ifindex, name)| Netdev { ifindex, name });
    Ok(Port { handle, kind, flavour: numbers.flavour()?, netdev, function_mac })
}
