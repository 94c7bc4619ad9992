//! devlink: eSwitches, their ports, and which network device represents which function.
//!
//! Sets nothing but a function's MAC address.

mod decode;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::generic;
use super::request::Request;
use super::socket::NetlinkSocket;
use super::wire::{Attributes, Malformed, Writer};
use crate::ids::{IfIndex, MacAddr};

const CMD_GET: u8 = 1;
const CMD_PORT_GET: u8 = 5;
const CMD_PORT_SET: u8 = 6;
const CMD_ESWITCH_GET: u8 = 29;
const CMD_PARAM_GET: u8 = 38;
const CMD_INFO_GET: u8 = 51;

const ATTR_BUS_NAME: u16 = 1;
const ATTR_DEV_NAME: u16 = 2;
const ATTR_PORT_INDEX: u16 = 3;
const ATTR_PARAM_NAME: u16 = 81;
const ATTR_PORT_FUNCTION: u16 = 145;
const FUNCTION_HW_ADDR: u16 = 1;
const VERSION: u8 = 1;
/// The multicast group that reports changes of devices and ports.
pub const CONFIG_GROUP: &str = "config";

/// A devlink device, in text `pci/0000:03:00.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceHandle {
    pub bus: String,
    pub device: String,
}

impl fmt::Display for DeviceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bus, self.device)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a devlink device such as pci/0000:03:00.0")]
pub struct ParseDeviceError {
    pub text: String,
}

impl FromStr for DeviceHandle {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((bus, device)) if !bus.is_empty() && !device.is_empty() && !device.contains('/') => {
                Ok(Self { bus: bus.to_owned(), device: device.to_owned() })
            }
            _ => Err(ParseDeviceError { text: text.to_owned() }),
        }
    }
}

/// A port of a devlink device, in text `pci/0000:03:00.0/3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortHandle {
    pub device: DeviceHandle,
    pub index: u32,
}

impl PortHandle {
    /// From a nest or message that has the three attributes; `None` if one is missing.
    pub fn decode(attributes: Attributes<'_>) -> std::result::Result<Option<Self>, Malformed> {
        let device = decode::device(attributes)?;
        let index = attributes.find(ATTR_PORT_INDEX)?.map(|index| index.u32()).transpose()?;
        Ok(device.zip(index).map(|(device, index)| Self { device, index }))
    }
}

impl fmt::Display for PortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.index)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EswitchMode {
    Legacy,
    Switchdev,
    Other(u16),
}

/// Can the eSwitch put headers of tunnels around packets?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncapMode {
    None,
    Basic,
    Other(u8),
}

/// How a device's eSwitch is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eswitch {
    pub mode: EswitchMode,
    /// `None`: its driver does not say.
    pub encap: Option<EncapMode>,
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamValue {
    Text(String),
    Flag(bool),
    Number(u64),
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// What kind of network device a port has. A port that is being set up has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortType {
    NotSet,
    Auto,
    Ethernet,
    Infiniband,
    Other(u16),
}

/// What is behind a port. A controller other than 0, and `external`, mean: not on the machine that we run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    Physical { number: Option<u32> },
    PciPf { controller: u32, pf: u16, external: bool },
    PciVf { controller: u32, pf: u16, vf: u16, external: bool },
    PciSf { controller: u32, pf: u16, sf: u32, external: bool },
    Other(u16),
}

/// A port's network device, if it is in our network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netdev {
    pub ifindex: IfIndex,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub handle: PortHandle,
    pub kind: PortType,
    pub flavour: Flavour,
    pub netdev: Option<Netdev>,
    /// The MAC address of the function behind the port.
    pub function_mac: Option<MacAddr>,
}

/// Driver and firmware of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    pub driver: Option<String>,
    pub serial: Option<String>,
    pub board_serial: Option<String>,
    /// Running versions by name, for instance `fw.version`.
    pub running: Vec<(String, String)>,
}

/// A generic netlink socket that knows devlink's number.
pub struct Devlink {
    socket: NetlinkSocket,
    family: generic::Family,
}

impl Devlink {
    /// Opens a socket in the calling thread's network namespace. devlink shows the devices of that namespace only.
    pub fn open() -> Result<Self> {
        let mut socket = generic::open()?;
        let family = generic::family(&mut socket, "devlink")?;
        Ok(Self { socket, family })
    }

    /// The number of the multicast group that reports changes.
    pub fn config_group(&self) -> Option<u32> {
        self.family.group(CONFIG_GROUP)
    }

    fn command(&self, operation: fmt::Arguments<'_>, writer: Writer) -> Result<Request> {
        let payload = writer
            .finish()
            .map_err(|source| Error::Malformed { operation: operation.to_string(), source })?;
        Ok(Request::new(self.family.id, 0, payload))
    }

    fn get<T>(
        &mut self,
        operation: fmt::Arguments<'_>,
        writer: Writer,
        decode: impl Fn(&[u8]) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        let request = self.command(operation, writer)?;
        let answer = self.socket.request(operation, &request)?;
        let first = answer.payloads.first().ok_or_else(|| Malformed::new("an empty answer"));
        first
            .and_then(|payload| decode(payload))
            .map_err(|source| Error::Malformed { operation: operation.to_string(), source })
    }

    /// All devices.
    pub fn devices(&mut self) -> Result<Vec<DeviceHandle>> {
        let operation = format_args!("list the devlink devices");
        let request = self.command(operation, generic::payload(CMD_GET, VERSION))?;
        self.socket.dump(operation, &request, |payload| decode::device_message(payload).map(Some))
    }

    /// All ports of all devices.
    pub fn ports(&mut self) -> Result<Vec<Port>> {
        let operation = format_args!("list the devlink ports");
        let request = self.command(operation, generic::payload(CMD_PORT_GET, VERSION))?;
        self.socket.dump(operation, &request, |payload| decode::port(payload).map(Some))
    }

    /// A port, as the kernel has it now.
    pub fn port(&mut self, handle: &PortHandle) -> Result<Port> {
        let mut writer = named(CMD_PORT_GET, &handle.device);
        writer.put_u32(ATTR_PORT_INDEX, handle.index);
        self.get(format_args!("read devlink port {handle}"), writer, decode::port)
    }

    /// The mode of a device's eSwitch. Devices that have none refuse with `EOPNOTSUPP`.
    pub fn eswitch_mode(&mut self, device: &DeviceHandle) -> Result<EswitchMode> {
        self.eswitch(device).map(|eswitch| eswitch.mode)
    }

    /// How a device's eSwitch is set. Devices that have none refuse with `EOPNOTSUPP`.
    pub fn eswitch(&mut self, device: &DeviceHandle) -> Result<Eswitch> {
        let operation = format_args!("read the eSwitch mode of {device}");
        self.get(operation, named(CMD_ESWITCH_GET, device), decode::eswitch)
    }

    /// A parameter of the device's driver, as it is now (`devlink dev param show DEVICE name NAME`). One that the driver does
    /// not have is an error.
    pub fn param(&mut self, device: &DeviceHandle, name: &str) -> Result<ParamValue> {
        let mut writer = named(CMD_PARAM_GET, device);
        writer.put_text(ATTR_PARAM_NAME, name);
        self.get(format_args!("read parameter {name} of {device}"), writer, decode::param)
    }

    /// Driver, serial numbers and running firmware.
    pub fn info(&mut self, device: &DeviceHandle) -> Result<Info> {
        self.get(
            format_args!("read driver and firmware of {device}"),
            named(CMD_INFO_GET, device),
            decode::info,
        )
    }

    /// Gives the function behind a port its MAC address (`devlink port function set ... hw_addr`). The host sees it at
    /// the latest when its driver binds again.
    pub fn set_function_mac(&mut self, port: &PortHandle, mac: MacAddr) -> Result<()> {
        let operation = format_args!("set the MAC address behind devlink port {port} to {mac}");
        let mut writer = named(CMD_PORT_SET, &port.device);
        writer.put_u32(ATTR_PORT_INDEX, port.index).nest(ATTR_PORT_FUNCTION, |function| {
            function.put(FUNCTION_HW_ADDR, &mac.0);
        });
        let request = self.command(operation, writer)?;
        self.socket.request(operation, &request).map(drop)
    }
}

fn named(command: u8, device: &DeviceHandle) -> Writer {
    let mut writer = generic::payload(command, VERSION);
    writer.put_text(ATTR_BUS_NAME, &device.bus).put_text(ATTR_DEV_NAME, &device.device);
    writer
}

/// What a notification of devlink is about: a port, or only a device.
pub(super) fn notified(
    payload: &[u8],
) -> std::result::Result<Option<(DeviceHandle, Option<PortHandle>)>, Malformed> {
    let attributes = Attributes::after(payload, generic::HEADER)?;
    Ok(decode::device(attributes)?.zip(Some(PortHandle::decode(attributes)?)))
}

#[cfg(test)]
mod tests;
