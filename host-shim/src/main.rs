//! The plugin's executable: reads what the runtime gives, runs the command, prints the answer.
#![forbid(unsafe_code)]

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
