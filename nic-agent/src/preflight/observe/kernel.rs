//! Files of the kernel's: its configuration, its settings, a bond's mode.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use nix::unistd::{SysconfVar, sysconf};

use crate::preflight::Fact;

/// A kernel's configuration has some 300 kB.
const LONGEST: u64 = 4 << 20;

fn read(path: &Path) -> Fact<String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// As the kernel has it in itself, or as its package put it beside it.
pub fn options(root: &Path) -> Fact<BTreeMap<String, String>> {
    let packed = root.join("proc/config.gz");
    if let Ok(file) = File::open(&packed) {
        return parse(GzDecoder::new(file)).map_err(|e| format!("{}: {e}", packed.display()));
    }
    let release = read(&root.join("proc/sys/kernel/osrelease"))?;
    if release.is_empty() || release.contains('/') {
        return Err(format!("{release:?} is no kernel's release"));
    }
    let places = [format!("boot/config-{release}"), format!("lib/modules/{release}/config")];
    let mut missing = vec![format!("no {}", packed.display())];
    for place in places {
        let path = root.join(place);
        match File::open(&path) {
            Ok(file) => return parse(file).map_err(|e| format!("{}: {e}", path.display())),
            Err(e) => missing.push(format!("{}: {e}", path.display())),
        }
    }
    Err(missing.join("; "))
}

fn parse(from: impl Read) -> io::Result<BTreeMap<String, String>> {
    let mut text = String::new();
    from.take(LONGEST).read_to_string(&mut text)?;
    let options: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    // An empty file would say that everything is missing.
    if options.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no CONFIG_ in it"));
    }
    Ok(options)
}

pub fn sysctl(root: &Path, name: &str) -> Fact<String> {
    read(&root.join("proc/sys").join(name.replace('.', "/")))
}

/// "802.3ad 4" is the kernel's word and number.
pub fn bond_mode(root: &Path, bond: &str) -> Fact<String> {
    let text = read(&root.join("sys/class/net").join(bond).join("bonding/mode"))?;
    text.split_whitespace().next().map(ToOwned::to_owned).ok_or_else(|| format!("{bond} says no mode"))
}

pub fn page_size() -> Fact<u64> {
    let size = sysconf(SysconfVar::PAGE_SIZE).map_err(|e| e.to_string())?;
    size.and_then(|it| u64::try_from(it).ok()).ok_or_else(|| "the system does not say it".to_owned())
}
