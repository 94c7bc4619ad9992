//! A public key, named by its digest.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use rustls_pki_types::SubjectPublicKeyInfoDer;

/// SHA-256 of a public key (`SubjectPublicKeyInfo`, DER).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPin([u8; 32]);

impl KeyPin {
    pub fn of(key: &SubjectPublicKeyInfoDer<'_>) -> Option<Self> {
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
}
