//! A report for people: what is not as it should be first, each with the command that mends it.

use std::fmt::Write;

use super::report::{Report, State};

const ORDER: [State; 4] = [State::Failed, State::Warning, State::Unknown, State::Passed];

pub fn table(report: &Report) -> String {
    let width = report.checks.iter().map(|line| line.name().chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for state in ORDER {
        for line in report.of(state) {
            let (name, found) = (line.name(), &line.found);
            // A String takes whatever is written to it.
            let _ = writeln!(text, "{state:<7}  {name:<width$}  {found}");
            if state != State::Passed {
                let _ = writeln!(text, "{:9}wanted: {}", "", line.wanted);
                let _ = writeln!(text, "{:9}mend:   {}", "", line.remedy);
            }
        }
    }
    let counts =
        ORDER.map(|state| format!("{} {}", report.of(state).count(), state.to_string().to_lowercase()));
    let _ = writeln!(text, "{}", counts.join(", "));
    text
}

#[cfg(test)]
mod tests {
    use super::super::report::Line;
    use super::*;

    #[test]
    fn what_is_wrong_comes_first() {
        let checks = vec![
            Line::new("page-size", "", State::Passed, "4 KiB", "4 KiB", ""),
            Line::new(
                "eswitch-mode",
                "pci/x",
                State::Failed,
                "legacy",
                "switchdev",
                "devlink dev eswitch set",
            ),
        ];
        let report = Report { version: 1, boot_id: None, time: String::new(), checks };
        assert_eq!(
            table(&report),
            "Failed   eswitch-mode pci/x  legacy\n         wanted: switchdev\n         mend:   devlink dev eswitch set\n\
             Passed   page-size           4 KiB\n1 failed, 0 warning, 0 unknown, 1 passed\n"
        );
    }
}
