//! The VFs of a PCI function, from sysfs.

use std::path::Path;

use anyhow::Context;

/// PCI addresses in the order of their numbers, without the first `reserved`.
pub fn of(pf: &Path, reserved: usize) -> anyhow::Result<Vec<String>> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for entry in std::fs::read_dir(pf).with_context(|| pf.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|n| n.strip_prefix("virtfn")).and_then(|n| n.parse().ok())
        else {
            continue;
        };
        let target = std::fs::read_link(entry.path())?;
        if number >= reserved
            && let Some(address) = target.file_name().and_then(|n| n.to_str())
        {
            found.push((number, address.to_owned()));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, address)| address).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    #[test]
    fn in_the_order_of_their_numbers_without_the_reserved() {
        let pf = tempfile::tempdir().unwrap();
        for (number, address) in [(10, "1001:03:01.3"), (0, "1001:03:00.1"), (2, "1001:03:00.3")] {
            symlink(format!("../{address}"), pf.path().join(format!("virtfn{number}"))).unwrap();
        }
        std::fs::write(pf.path().join("sriov_numvfs"), "3").unwrap();
        assert_eq!(super::of(pf.path(), 0).unwrap(), ["1001:03:00.1", "1001:03:00.3", "1001:03:01.3"]);
        assert_eq!(super::of(pf.path(), 1).unwrap(), ["1001:03:00.3", "1001:03:01.3"]);
        assert!(super::of(&pf.path().join("none"), 0).is_err());
    }
}
