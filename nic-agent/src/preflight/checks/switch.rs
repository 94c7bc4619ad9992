//! Open vSwitch and OVN: versions with known faults, and how the switch is set.

use super::super::report::{Line, State};
use super::super::system::{Fact, System};
use super::super::version::Version;
use crate::ovs::datapath;
use crate::ovs::view::OvsView;

const RESTART: &str = "systemctl restart openvswitch-switch";

pub fn all(system: &System) -> Vec<Line> {
    let mut lines = vec![ovs(&system.ovs_version), ovn(&system.ovn_version)];
    lines.push(hw_offload(system));
    lines.push(datapath(system));
    lines
}

/// A version as it is said, and what is wrong with it.
fn versioned(
    check: &str,
    said: &Fact<String>,
    (wanted, remedy, ask): (&str, &str, &str),
    fault: impl Fn(Version) -> Option<(State, &'static str)>,
) -> Line {
    let said = match said {
        Ok(said) => said,
        Err(why) => return Line::new(check, "", State::Unknown, why, wanted, ask),
    };
    match Version::read(said).map(fault) {
        None => Line::new(check, "", State::Unknown, format!("{said:?} is no version"), wanted, ask),
        Some(None) => Line::new(check, "", State::Passed, said, wanted, ""),
        Some(Some((state, what))) => Line::new(check, "", state, format!("{said}: {what}"), wanted, remedy),
    }
}

fn ovs(said: &Fact<String>) -> Line {
    let wanted = "none of 3.5.0 to 3.5.2, 3.6.0, 3.6.1, and none before 3.2";
    let remedy = "install 3.5.3, 3.6.2, 3.7.0 or later of Open vSwitch";
    versioned("ovs-version", said, (wanted, remedy, "systemctl status openvswitch-switch"), |version| {
        let tunnels = Version(3, 5, 0)..Version(3, 5, 3);
        let tunnels_of_next = Version(3, 6, 0)..Version(3, 6, 2);
        if tunnels.contains(&version) || tunnels_of_next.contains(&version) {
            // Fixed by 4e44e51d1. The kernel must know TCA_FLOWER_KEY_ENC_FLAGS (6.12 does).
            let what = "matches tunnel flags that mlx5 refuses, so packets from tunnels stay in software";
            return Some((State::Warning, what));
        }
        // Before 77d822898.
        (version < Version(3, 2, 0)).then_some((
            State::Warning,
            "takes TC rules of others on its ports for its own, whatever their cookie",
        ))
    })
}

fn ovn(said: &Fact<String>) -> Line {
    let wanted = "24.09 or later, and neither 25.03.0 nor 25.03.1";
    let remedy = "install 25.03.2, 25.09 or later of OVN";
    versioned("ovn-version", said, (wanted, remedy, "systemctl status ovn-controller"), |version| {
        if version < Version(24, 9, 0) {
            let what = "knows no ct-zone-range, and may give the pods' conntrack zones to others";
            return Some((State::Failed, what));
        }
        let gateways = Version(25, 3, 0)..Version(25, 3, 2);
        gateways
            .contains(&version)
            .then_some((State::Warning, "keeps what passes a gateway out of the hardware (ffe267317c)"))
    })
}

fn hw_offload(system: &System) -> Line {
    let check = "hw-offload";
    let told = system.configuration.as_ref().is_ok_and(|it| !it.hw_offload);
    let remedy = format!("ovs-vsctl set Open_vSwitch . other_config:hw-offload=true; {RESTART}");
    let found =
        |view: &OvsView| view.other_config.get(check).cloned().unwrap_or_else(|| "not set".to_owned());
    match system.switch.as_ref().map(found) {
        Ok(found) if found == "true" => Line::new(check, "", State::Passed, found, "true", ""),
        Ok(found) if told => {
            let remedy =
                "chassis.hw-offload = true in nic-agent.toml, or spec.offload.mode: Hardware in the NicNode";
            Line::new(check, "", State::Warning, format!("{found}, as the agent is told"), "true", remedy)
        }
        Ok(found) => Line::new(check, "", State::Failed, found, "true", remedy),
        Err(why) => Line::new(check, "", State::Unknown, why, "true", "ovs-vsctl show"),
    }
}

/// OVS-DOCA, DPDK: the agent refuses them, too.
fn datapath(system: &System) -> Line {
    let (check, wanted) = ("datapath-type", "system, the kernel's");
    let view = match &system.switch {
        Ok(view) => view,
        Err(why) => return Line::new(check, "", State::Unknown, why, wanted, "ovs-vsctl show"),
    };
    let bridges = match &system.configuration {
        Ok(it) => [it.edge_bridge.as_str(), it.ovn_bridge.as_str()],
        Err(why) => return Line::new(check, "", State::Unknown, why, wanted, "nic-agent --check"),
    };
    let all: Vec<_> = datapath::unsupported(view, bridges).collect();
    if all.is_empty() {
        return Line::new(check, "", State::Passed, "system", wanted, "");
    }
    let joined = |words: Vec<String>| words.join("; ");
    let found = joined(all.iter().map(datapath::Unsupported::found).collect());
    let remedy = joined(all.iter().map(datapath::Unsupported::remedy).collect());
    Line::new(check, "", State::Failed, format!("{found} (OVS-DOCA or DPDK)"), wanted, remedy)
}
