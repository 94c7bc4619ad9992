//! The program, without a kubelet.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn it_says_what_it_wants_and_offers_nothing_that_is_not_there() {
    let said = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_device-plugin")).args(arguments).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    assert!(said(&[]).contains("RESOURCE PF"));
    assert!(said(&["drawbridge.dev/vf", "ffff:ff:1f.7"]).contains("ffff:ff:1f.7"));
}
