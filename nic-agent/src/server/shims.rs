//! Which keys may speak for the server: revocation of a certificate that its CA still stands for.
//!
//! A key that was copied from an earlier tenant of the server is good until its certificate ends, or until it is none of
//! those that the NicNode names. Every request is held against what is said now, so that a connection that stands gains
//! nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use rustls_pki_types::SubjectPublicKeyInfoDer;

/// SHA-256 of a public key (`SubjectPublicKeyInfo`, DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPin([u8; 32]);

impl KeyPin {
    pub(super) fn of(key: &SubjectPublicKeyInfoDer<'_>) -> Option<Self> {
        digest(&SHA256, key.as_ref()).as_ref().try_into().ok().map(Self)
    }
}

impl FromStr for KeyPin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = || "write a SHA-256 in 64 hexadecimal digits, small letters".to_owned();
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(remedy());
        }
        let mut pin = [0; 32];
        for (at, octet) in pin.iter_mut().enumerate() {
            let digits = text.get(at * 2..at * 2 + 2).ok_or_else(remedy)?;
            *octet = u8::from_str_radix(digits, 16).map_err(|_| remedy())?;
        }
        Ok(Self(pin))
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whom the cluster lets speak for the server, beside what its certificate must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shims {
    /// Empty: any.
    pub keys: BTreeSet<KeyPin>,
    /// The NicNode has been deleted: nobody.
    pub revoked: bool,
}

impl Shims {
    /// Why this key does not speak for it.
    pub(super) fn refuse(&self, key: Option<KeyPin>) -> Option<(&'static str, String)> {
        if self.revoked {
            return Some(("nic-node-deleted", "the NicNode of this NIC has been deleted".to_owned()));
        }
        if self.keys.is_empty() || key.is_some_and(|key| self.keys.contains(&key)) {
            return None;
        }
        let key = key.map(|key| key.to_string()).unwrap_or_default();
        Some(("wrong-key", format!("the client certificate's key {key} is none of spec.shim.keyPins")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_openssl_writes_them_and_no_other_way() {
        let text = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        assert_eq!(text.parse::<KeyPin>().unwrap().to_string(), text);
        for bad in ["", "ab", &text.to_uppercase(), &format!("{text}0"), &text.replace("01", "+1")] {
            assert!(bad.parse::<KeyPin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn who_speaks() {
        let pin = |text: &str| text.repeat(64).parse::<KeyPin>().unwrap();
        let any = Shims::default();
        assert_eq!(any.refuse(None), None);
        let one = Shims { keys: [pin("a")].into(), revoked: false };
        assert_eq!(one.refuse(Some(pin("a"))), None);
        for key in [None, Some(pin("b"))] {
            assert_eq!(one.refuse(key).unwrap().0, "wrong-key");
        }
        let gone = Shims { revoked: true, ..one };
        assert_eq!(gone.refuse(Some(pin("a"))).unwrap().0, "nic-node-deleted");
    }
}
