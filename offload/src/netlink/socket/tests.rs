//! Against this machine's kernel, with requests that change nothing.

use super::*;
use crate::netlink::wire::u32_at;

fn get_link(index: u32) -> Request {
    let mut payload = vec![0; 16];
    payload[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(libc::RTM_GETLINK, 0, payload)
}

#[test]
fn a_batch_has_an_outcome_for_each_request() {
    let mut socket = NetlinkSocket::open(Protocol::Route).unwrap();
    for acknowledge in [Acknowledge::Last, Acknowledge::Each] {
        // Errors in the middle, at the end of a datagram, and last of all.
        let missing = |n: usize| n % 50 == 7 || n == 127 || n == 299;
        let requests: Vec<_> = (0..300).map(|n| get_link(if missing(n) { 0x7fff_fff0 } else { 1 })).collect();
        let outcomes = socket.batch(format_args!("look"), &requests, acknowledge).unwrap();
        assert_eq!(outcomes.len(), 300);
        for (n, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Outcome::Refused { errno, .. } => {
                    assert!(missing(n) && *errno == Errno::ENODEV, "{n}: {outcome:?}");
                }
                Outcome::Done { .. } => assert!(!missing(n), "{n}"),
            }
        }
    }
    assert!(socket.batch(format_args!("nothing"), &[], Acknowledge::Last).unwrap().is_empty());
}

#[test]
fn a_message_that_does_not_decode_fails_the_dump() {
    let mut socket = NetlinkSocket::open(Protocol::Route).unwrap();
    let request = Request::new(libc::RTM_GETLINK, 0, vec![0; 16]);
    let error =
        socket.dump::<()>(format_args!("list"), &request, |_| Err(Malformed::new("odd"))).unwrap_err();
    assert_eq!(error.to_string(), "list: the kernel's answer cannot be read: odd");
    // What is left of that dump does not disturb the next one.
    let indexes =
        socket.dump(format_args!("list"), &request, |payload| u32_at(payload, 4).map(Some)).unwrap();
    assert!(indexes.contains(&1));
}

#[test]
fn strict_checking_is_on() {
    let mut socket = NetlinkSocket::open(Protocol::Route).unwrap();
    let mut payload = vec![0; 16];
    payload[1] = 1;
    let error =
        socket.dump::<()>(format_args!("list"), &Request::new(libc::RTM_GETLINK, 0, payload), |_| Ok(None));
    let Err(Error::Refused { errno, extack: Some(text), .. }) = error else { panic!("{error:?}") };
    assert_eq!(errno, Errno::EINVAL);
    assert!(!text.is_empty());
}
