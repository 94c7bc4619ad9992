//! cluster-controller: wiring only. See the library for what it does and `cluster-controller(8)` for how to run it.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use cluster_controller::app::{App, Config};
use cluster_controller::arguments::{Arguments, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// `EX_USAGE` of sysexits.h.
const BAD_USAGE: u8 = 64;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("cluster-controller: {error}");
            return ExitCode::from(BAD_USAGE);
        }
    };
    match run(&arguments, config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments, config: Config) -> anyhow::Result<()> {
    let levels: Targets = arguments.log_level.parse().context("--log-level")?;
    let output = match arguments.log_format {
        LogFormat::Text => {
            fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(output.with_filter(levels)).init();
    let client = kube::Client::try_default().await.context("no way to the Kubernetes API")?;
    let app = App::build(config, client).await.context(format!("--listen {}", arguments.listen))?;
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
