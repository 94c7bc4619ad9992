//! What this NIC is: versions, firmware and serial number, as far as the kernel tells.

use offload::netlink::Error;
use offload::netlink::devlink::{Devlink, Flavour, Info};

use crate::config::Eswitch;

/// What could not be learned is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    pub kernel: Option<String>,
    pub firmware: Option<String>,
    pub serial: Option<String>,
}

/// Looks now, on a thread for blocking work.
pub async fn look(eswitch: &Eswitch) -> Machine {
    let eswitch = eswitch.clone();
    let info = tokio::task::spawn_blocking(move || info(&eswitch)).await;
    let info = info.ok().and_then(Result::ok).flatten().unwrap_or_default();
    let kernel = nix::sys::utsname::uname().ok();
    Machine {
        kernel: kernel.and_then(|it| it.release().to_str().map(ToOwned::to_owned)),
        firmware: firmware(&info),
        serial: info.serial.or(info.board_serial),
    }
}

fn info(eswitch: &Eswitch) -> Result<Option<Info>, Error> {
    let mut devlink = Devlink::open()?;
    let of_function = |flavour: &Flavour| matches!(flavour, Flavour::PciPf { .. } | Flavour::PciVf { .. });
    let device = match &eswitch.device {
        Some(device) => Some(device.clone()),
        None => devlink.ports()?.into_iter().find(|it| of_function(&it.flavour)).map(|it| it.handle.device),
    };
    device.map(|device| devlink.info(&device)).transpose()
}

/// devlink's generic name for the whole firmware is `fw`; mlx5 says `fw.version`
/// (Documentation/networking/devlink/devlink-info.rst, mlx5.rst).
fn firmware(info: &Info) -> Option<String> {
    let named = |name: &str| info.running.iter().find(|(it, _)| it == name);
    named("fw.version").or_else(|| named("fw")).map(|(_, version)| version.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_has_several_names() {
        let of = |running: &[(&str, &str)]| {
            let running = running.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            firmware(&Info { running, ..Info::default() })
        };
        assert_eq!(of(&[("fw.psid", "X"), ("fw", "1"), ("fw.version", "2")]).as_deref(), Some("2"));
        assert_eq!(of(&[("fw.psid", "X"), ("fw", "1")]).as_deref(), Some("1"));
        assert_eq!(of(&[("fw.psid", "X")]), None);
    }
}
