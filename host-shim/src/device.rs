//! The VF in sysfs: which PF it is of and which number it has there.
//!
//! Only `physfn` and `virtfnN` are read (Documentation/ABI/testing/sysfs-bus-pci). Never the PF's VF information over
//! netlink: on a host whose NIC is run by its DPU there is none, because the host's PF is not the eSwitch's manager
//! (mlx5: `mlx5e_is_eswitch_manager()` gates `ndo_get_vf_config`).
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A VF that cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    #[error("{0:?} is not a PCI address such as 0000:03:00.2")]
    Address(String),
    #[error("the host has no PCI device {0}: are its VFs enabled (sriov_numvfs)?")]
    Absent(PciAddress),
    #[error("PCI device {0} is not a VF: it has no physfn")]
    NotVf(PciAddress),
    #[error("PCI device {pf} does not list {vf} among its VFs: the NIC changed while we looked; try again")]
    NotListed { pf: PciAddress, vf: PciAddress },
    #[error("VF {vf} is bound to {driver}, not to a network driver: host-shim needs its network interface")]
    Driver { vf: PciAddress, driver: String },
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// `domain:bus:device.function`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    pub fn function(self) -> u8 {
        self.function
    }

    /// A name for the VF's interface while it is on its way: no other device of this machine gets it, and it fits
    /// IFNAMSIZ.
    pub fn transit_name(self) -> String {
        format!("vf{:04x}{:02x}{:02x}{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = DeviceError;
    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            // A domain has four digits, or more on hosts with VMD or Hyper-V (pci_setup_device() prints "%04x").
            let address = Self {
                domain: hex(domain, 4..=8)?,
                bus: hex(bus, 2..=2)?.try_into().ok()?,
                device: hex(device, 2..=2)?.try_into().ok()?,
                function: hex(function, 1..=1)?.try_into().ok()?,
            };
            (address.device < 32 && address.function < 8).then_some(address)
        };
        parse().ok_or_else(|| DeviceError::Address(text.to_owned()))
    }
}

fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let good = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl TryFrom<String> for PciAddress {
    type Error = DeviceError;
    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

/// A VF by the numbers that the NIC knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vf {
    pub address: PciAddress,
    /// PCI function number of the PF.
    pub pf: u8,
    /// N of `virtfnN`.
    pub index: u32,
}

/// The tree below `/sys`, or a test's.
#[derive(Debug, Clone)]
pub struct Sysfs(PathBuf);

impl Sysfs {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    fn device(&self, address: PciAddress) -> PathBuf {
        self.0.join("bus/pci/devices").join(address.to_string())
    }

    /// Finds PF and number of a VF.
    pub fn vf(&self, address: PciAddress) -> Result<Vf, DeviceError> {
        let device = self.device(address);
        if !device.exists() {
            return Err(DeviceError::Absent(address));
        }
        let pf = match link_target(&device.join("physfn")) {
            Ok(pf) => pf,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DeviceError::NotVf(address)),
            Err(source) => return Err(DeviceError::Io { path: device.join("physfn"), source }),
        };
        let pf: PciAddress = pf.parse()?;
        let directory = self.device(pf);
        let entries =
            fs::read_dir(&directory).map_err(|source| DeviceError::Io { path: directory.clone(), source })?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix("virtfn")).and_then(|n| n.parse().ok());
            if let Some(index) = number
                && link_target(&entry.path())
                    .is_ok_and(|target| target.parse().is_ok_and(|vf: PciAddress| vf == address))
            {
                return Ok(Vf { address, pf: pf.function(), index });
            }
        }
        Err(DeviceError::NotListed { pf, vf: address })
    }

    /// Names of the VF's network interfaces as sysfs shows them: those in the network namespace that the tree was
    /// mounted from. Empty also when the interface is in a pod.
    pub fn interfaces(&self, address: PciAddress) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.device(address).join("net")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Complains about a VF that was given to a virtual machine's driver.
    pub fn check_driver(&self, address: PciAddress) -> Result<(), DeviceError> {
        match link_target(&self.device(address).join("driver")) {
            Ok(driver) if driver.starts_with("vfio") || driver.starts_with("uio") => {
                Err(DeviceError::Driver { vf: address, driver })
            }
            _ => Ok(()),
        }
    }
}

fn link_target(path: &Path) -> io::Result<String> {
    let target = fs::read_link(path)?;
    target
        .file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a link to nothing"))
}

#[cfg(test)]
mod tests;
