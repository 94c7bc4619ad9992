use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(payload.len() + NLMSG_HEADER).unwrap().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(payload);
    bytes
}

fn link(attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = vec![0; 4];
    payload.extend(7_u32.to_ne_bytes());
    payload.extend(0x1003_u32.to_ne_bytes());
    payload.extend([0; 4]);
    payload.extend(attributes.concat());
    message(RTM_NEWLINK, &payload)
}

#[test]
fn a_link_is_read_whatever_its_names_are() {
    let names = [attribute(IFLA_ALT_IFNAME, b"b\xff\0"), attribute(IFLA_ALT_IFNAME, b"eth0\0")].concat();
    let bytes = link(&[
        attribute(IFLA_IFNAME, b"a\xff\0"),
        attribute(IFLA_MTU, &1400_u32.to_ne_bytes()),
        attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]),
        attribute(IFLA_PROP_LIST | 0x8000, &names),
        attribute(IFLA_PARENT_DEV_NAME, b"0000:03:00.2\0"),
    ]);
    let mut links = Vec::new();
    assert!(!read(&bytes, &mut links).unwrap());
    let [link] = links.as_slice() else { panic!("{links:?}") };
    assert_eq!((link.index, link.up, link.mtu, link.name.as_str()), (7, true, 1400, "a\u{fffd}"));
    assert_eq!(link.altnames, [b"b\xff".to_vec(), b"eth0".to_vec()]);
    assert_eq!((link.mac, link.parent.as_deref()), (Some(MacAddr([2, 0, 0, 0, 0, 1])), Some("0000:03:00.2")));
}

#[test]
fn the_end_is_an_answer_or_an_error() {
    assert!(read(&message(NLMSG_DONE, &[0; 4]), &mut Vec::new()).unwrap());
    let refused = message(NLMSG_ERROR, &(-1_i32).to_ne_bytes());
    assert_eq!(read(&refused, &mut Vec::new()).unwrap_err().raw_os_error(), Some(1));
}

#[test]
fn what_is_cut_off_is_an_error_and_no_panic() {
    let whole = link(&[attribute(IFLA_IFNAME, b"eth0\0"), attribute(IFLA_MTU, &[0; 4])]);
    for length in 1..whole.len() {
        assert!(read(whole.get(..length).unwrap(), &mut Vec::new()).is_err(), "{length}");
    }
}
