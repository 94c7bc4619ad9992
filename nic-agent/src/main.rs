//! nic-agent: wiring only. See the library for what it does and `nic-agent(8)` for how to run it.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "../../packaging/completions/current.rs"]
mod completions;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nic_agent::app::App;
use nic_agent::config::{Config, Source};
use nic_agent::log::Logging;
use nic_agent::service_manager::ServiceManager;
use tokio::signal::unix::{SignalKind, signal};

/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

/// Drawbridge's agent on the SmartNIC.
#[derive(Parser)]
#[command(name = "nic-agent", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/nic-agent/nic-agent.toml")]
    config: PathBuf,
    /// Check the configuration file and exit.
    #[arg(long)]
    check: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
    match run(source, config).await {
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

async fn run(source: Source, config: Config) -> anyhow::Result<()> {
    let logging = Logging::install(&config.log)?;
    let app = App::build(source, config, logging).await?;
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
