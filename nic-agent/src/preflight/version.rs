//! Versions of Open vSwitch and OVN, read leniently: NVIDIA's packages write what they are based on into theirs.

use std::fmt;

/// Compared number by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// `3.5.0`, `3.3.0-2.el9fdp`, `25.03.1`, `3.7`; of `2.9.2-0011-25.02-based-3.3.3` (DOCA) what it is based on.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let base = text.rsplit_once("based-").map_or(text, |(_, base)| base);
        let end = base.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(base.len());
        let mut numbers = base.get(..end)?.split('.').filter(|it| !it.is_empty()).map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let patch = numbers.next().transpose().ok()?.unwrap_or(0);
        Some(Self(major, minor, patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_based_on_counts() {
        for (text, version) in [
            ("3.5.0", Some(Version(3, 5, 0))),
            ("3.3.0-2.el9fdp", Some(Version(3, 3, 0))),
            ("2.9.2-0011-25.02-based-3.3.3", Some(Version(3, 3, 3))),
            ("3.1.0-based-2.17.8\n", Some(Version(2, 17, 8))),
            ("25.03.1", Some(Version(25, 3, 1))),
            ("3.7", Some(Version(3, 7, 0))),
            ("3.6.90+git", Some(Version(3, 6, 90))),
            ("3", None),
            ("doca", None),
            ("", None),
            ("3.x", None),
            ("99999999999.1", None),
            ("3.5.99999999999", None),
        ] {
            assert_eq!(Version::read(text), version, "{text:?}");
        }
        assert!(Version(3, 5, 10) > Version(3, 5, 9) && Version(24, 9, 0) < Version(25, 3, 0));
    }
}
