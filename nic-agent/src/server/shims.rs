//! Which keys may speak for the server: revocation of a certificate that its CA still stands for.
//!
//! A key that was copied from an earlier tenant of the server is good until its certificate ends, or until it is none of
//! those that the NicNode names. Every request is held against what is said now, so that a connection that stands gains
//! nothing.

use std::collections::BTreeSet;

use crate::key_pin::KeyPin;

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
