//! The kernel's settings.

use super::super::report::{Line, State};
use super::super::system::System;

const EVENTS: &str = "net.netfilter.nf_conntrack_events";
const TIMESTAMP: &str = "net.netfilter.nf_conntrack_timestamp";
const MAX: &str = "net.netfilter.nf_conntrack_max";
/// Those that are read.
pub const NAMES: [&str; 3] = [EVENTS, TIMESTAMP, MAX];

/// Pods that may have as many connections as they may before the NIC has no room for others'.
const FULL_PODS: u64 = 8;

pub fn all(system: &System) -> Vec<Line> {
    // With the kernel's default, 2, connections that begin while the agent is started anew have no events for ever.
    let events =
        exactly(system, EVENTS, 1, "of all connections, those that begin while the agent restarts, too");
    let timestamp = exactly(system, TIMESTAMP, 1, "how old a connection is that was cut");
    vec![events, timestamp, room(system)]
}

fn value(system: &System, name: &str) -> Result<u64, String> {
    let text = system.sysctls.get(name).cloned().unwrap_or_else(|| Err("not read".to_owned()))?;
    text.trim().parse().map_err(|_| format!("{text:?} is no number"))
}

fn line(name: &str, state: State, found: impl Into<String>, wanted: String, set: u64) -> Line {
    let remedy = match state {
        State::Unknown => format!("modprobe nf_conntrack; sysctl {name}"),
        _ => format!("sysctl -w {name}={set}, and the same line in /etc/sysctl.d/60-nic-agent.conf"),
    };
    Line::new("sysctl", name, state, found, wanted, remedy)
}

fn exactly(system: &System, name: &str, wanted: u64, purpose: &str) -> Line {
    let said = format!("{wanted} ({purpose})");
    match value(system, name) {
        Ok(found) => {
            let state = if found == wanted { State::Passed } else { State::Warning };
            line(name, state, found.to_string(), said, wanted)
        }
        Err(why) => line(name, State::Unknown, why, said, wanted),
    }
}

fn room(system: &System) -> Line {
    let pod = match &system.configuration {
        Ok(configuration) => u64::from(configuration.pod_connections),
        Err(why) => {
            let wanted = format!("{FULL_PODS} times edge.pod-connections");
            return Line::new("sysctl", MAX, State::Unknown, why, wanted, "nic-agent --check");
        }
    };
    let least = FULL_PODS * pod;
    let wanted = format!("{least} or more ({FULL_PODS} times edge.pod-connections)");
    match value(system, MAX) {
        Ok(found) => {
            let state = if found >= least { State::Passed } else { State::Warning };
            line(MAX, state, found.to_string(), wanted, least)
        }
        Err(why) => line(MAX, State::Unknown, why, wanted, least),
    }
}
