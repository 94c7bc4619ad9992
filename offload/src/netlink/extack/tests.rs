//! Captured from Linux 6.12.

use super::*;
use crate::netlink::frame::{Frame, Frames};
use crate::netlink::wire::hex;
use proptest::prelude::*;

/// `ip link set mtu 100000`: capped, with attributes.
const MTU: &str = concat!(
    "eaffffff28000000130005000700000000000000240001006d74752067726561746572207468616e20646576696365206d61",
    "78696d756d00",
);

/// No such device: capped, no attributes.
const MISSING: &str = "edffffff20000000120005000700000000000000";

#[test]
fn the_kernels_words() {
    let ack = Ack::from_error(0x300, &hex(MTU)).unwrap();
    assert_eq!(ack, Ack { code: -libc::EINVAL, text: Some("mtu greater than device maximum".to_owned()) });
    let ack = Ack::from_error(0x100, &hex(MISSING)).unwrap();
    assert_eq!(ack, Ack { code: -libc::ENODEV, text: None });
}

#[test]
fn without_capping_the_request_stands_in_between() {
    let mut bytes = hex(MISSING);
    bytes.extend([0; 16]);
    bytes.extend([8, 0, 2, 0, 20, 0, 0, 0]);
    let ack = Ack::from_error(0x200, &bytes).unwrap();
    assert_eq!(ack.text.as_deref(), Some("at byte 20 of the request"));
}

#[test]
fn the_end_of_a_dump_may_carry_an_error() {
    assert_eq!(Ack::from_done(2, &[]).unwrap().code, 0);
    assert_eq!(Ack::from_done(2, &[0; 4]).unwrap().code, 0);
    let mut bytes = (-95i32).to_ne_bytes().to_vec();
    bytes.extend([7, 0, 1, 0, b'n', b'o', 0, 0]);
    assert_eq!(Ack::from_done(0x202, &bytes).unwrap(), Ack { code: -95, text: Some("no".to_owned()) });
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(flags: u16, bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = (Ack::from_error(flags, &bytes), Ack::from_done(flags, &bytes));
        let frames: Vec<_> = Frames::new(&bytes).collect();
        let payload: usize = frames.iter().flatten().map(|frame: &Frame<'_>| frame.payload.len() + 16).sum();
        prop_assert!(payload <= bytes.len());
    }
}
