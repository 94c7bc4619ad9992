use super::*;

fn link(name: &str, mac: u8, parent: Option<&str>) -> Link {
    Link {
        index: 1,
        name: name.into(),
        mac: Some(Mac([2, 0, 0, 0, 0, mac])),
        mtu: 1500,
        up: false,
        parent: parent.map(str::to_owned),
    }
}

fn marks() -> Marks {
    Marks {
        pci: "0000:03:00.2".parse().unwrap(),
        names: vec!["ens1v0".into()],
        named: Some(("eth0".into(), Mac([2, 0, 0, 0, 0, 7]))),
    }
}

#[test]
fn the_device_below_decides() {
    let links = [link("ens1v0", 1, Some("0000:03:00.3")), link("dev7", 2, Some("0000:03:00.2"))];
    assert_eq!(marks().pick(&links).unwrap().name, "dev7");
    // A namesake of another device is not ours.
    assert_eq!(marks().pick(&links[..1]), None);
}

#[test]
fn where_the_kernel_does_not_name_the_device_names_do() {
    assert_eq!(marks().pick(&[link("ens1v0", 1, None)]).unwrap().name, "ens1v0");
    assert_eq!(marks().pick(&[link("eth0", 7, None)]).unwrap().name, "eth0");
    // Another plugin's eth0.
    assert_eq!(marks().pick(&[link("eth0", 8, None)]), None);
    assert_eq!(Marks::pci_only(marks().pci).pick(&[link("ens1v0", 1, None)]), None);
}
