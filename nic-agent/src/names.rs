//! Names that come from outside, checked for form: by the configuration and by the server.

/// One label of a DNS name as Kubernetes allows it (RFC 1123, lower case).
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels with dots between them, 253 characters in all.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// What the kernel takes as a network device's name (`dev_valid_name` in net/core/dev.c), ASCII only.
pub(crate) fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names() {
        for good in ["a", "web-0", "0", &"a".repeat(63)] {
            assert!(is_dns_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", &"a".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(is_dns_subdomain(&longest) && is_dns_subdomain("web-0.example"));
        for bad in ["", ".", "a.", ".a", "a..b", &format!("{longest}a")] {
            assert!(!is_dns_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "net1", "p0", "pf0vf3.100", "a-b_c", "fifteen-letters"] {
            assert!(is_interface_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\0b", "sixteen-letters-", "ä"] {
            assert!(!is_interface_name(bad), "{bad}");
        }
    }
}
