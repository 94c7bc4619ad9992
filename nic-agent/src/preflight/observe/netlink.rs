//! eSwitches and uplinks, as the kernel has them.

use offload::netlink::devlink::{
    DeviceHandle, Devlink, EncapMode, Eswitch as Modes, EswitchMode, Flavour, Info, ParamValue, Port,
};
use offload::netlink::link::{self, Link};
use offload::netlink::socket::{NetlinkSocket, Protocol};
use offload::netlink::{Errno, Error};

use super::Netlink;
use crate::preflight::Fact;
use crate::preflight::system::{Bond, Eswitch, Uplink};

fn words(error: &Error) -> String {
    error.to_string()
}

/// Blocks.
pub fn look() -> Netlink {
    let both = || -> Fact<(Vec<Eswitch>, Vec<Uplink>)> {
        let mut devlink = Devlink::open().map_err(|e| words(&e))?;
        let eswitches = eswitches(&mut devlink)?;
        let ports = devlink.ports().map_err(|e| words(&e))?;
        let mut route = NetlinkSocket::open(Protocol::Route).map_err(|e| words(&e))?;
        let links = link::links(&mut route).map_err(|e| words(&e))?;
        let uplinks = uplinks(&ports, &links, &eswitches);
        Ok((eswitches, uplinks))
    };
    match both() {
        Ok((eswitches, uplinks)) => Netlink { eswitches: Ok(eswitches), uplinks: Ok(uplinks) },
        Err(why) => Netlink { eswitches: Err(why.clone()), uplinks: Err(why) },
    }
}

fn eswitches(devlink: &mut Devlink) -> Fact<Vec<Eswitch>> {
    let mut eswitches = Vec::new();
    for device in devlink.devices().map_err(|e| words(&e))? {
        let modes = match devlink.eswitch(&device) {
            // A function that has none.
            Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => continue,
            modes => modes.map_err(|e| words(&e)),
        };
        let driver = devlink.info(&device).map_err(|e| words(&e));
        let mut param = |name: &str| devlink.param(&device, name).map_err(|e| words(&e));
        let (steering, multiport) = (param("flow_steering_mode"), param("esw_multiport"));
        eswitches.push(eswitch(&device, &modes, driver, steering, multiport));
    }
    Ok(eswitches)
}

fn eswitch(
    device: &DeviceHandle,
    modes: &Fact<Modes>,
    info: Fact<Info>,
    steering: Fact<ParamValue>,
    multiport: Fact<ParamValue>,
) -> Eswitch {
    let text = |value: Fact<ParamValue>| value.map(|it| it.to_string());
    Eswitch {
        device: device.to_string(),
        driver: info.and_then(|it| it.driver.ok_or_else(|| "its driver gives no name".to_owned())),
        mode: modes.clone().map(mode),
        encap: modes.clone().and_then(encap),
        steering: text(steering),
        multiport: text(multiport),
        privileges: Err("not asked".to_owned()),
    }
}

fn mode(modes: Modes) -> String {
    match modes.mode {
        EswitchMode::Legacy => "legacy".to_owned(),
        EswitchMode::Switchdev => "switchdev".to_owned(),
        EswitchMode::Other(number) => format!("mode {number}"),
    }
}

fn encap(modes: Modes) -> Fact<String> {
    match modes.encap {
        Some(EncapMode::Basic) => Ok("basic".to_owned()),
        Some(EncapMode::None) => Ok("none".to_owned()),
        Some(EncapMode::Other(number)) => Ok(format!("mode {number}")),
        None => Err("its driver does not say".to_owned()),
    }
}

/// Other devices' physical ports, such as a management NIC's, are none of ours.
fn uplinks(ports: &[Port], links: &[Link], eswitches: &[Eswitch]) -> Vec<Uplink> {
    let physical = ports.iter().filter(|port| matches!(port.flavour, Flavour::Physical { .. }));
    physical
        .map(|port| (port, port.handle.device.to_string()))
        .filter(|(_, device)| eswitches.iter().any(|eswitch| eswitch.device == *device))
        .map(|(port, device)| {
            let netdev = port.netdev.as_ref();
            let link = netdev.and_then(|it| links.iter().find(|link| link.ifindex == it.ifindex));
            let missing = || "it has no network device here".to_owned();
            Uplink {
                name: netdev.map(|it| it.name.clone()),
                device,
                carrier: link.map(|it| it.up && it.carrier).ok_or_else(missing),
                bond: link.map(|it| bond(it, links)).ok_or_else(missing),
            }
        })
        .collect()
}

fn bond(link: &Link, links: &[Link]) -> Option<Bond> {
    let master = links.iter().find(|it| Some(it.ifindex) == link.master)?;
    let is_bond = master.kind.as_deref() == Some("bond");
    is_bond.then(|| Bond { name: master.name.clone(), mode: Err("not read".to_owned()) })
}
