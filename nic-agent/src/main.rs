//! nic-agent: wiring only. See the library for what it does and `nic-agent(8)` for how to run it.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "../../packaging/completions/current.rs"]
mod completions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use nic_agent::app::App;
use nic_agent::config::{Config, Source};
use nic_agent::log::Logging;
use nic_agent::preflight::command::Preflight;
use nic_agent::service_manager::ServiceManager;
use nic_agent::{alone, close, replay};
use tokio::signal::unix::{SignalKind, signal};

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

/// Drawbridge's agent on the SmartNIC.
#[derive(Parser)]
#[command(name = "nic-agent", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/nic-agent/nic-agent.toml")]
    config: PathBuf,
    /// Check the configuration file and exit.
    #[arg(long)]
    check: bool,
    /// Write what the reconcile loop hears and does to FILE, which must not be there yet: for nic-agent replay.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    record: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// None is the daemon.
#[derive(Subcommand)]
enum Command {
    /// Close all representors of the server's functions, and exit: before anything else of a boot.
    Close(close::Arguments),
    Preflight(Preflight),
    Replay(replay::Arguments),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.command.is_some() && arguments.record.is_some() {
        let why = "--record is the daemon's: no command goes with it";
        Arguments::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    match &arguments.command {
        Some(Command::Close(arguments)) => return close::run(arguments),
        Some(Command::Preflight(preflight)) => return preflight.run(&arguments.config).await,
        Some(Command::Replay(arguments)) => return Box::pin(replay::run(arguments)).await,
        None => {}
    }
    if arguments.check {
        return match Config::load(&arguments.config) {
            Ok(_) => ExitCode::SUCCESS,
            Err(e) => bad_configuration(&e),
        };
    }
    let (source, config) = match Source::open(&arguments.config) {
        Ok(opened) => opened,
        Err(e) => {
            ServiceManager::from_env().status(&format!("not started, and not tried again: {e}"));
            return bad_configuration(&e);
        }
    };
    // Large: it holds all that the agent is put together from.
    match Box::pin(run(source, config, arguments.record.as_deref())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            ServiceManager::from_env().status(&format!("not started: {e:#}"));
            eprintln!("nic-agent: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn bad_configuration(error: &nic_agent::config::ConfigError) -> ExitCode {
    eprintln!("nic-agent: {error}");
    ExitCode::from(BAD_CONFIGURATION)
}

async fn run(source: Source, config: Config, record: Option<&Path>) -> anyhow::Result<()> {
    let logging = Logging::install(&config.log)?;
    // Two would close each other's pods.
    let _alone = alone::claim()
        .context("whether another nic-agent runs cannot be told")?
        .context("another nic-agent runs in this network namespace: stop it first")?;
    let app = App::build(source, config, logging, record).await?;
    let cancel = app.canceller();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    app.run().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn completions_are_current() {
        super::completions::check("nic-agent", &<super::Arguments as clap::CommandFactory>::command());
    }
}
