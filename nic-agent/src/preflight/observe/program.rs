//! Programs whose answer no file and no library gives: `mlxprivhost` (the firmware's host privileges), and `timedatectl`
//! (`adjtimex` and its unsynchronised flag, which no safe interface of ours has).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::PATIENCE;
use crate::preflight::Fact;
use crate::preflight::system::Privileges;

const PLACES: [&str; 4] = ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"];

fn find(root: &Path, names: &[&str]) -> Fact<PathBuf> {
    let all = names.iter().flat_map(|name| PLACES.iter().map(move |place| root.join(place).join(name)));
    let mut there = all.filter(|path| path.is_file());
    there.next().ok_or_else(|| format!("{} is not installed", names.join(" or ")))
}

/// What it writes to its standard output.
async fn output(program: &Path, arguments: &[&str]) -> Fact<String> {
    let name = program.display();
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| format!("{name}: no answer for {} s", PATIENCE.as_secs()))?;
    let output = output.map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        return Err(format!("{name}: {}: {}", output.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the firmware lets the server do. NVIDIA's mft has `mlxprivhost`, mstflint the same as `mstprivhost`.
pub async fn privileges(root: &Path, device: &str) -> Fact<Privileges> {
    let Some(pci) = device.strip_prefix("pci/") else { return Err(format!("{device} is no PCI device")) };
    let program = find(root, &["mlxprivhost", "mstprivhost"])?;
    let said = output(&program, &["-d", pci, "q"]).await?;
    read_privileges(&said).ok_or_else(|| format!("{}: no level in what it says", program.display()))
}

/// Lines such as `level    : RESTRICTED`; where the NIC has several servers behind it, a word for each.
fn read_privileges(said: &str) -> Option<Privileges> {
    let mut levels = Vec::new();
    let mut disabled = BTreeMap::new();
    for (name, value) in said.lines().filter_map(|line| line.split_once(':')) {
        let mut words = value.split_whitespace();
        match name.trim() {
            "level" => levels = words.map(ToOwned::to_owned).collect(),
            name if name.starts_with("disable_") => {
                let first = words.next();
                let all = first == Some("TRUE") && words.all(|word| word == "TRUE");
                disabled.insert(name.to_owned(), all);
            }
            _ => {}
        }
    }
    (!levels.is_empty()).then_some(Privileges { levels, disabled })
}

/// Is the kernel's clock kept by something (NTP, PTP)?
pub async fn synchronised(root: &Path) -> Fact<bool> {
    let program = find(root, &["timedatectl"])?;
    let said = output(&program, &["show", "--property=NTPSynchronized", "--value"]).await?;
    match said.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(format!("timedatectl: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_are_those_of_all_servers() {
        // As mstprivhost's source prints them (mstflint, small_utils/mstprivhost.py).
        let said = "Host configurations\n-------------------\nlevel                         : RESTRICTED\n\n\
                    Port functions status:\n-----------------------\ndisable_rshim                 : TRUE\n\
                    disable_tracer                : FALSE\n\n";
        let privileges = read_privileges(said).unwrap();
        assert_eq!(privileges.levels, ["RESTRICTED"]);
        assert_eq!(
            privileges.disabled,
            [("disable_rshim".to_owned(), true), ("disable_tracer".to_owned(), false)].into()
        );
        let two = "host index                    : 0            1            \n\
                   level                         : RESTRICTED   PRIVILEGED   \n\
                   disable_rshim                 : TRUE         FALSE        \n";
        let privileges = read_privileges(two).unwrap();
        assert_eq!(privileges.levels, ["RESTRICTED", "PRIVILEGED"]);
        assert_eq!(privileges.disabled, [("disable_rshim".to_owned(), false)].into());
        for bad in ["", "level:", "-E- Unknown device '03:00.0'!"] {
            assert_eq!(read_privileges(bad), None, "{bad:?}");
        }
    }
}
