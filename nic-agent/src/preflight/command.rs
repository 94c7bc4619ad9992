//! `nic-agent preflight`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::jiff::Timestamp;

use super::observe::{self, Netlink, netlink};
use super::report::Report;
use super::{System, checks, file, table};

/// `EX_IOERR` of sysexits.h.
const NOT_WRITTEN: u8 = 74;

/// Is the NIC as the agent needs it? Changes nothing.
#[derive(Debug, Args)]
pub struct Preflight {
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The same as `-o json`.
    #[arg(long)]
    json: bool,
    /// Write the report to this file as well, for the agent.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Preflight {
    /// Looks at the NIC, prints, and writes. The status says whether anything has failed.
    pub async fn run(&self, configuration: &Path) -> ExitCode {
        let unread = |why: String| Netlink { eswitches: Err(why.clone()), uplinks: Err(why) };
        let netlink = tokio::task::spawn_blocking(netlink::look).await;
        let netlink = netlink.unwrap_or_else(|e| unread(format!("netlink task: {e}")));
        let report = report(&observe::system(Path::new("/"), configuration, netlink).await);
        let printed = if self.json || self.output == Output::Json {
            serde_json::to_string_pretty(&report).map_err(|e| e.to_string())
        } else {
            Ok(table::table(&report).trim_end().to_owned())
        };
        match printed {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("nic-agent: {error}"),
        }
        if let Some(path) = &self.write
            && let Err(error) = file::write(path, &report)
        {
            eprintln!("nic-agent: {error}; make its directory, or name another file with --write");
            return ExitCode::from(NOT_WRITTEN);
        }
        if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

fn report(system: &System) -> Report {
    Report {
        version: Report::VERSION,
        boot_id: system.boot_id.as_ref().ok().cloned(),
        time: Timestamp::from_second(system.now).unwrap_or_default().to_string(),
        checks: checks::all(system),
    }
}
