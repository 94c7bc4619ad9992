use super::*;

fn link(name: &str, mac: u8, parent: Option<&str>) -> Link {
    Link {
        index: 1,
        name: name.into(),
        altnames: Vec::new(),
        alias: Vec::new(),
        mac: Some(MacAddr([2, 0, 0, 0, 0, mac])),
        mtu: 1500,
        up: false,
        parent: parent.map(str::to_owned),
    }
}

fn marks() -> Marks {
    Marks {
        pci: "0000:03:00.2".parse().unwrap(),
        names: vec!["ens1v0".into()],
        named: Some(("eth0".into(), MacAddr([2, 0, 0, 0, 0, 7]))),
        index: None,
        by_device_only: false,
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

#[test]
fn names_that_a_pod_gives_do_not_count() {
    let decoys = [link("ens1v0", 1, None), link("eth0", 7, None)];
    let renamed = Link { index: 9, ..link("mine", 3, None) };
    let by_index = Marks { index: Some(9), ..marks() };
    assert_eq!(by_index.pick(&decoys), None);
    assert_eq!(by_index.pick(&[&decoys[..], &[renamed]].concat()).unwrap().name, "mine");
    // Of another device, whatever its index.
    assert_eq!(by_index.pick(&[Link { index: 9, ..link("x", 1, Some("0000:03:00.3")) }]), None);
    let by_device = Marks { index: Some(1), by_device_only: true, ..marks() };
    assert_eq!(by_device.pick(&decoys), None);
    assert_eq!(by_device.pick(&[link("x", 1, Some("0000:03:00.2"))]).unwrap().name, "x");
}
