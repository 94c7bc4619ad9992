//! `nic-agent replay`: the reconcile loop hears a recording, and is seen to do the same as it did then.
//!
//! Without a NIC, a configuration or a cluster: all that the loop is told, and all that it is answered, is in the file.
//! Nothing is changed but what is printed.

mod driver;

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::recording::End;
pub use driver::replay;

/// Another decision than the recorded one.
const DIFFERENT: u8 = 1;
/// What cannot be read.
const UNREADABLE: u8 = 2;

/// Take the decisions of a recording again, and compare them: without a NIC.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What nic-agent --record has written.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub async fn run(Arguments { file }: &Arguments) -> ExitCode {
    let opened = match File::open(file) {
        Ok(opened) => BufReader::new(opened),
        Err(e) => {
            eprintln!("nic-agent: {}: {e}", file.display());
            return ExitCode::from(UNREADABLE);
        }
    };
    let mut out = io::stdout().lock();
    let end = replay(opened, &mut out).await.and_then(|end| out.flush().map(|()| end));
    match end {
        Ok(End::Over | End::CutOff { .. }) => ExitCode::SUCCESS,
        Ok(End::Differs(_)) => ExitCode::from(DIFFERENT),
        Ok(end) => {
            eprintln!("nic-agent: {}: {end}", file.display());
            ExitCode::from(UNREADABLE)
        }
        // Whoever reads it has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("nic-agent: {e}");
            ExitCode::from(UNREADABLE)
        }
    }
}
