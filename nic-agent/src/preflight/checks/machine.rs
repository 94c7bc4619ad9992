//! Page size and clock.

use super::super::report::{Line, State};
use super::super::system::Fact;

const SMALL: u64 = 4096;

pub fn page_size(size: &Fact<u64>) -> Line {
    let (check, wanted) = ("page-size", "4 KiB");
    let remedy = "boot a kernel with pages of 4 KiB (BlueField's images without -64k in their name): memory was measured \
                  with these only, and the unit's MemoryMax is for them";
    match size {
        Ok(size) => {
            let state = if *size == SMALL { State::Passed } else { State::Warning };
            Line::new(check, "", state, format!("{} KiB", size / 1024), wanted, remedy)
        }
        Err(why) => Line::new(check, "", State::Unknown, why, wanted, "getconf PAGESIZE"),
    }
}

/// Certificates, and who reads the log, go by the clock.
pub fn synchronised(synchronised: &Fact<bool>) -> Line {
    let (check, wanted) = ("time-synchronised", "yes");
    let remedy = "timedatectl set-ntp true, or systemctl enable --now chrony";
    match synchronised {
        Ok(true) => Line::new(check, "", State::Passed, "yes", wanted, ""),
        Ok(false) => Line::new(check, "", State::Warning, "no", wanted, remedy),
        Err(why) => Line::new(check, "", State::Unknown, why, wanted, "timedatectl show"),
    }
}
