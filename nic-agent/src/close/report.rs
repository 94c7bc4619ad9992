//! What `nic-agent close` has found and done, as a table for people.

use std::fmt;

use offload::ids::IfIndex;
use offload::netlink::devlink::{DeviceHandle, EswitchMode, PortHandle};
use offload::representor::{Function, Representor};

/// One representor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub ifindex: IfIndex,
    pub eswitch: Option<DeviceHandle>,
    pub function: Function,
    pub name: String,
    /// As it was found.
    pub was_up: bool,
    /// As it was seen last.
    pub is_up: bool,
    /// Of one of the things that closing is.
    pub failure: Option<String>,
}

impl Row {
    pub fn new(rep: &Representor, was_up: bool) -> Self {
        Self {
            ifindex: rep.ifindex,
            eswitch: rep.device.clone(),
            function: rep.function,
            name: rep.name.clone(),
            was_up,
            is_up: was_up,
            failure: None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Report {
    pub eswitches: Vec<(DeviceHandle, EswitchMode)>,
    pub rows: Vec<Row>,
    pub out_of_reach: Vec<(Function, PortHandle, String)>,
}

impl Report {
    /// One text for each. What is down is closed, whatever else was refused.
    pub fn not_closed(&self) -> Vec<String> {
        let up = self.rows.iter().filter(|row| row.is_up).map(|row| {
            let why = row.failure.as_deref().unwrap_or("something sets it up again");
            format!("{} ({}): {why}", row.name, row.function)
        });
        let away = self.out_of_reach.iter().map(|(function, port, why)| {
            format!("{function} (devlink port {port}): {why}; run this in that namespace")
        });
        up.chain(away).collect()
    }
}

fn mode(mode: EswitchMode) -> String {
    match mode {
        EswitchMode::Legacy => "legacy".to_owned(),
        EswitchMode::Switchdev => "switchdev".to_owned(),
        EswitchMode::Other(other) => other.to_string(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![["ESWITCH", "FUNCTION", "DEVICE", "WAS", "IS"].map(str::to_owned)];
        for row in &self.rows {
            let is = match (row.is_up, &row.failure) {
                (true, _) => "UP".to_owned(),
                (false, None) => "closed".to_owned(),
                (false, Some(why)) => format!("down, but {why}"),
            };
            lines.push([
                row.eswitch.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                row.function.to_string(),
                row.name.clone(),
                if row.was_up { "up" } else { "down" }.to_owned(),
                is,
            ]);
        }
        if !self.rows.is_empty() {
            let width = |column: usize| {
                lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or_default()
            };
            let [wide, function_wide, name_wide, was_wide] = [0, 1, 2, 3].map(width);
            for [eswitch, function, name, was, is] in &lines {
                writeln!(
                    f,
                    "{eswitch:wide$}  {function:function_wide$}  {name:name_wide$}  {was:was_wide$}  {is}"
                )?;
            }
        }
        for (device, other) in self.eswitches.iter().filter(|(_, it)| *it != EswitchMode::Switchdev) {
            writeln!(
                f,
                "{device}: its eSwitch is in mode {} and has no representors: what its functions reach is its own to say",
                mode(*other)
            )?;
        }
        let closed = self.rows.iter().filter(|row| !row.is_up).count();
        let were_up = self.rows.iter().filter(|row| row.was_up).count();
        let switchdev = self.eswitches.iter().filter(|(_, it)| *it == EswitchMode::Switchdev).count();
        writeln!(
            f,
            "{switchdev} eSwitches in switchdev mode; of {} representors of servers' functions {were_up} were up, {closed} are closed",
            self.rows.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use offload::ids::VfId;

    use super::*;

    fn device(pf: u8) -> DeviceHandle {
        format!("pci/0000:03:00.{pf}").parse().unwrap()
    }

    fn row(vf: u16, was_up: bool, is_up: bool, failure: Option<&str>) -> Row {
        Row {
            ifindex: IfIndex(u32::from(vf) + 7),
            eswitch: Some(device(0)),
            function: Function::Vf { controller: 1, vf: VfId { pf: 0, vf } },
            name: format!("pf0vf{vf}"),
            was_up,
            is_up,
            failure: failure.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn what_is_down_is_closed_and_the_rest_is_named() {
        let port = PortHandle { device: device(1), index: 9 };
        let report = Report {
            eswitches: vec![(device(0), EswitchMode::Switchdev), (device(1), EswitchMode::Legacy)],
            rows: vec![
                row(0, true, false, None),
                row(1, false, false, Some("no TC")),
                row(10, true, true, Some("refused")),
                row(11, true, true, None),
            ],
            out_of_reach: vec![(
                Function::Pf { controller: 1, pf: 1, external: true },
                port,
                "elsewhere".to_owned(),
            )],
        };
        assert_eq!(
            report.not_closed(),
            [
                "pf0vf10 (c1pf0vf10): refused",
                "pf0vf11 (c1pf0vf11): something sets it up again",
                "c1pf1 (devlink port pci/0000:03:00.1/9): elsewhere; run this in that namespace",
            ]
        );
        assert_eq!(
            report.to_string(),
            "ESWITCH           FUNCTION   DEVICE   WAS   IS\n\
             pci/0000:03:00.0  c1pf0vf0   pf0vf0   up    closed\n\
             pci/0000:03:00.0  c1pf0vf1   pf0vf1   down  down, but no TC\n\
             pci/0000:03:00.0  c1pf0vf10  pf0vf10  up    UP\n\
             pci/0000:03:00.0  c1pf0vf11  pf0vf11  up    UP\n\
             pci/0000:03:00.1: its eSwitch is in mode legacy and has no representors: what its functions reach is its own to say\n\
             1 eSwitches in switchdev mode; of 4 representors of servers' functions 3 were up, 2 are closed\n"
        );
    }

    #[test]
    fn where_nothing_is_nothing_is_open() {
        let report = Report::default();
        assert!(report.not_closed().is_empty());
        assert_eq!(
            report.to_string(),
            "0 eSwitches in switchdev mode; of 0 representors of servers' functions 0 were up, 0 are closed\n"
        );
    }
}
