//! Which boot of the kernel this is: a file of another one says nothing of now.

use std::path::Path;

/// What the unit tells the agent (`%b`), whose sandbox has no /proc/sys.
const VARIABLE: &str = "NIC_AGENT_BOOT_ID";

/// 32 hexadecimal digits, as systemd writes them; the kernel's has dashes.
fn digits(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    (digits.len() == 32 && digits.bytes().all(|c| c.is_ascii_hexdigit())).then(|| digits.to_ascii_lowercase())
}

/// As the kernel says it, in this root.
pub fn of_root(root: &Path) -> Result<String, String> {
    let path = root.join("proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    digits(&text).ok_or_else(|| format!("{}: no boot id", path.display()))
}

/// This one; none where neither the kernel nor the service manager says it.
pub fn current() -> Option<String> {
    of_root(Path::new("/")).ok().or_else(|| digits(&std::env::var(VARIABLE).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_and_systemds_writing_are_one() {
        let kernels = "4D3C0A2E-5f1b-4c6a-9a77-0123456789ab\n";
        assert_eq!(digits(kernels).as_deref(), Some("4d3c0a2e5f1b4c6a9a770123456789ab"));
        assert_eq!(digits("4d3c0a2e5f1b4c6a9a770123456789ab"), digits(kernels));
        for bad in ["", "4d3c", "4d3c0a2e5f1b4c6a9a770123456789ag", "%b"] {
            assert_eq!(digits(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_kernel_has_one() {
        assert_eq!(current().map(|it| it.len()), Some(32));
    }
}
