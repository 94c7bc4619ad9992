//! The chassis' name where Open vSwitch keeps it over a restart.
//!
//! `ovs-ctl` (`set_system_ids`) writes `external_ids:system-id` into the database whenever Open vSwitch starts, as a file beside
//! its database says it; where there is none it makes up a UUID. `ovn-controller` starts right after, and would make a chassis of
//! that name with this NIC's tunnel address. Told the right name later it cannot have it: one address is one chassis' in OVN
//! (`Encap`, unique by type and IP), so that from there on every transaction of its fails, and no port of this NIC is bound.
//! So the file says what the configuration says, before the database does.

use std::io::ErrorKind;
use std::path::Path;

use tracing::{debug, info};

use crate::durable::Disk;
use crate::outcome::Outcome;

/// True when it is certain that nothing else will be made of it.
pub(super) fn keep(disk: &dyn Disk, path: &Path, system_id: &str, outcome: &mut Outcome) -> bool {
    let there = disk.read(path);
    if there.as_ref().is_ok_and(|text| text.trim_ascii() == system_id.as_bytes()) {
        return true;
    }
    match disk.replace(path, format!("{system_id}\n").as_bytes()) {
        Ok(()) => {
            info!(path = %path.display(), system_id, "Open vSwitch starts with this chassis' name");
            true
        }
        // Whatever starts Open vSwitch here is not `ovs-ctl`.
        Err(e) if e.kind() == ErrorKind::NotFound => {
            debug!(path = %path.display(), "no such directory");
            true
        }
        Err(e) => {
            outcome.failed("ovs.system-id-file", format_args!("{}: {e}", path.display()));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::durable::SystemDisk;

    fn kept(path: &Path) -> (bool, Outcome) {
        let mut outcome = Outcome::default();
        let kept = keep(&SystemDisk, path, "nic1", &mut outcome);
        (kept, outcome)
    }

    #[test]
    fn the_file_says_what_the_configuration_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("system-id.conf");
        for before in [None, Some("7f35a4ae-b721-4acc-a97d-1092b1b6d779\n"), Some(""), Some("nic11\n")] {
            if let Some(text) = before {
                fs::write(&path, text).unwrap();
            }
            assert!(kept(&path).0);
            assert_eq!(fs::read_to_string(&path).unwrap(), "nic1\n");
        }
        fs::write(&path, "nic1").unwrap();
        assert!(kept(&path).0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "nic1", "what is right stays as it is");
    }

    #[test]
    fn without_open_vswitchs_directory_there_is_nothing_to_keep_and_what_fails_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (done, outcome) = kept(&dir.path().join("none/system-id.conf"));
        assert!(done && outcome.errors.is_empty());
        // Not a file.
        let (done, outcome) = kept(dir.path());
        assert!(!done);
        assert!(outcome.errors.iter().all(|it| it.starts_with("ovs.system-id-file: ")), "{outcome:?}");
    }
}
