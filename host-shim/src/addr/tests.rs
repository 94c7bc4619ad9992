use super::*;

#[test]
fn prefixes_are_read_strictly() {
    for text in ["10.0.0.1/24", "10.0.0.1/0", "10.0.0.1/32", "fd00::a/64", "::/0", "fd00::a/128"] {
        assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
    }
    for text in [
        "10.0.0.1",
        "10.0.0.1/33",
        "fd00::a/129",
        "10.0.0.1/",
        "10.0.0.1/+8",
        "10.0.0.1/-1",
        "x/8",
        "10.0.0.1/256",
    ] {
        assert_eq!(text.parse::<Prefix>(), Err(AddrError::Prefix(text.into())), "{text}");
    }
}

#[test]
fn a_network_has_no_host_bits() {
    for (text, network) in [
        ("10.244.3.10/24", "10.244.3.0/24"),
        ("10.244.3.10/0", "0.0.0.0/0"),
        ("10.244.3.10/32", "10.244.3.10/32"),
        ("fd00::a/64", "fd00::/64"),
        ("fd00::a/0", "::/0"),
        ("fd00::a/128", "fd00::a/128"),
    ] {
        assert_eq!(text.parse::<Prefix>().unwrap().network().to_string(), network);
    }
}

#[test]
fn a_prefix_contains_its_own_family_only() {
    let prefix: Prefix = "10.244.3.10/24".parse().unwrap();
    assert!(prefix.contains("10.244.3.1".parse().unwrap()));
    assert!(!prefix.contains("10.244.4.1".parse().unwrap()));
    assert!(!"0.0.0.0/0".parse::<Prefix>().unwrap().contains("fd00::1".parse().unwrap()));
}
