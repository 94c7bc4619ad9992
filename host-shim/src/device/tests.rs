use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

fn pci(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// PF 1001:03:00.1 with two VFs, as a kernel lays it out: links to places below sys/devices.
fn tree() -> TempDir {
    let root = TempDir::new().unwrap();
    let real = root.path().join("devices/pci1001:00");
    let bus = root.path().join("bus/pci/devices");
    fs::create_dir_all(&bus).unwrap();
    for name in ["1001:03:00.1", "1001:03:01.0", "1001:03:01.1", "1001:03:01.2"] {
        fs::create_dir_all(real.join(name)).unwrap();
        symlink(format!("../../../devices/pci1001:00/{name}"), bus.join(name)).unwrap();
    }
    for (index, name) in [(0, "1001:03:01.0"), (7, "1001:03:01.1")] {
        symlink("../1001:03:00.1", real.join(name).join("physfn")).unwrap();
        symlink(format!("../{name}"), real.join(format!("1001:03:00.1/virtfn{index}"))).unwrap();
    }
    // One that its PF does not know.
    symlink("../1001:03:00.1", real.join("1001:03:01.2/physfn")).unwrap();
    fs::create_dir_all(real.join("1001:03:01.0/net/ens1v0")).unwrap();
    root
}

#[test]
fn addresses() {
    for text in ["0000:03:00.2", "1001:ff:1f.7", "10000:00:00.0", "abcdef01:00:00.0"] {
        assert_eq!(pci(text).to_string(), text);
        assert!(pci(text).transit_name().len() <= 15);
    }
    for text in [
        "",
        "03:00.2",
        "0000:03:00",
        "0000:03:20.0",
        "0000:03:00.8",
        "0000:3:00.0",
        "+000:03:00.0",
        "0000:03:00.0/",
    ] {
        assert!(text.parse::<PciAddress>().is_err(), "{text}");
    }
    assert_ne!(pci("0000:03:00.2").transit_name(), pci("0000:30:02.0").transit_name());
}

#[test]
fn pf_and_number_come_from_physfn_and_virtfn() {
    let root = tree();
    let sysfs = Sysfs::new(root.path());
    let vf = sysfs.vf(pci("1001:03:01.1")).unwrap();
    assert_eq!((vf.pf, vf.index), (1, 7));
    assert_eq!(sysfs.vf(pci("1001:03:01.0")).unwrap().index, 0);
    assert_eq!(sysfs.interfaces(pci("1001:03:01.0")), ["ens1v0"]);
    assert_eq!(sysfs.interfaces(pci("1001:03:01.1")), [] as [&str; 0]);
}

#[test]
fn what_is_no_vf_is_said() {
    let root = tree();
    let sysfs = Sysfs::new(root.path());
    assert!(matches!(sysfs.vf(pci("1001:03:00.1")), Err(DeviceError::NotVf(_))));
    assert!(matches!(sysfs.vf(pci("1001:03:09.0")), Err(DeviceError::Absent(_))));
    assert!(matches!(sysfs.vf(pci("1001:03:01.2")), Err(DeviceError::NotListed { .. })));
}

#[test]
fn a_vf_of_a_virtual_machine_is_said() {
    let root = tree();
    let sysfs = Sysfs::new(root.path());
    let device = root.path().join("bus/pci/devices/1001:03:01.0");
    symlink("../../../bus/pci/drivers/mlx5_core", device.join("driver")).unwrap();
    sysfs.check_driver(pci("1001:03:01.0")).unwrap();
    fs::remove_file(device.join("driver")).unwrap();
    symlink("../../../bus/pci/drivers/vfio-pci", device.join("driver")).unwrap();
    let error = sysfs.check_driver(pci("1001:03:01.0")).unwrap_err().to_string();
    assert!(error.contains("vfio-pci"), "{error}");
}
