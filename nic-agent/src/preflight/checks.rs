//! Each check of a [`System`], as pure functions: found, wanted, and the command that mends it.

mod certificates;
mod eswitch;
mod kernel;
mod machine;
mod switch;
mod sysctls;
mod uplinks;

pub use kernel::OPTIONS;
pub use sysctls::NAMES as SYSCTLS;

use super::report::{Line, MOST_LINES, State};
use super::system::{Configuration, Fact, System};

/// In the order in which a NIC comes up.
pub fn all(system: &System) -> Vec<Line> {
    let mut lines = vec![configuration(&system.configuration)];
    lines.extend(kernel::options(system));
    lines.push(machine::page_size(&system.kernel.page_size));
    lines.extend(sysctls::all(system));
    lines.extend(eswitch::all(&system.eswitches));
    lines.extend(uplinks::all(system));
    lines.extend(switch::all(system));
    lines.push(machine::synchronised(&system.synchronised));
    lines.extend(certificates::all(system));
    shortened(lines)
}

/// What passed goes first where there is too much for a report, and what is left out is said.
fn shortened(lines: Vec<Line>) -> Vec<Line> {
    let many = lines.len();
    if many <= MOST_LINES {
        return lines;
    }
    let (good, mut kept): (Vec<Line>, Vec<Line>) =
        lines.into_iter().partition(|line| line.state == State::Passed);
    kept.extend(good);
    kept.truncate(MOST_LINES - 1);
    let (found, wanted) = (format!("{many} lines"), format!("at most {MOST_LINES}"));
    let remedy =
        "eswitch.device in nic-agent.toml does not bound this: are there devices that are none of the NIC's?";
    kept.push(Line::new("report", "", State::Unknown, found, wanted, remedy));
    kept
}

fn configuration(configuration: &Fact<Configuration>) -> Line {
    let (check, wanted, remedy) = ("configuration", "no mistakes", "nic-agent --check");
    match configuration.as_ref().map(|it| it.problems.as_ref()) {
        Ok(None) => Line::new(check, "", State::Passed, "no mistakes", wanted, ""),
        Ok(Some(problems)) => Line::new(check, "", State::Failed, problems, wanted, remedy),
        Err(why) => Line::new(
            check,
            "",
            State::Unknown,
            why,
            wanted,
            "put the file there: /usr/share/doc/nic-agent/examples/nic-agent.example.toml",
        ),
    }
}
