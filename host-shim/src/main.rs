//! The plugin's executable: reads what the runtime gives, runs the command, prints the answer.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "../../packaging/completions/current.rs"]
mod completions;

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use host_shim::{
    args::Environment,
    error::{CniError, Code},
    fail, run,
};
use tokio::runtime::{Builder, Runtime};

/// A network configuration with the results of the plugins before us is a few kilobytes.
const STDIN_MAX: u64 = 4 << 20;

/// EX_USAGE of sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|arg| arg == "--version") {
        println!("host-shim {} (CNI 0.4.0, 1.0.0, 1.1.0)", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if std::env::args().nth(1).is_some_and(|arg| arg == "restore") {
        return restore();
    }
    let mut stdin = Vec::new();
    let environment = Environment::from_process();
    // STATUS of old runtimes and a person at a terminal give no stdin: only read what a command needs.
    let read = match environment.command() {
        Ok(_) => io::stdin().take(STDIN_MAX).read_to_end(&mut stdin).map(|_| ()),
        Err(_) => Ok(()),
    };
    let runtime = read.and_then(|()| runtime());
    let reply = match runtime {
        Ok(runtime) => runtime.block_on(run(&environment, &stdin)),
        Err(error) => fail(&CniError::new(Code::Io, format_args!("cannot start: {error}")), &stdin),
    };
    if !reply.stdout.is_empty() && writeln!(io::stdout(), "{}", reply.stdout).is_err() {
        return ExitCode::FAILURE;
    }
    if reply.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One thread: the work is a few calls in a row.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Not a runtime's command but udev's, or a person's.
fn restore() -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("host-shim: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(host_shim::restore(std::env::args().skip(2))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("host-shim: {error}");
            ExitCode::from(USAGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command, ValueHint};

    /// What a person may type; a runtime starts the plugin without arguments. It is read by hand, as two options need no clap in a
    /// program that starts once for each pod.
    fn command() -> Command {
        let state_dir = Arg::new("state-dir")
            .long("state-dir")
            .value_name("DIRECTORY")
            .value_hint(ValueHint::DirPath)
            .help("Where the records of pods are");
        let devices = Arg::new("pci-address").num_args(0..).help("Only these VFs");
        let restore = Command::new("restore").about("Gives pods their VFs back").arg(state_dir).arg(devices);
        Command::new("host-shim")
            .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("Says which it is"))
            .subcommand(restore.disable_help_flag(true))
            .disable_help_flag(true)
            .disable_help_subcommand(true)
    }

    #[test]
    fn completions_are_current() {
        super::completions::check("host-shim", &command());
    }

    /// What is completed is what the program reads.
    #[tokio::test]
    async fn what_completions_offer_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let restore = command().find_subcommand("restore").unwrap().clone();
        let mut arguments = Vec::new();
        for argument in restore.get_arguments() {
            match argument.get_long() {
                Some("state-dir") => arguments.extend(["--state-dir", directory.path().to_str().unwrap()]),
                Some(other) => panic!("--{other}: restore does not read it"),
                None => arguments.push("0000:03:00.2"),
            }
        }
        assert_eq!(arguments.len(), 3);
        assert!(host_shim::restore(arguments.into_iter().map(str::to_owned)).await.unwrap());
    }
}
