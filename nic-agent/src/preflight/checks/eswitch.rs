//! The eSwitches: modes, steering, and what the firmware lets the server do.

use super::super::report::{Line, State};
use super::super::system::{Eswitch, Fact, Privileges};

const LEVEL: &str = "RESTRICTED";
/// What has to be taken from the server besides (docs/security.md).
const FUNCTIONS: [&str; 4] = ["disable_rshim", "disable_tracer", "disable_counter_rd", "disable_port_owner"];

pub fn all(eswitches: &Fact<Vec<Eswitch>>) -> Vec<Line> {
    let wanted = "at least one";
    match eswitches {
        Ok(eswitches) if eswitches.is_empty() => vec![Line::new(
            "eswitch",
            "",
            State::Failed,
            "no device has one",
            wanted,
            "devlink dev show; is the NIC's driver loaded, and the NIC in DPU mode (mlxconfig, INTERNAL_CPU_MODEL)?",
        )],
        Ok(eswitches) => {
            let found: Vec<&str> = eswitches.iter().map(|it| it.device.as_str()).collect();
            let mut lines = vec![Line::new("eswitch", "", State::Passed, found.join(", "), wanted, "")];
            lines.extend(eswitches.iter().flat_map(one));
            lines
        }
        Err(why) => vec![Line::new("eswitch", "", State::Unknown, why, wanted, "devlink dev show, as root")],
    }
}

fn one(eswitch: &Eswitch) -> [Line; 4] {
    let device = &eswitch.device;
    let set = |what: &str| format!("devlink dev eswitch set {device} {what}");
    [
        word("eswitch-mode", device, &eswitch.mode, &["switchdev"], State::Failed, &set("mode switchdev")),
        word(
            "encap-mode",
            device,
            &eswitch.encap,
            &["basic"],
            State::Failed,
            &format!("{}, before any rule is offloaded", set("encap-mode basic")),
        ),
        word(
            "steering-mode",
            device,
            &eswitch.steering,
            &["smfs", "hmfs"],
            State::Warning,
            &format!(
                "devlink dev param set {device} name flow_steering_mode value smfs cmode runtime, in legacy mode: with \
                 dmfs the firmware takes rules one by one"
            ),
        ),
        restricted(device, &eswitch.privileges),
    ]
}

fn word(
    check: &str,
    device: &str,
    fact: &Fact<String>,
    good: &[&str],
    otherwise: State,
    remedy: &str,
) -> Line {
    let wanted = good.join(" or ");
    match fact {
        Ok(found) => {
            let state = if good.contains(&found.as_str()) { State::Passed } else { otherwise };
            Line::new(check, device, state, found, wanted, remedy)
        }
        Err(why) => Line::new(check, device, State::Unknown, why, wanted, format!("by hand: {remedy}")),
    }
}

fn restricted(device: &str, privileges: &Fact<Privileges>) -> Line {
    let check = "restricted-mode";
    let wanted = format!("{LEVEL}, {}", FUNCTIONS.join(", "));
    let pci = device.rsplit('/').next().unwrap_or(device);
    let remedy = format!(
        "mlxprivhost -d {pci} r --{}, then a cold reset of the server (docs/security.md)",
        FUNCTIONS.join(" --")
    );
    let Privileges { levels, disabled } = match privileges {
        Ok(privileges) => privileges,
        Err(why) => {
            let remedy = format!("mlxprivhost -d {pci} q, from NVIDIA's mft or mstflint");
            return Line::new(check, device, State::Unknown, why, wanted, remedy);
        }
    };
    if levels.is_empty() {
        return Line::new(check, device, State::Unknown, "no level was said", wanted, remedy);
    }
    if levels.iter().any(|level| level != LEVEL) {
        return Line::new(check, device, State::Failed, levels.join(", "), wanted, remedy);
    }
    let left = |name: &&str| disabled.get(*name) != Some(&true);
    let left: Vec<&str> = FUNCTIONS.into_iter().filter(left).collect();
    match left.as_slice() {
        [] => Line::new(check, device, State::Passed, LEVEL, wanted, ""),
        left => {
            let found = format!("{LEVEL}, without {}", left.join(", "));
            Line::new(check, device, State::Failed, found, wanted, remedy)
        }
    }
}
