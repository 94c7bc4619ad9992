//! Included by tests of each program: are the completions in this directory what clap makes of its command line?
//! `DRAWBRIDGE_WRITE=1 cargo test --locked --workspace completions` writes them.

use std::path::Path;

use clap_complete::{Shell, generate};

/// Where a package's lists look for them.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/completions");

/// Holds each shell's file of `program` against what is made of `command` now, or writes it where that is asked for.
pub fn check(program: &str, command: &clap::Command) {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let file = match shell {
            Shell::Zsh => format!("_{program}"),
            other => format!("{program}.{other}"),
        };
        let path = Path::new(DIRECTORY).join(file);
        let mut made = Vec::new();
        generate(shell, &mut command.clone(), program, &mut made);
        if std::env::var_os("DRAWBRIDGE_WRITE").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let found = std::fs::read(&path).unwrap_or_default();
        assert!(
            found == made,
            "{}: the command line is another: run this test with DRAWBRIDGE_WRITE=1",
            path.display()
        );
    }
}
