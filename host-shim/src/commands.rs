//! The CNI commands, one module each.
pub mod add;
pub mod check;
pub mod del;
pub mod gc;
pub mod restore;
pub mod status;
pub mod version;

use serde_json::Value;

use crate::{
    args::{Command, Environment},
    config::Config,
    error::{CniError, Code},
    link::Link,
    note,
    state::{StateDir, VfRecord},
    version::CniVersion,
};

/// Runs the command that the environment names. None: success without anything to say.
pub async fn run(environment: &Environment, stdin: &[u8]) -> Result<Option<Value>, CniError> {
    let command = environment.command()?;
    if command == Command::Version {
        return version::run(stdin).map(Some);
    }
    let mut config = Config::parse(stdin)?;
    if matches!(command, Command::Status | Command::Gc) && config.version < CniVersion::V1_1_0 {
        let msg = format!("cniVersion {} has no STATUS and no GC; write \"1.1.0\"", config.version);
        return Err(CniError::new(Code::IncompatibleVersion, msg));
    }
    if command == Command::Add
        && let Some(error) = config.take_unsupported()
    {
        return Err(error.into());
    }
    match command {
        Command::Add => add::run(environment, &config).await.map(Some),
        Command::Del => del::run(environment, &config).await.map(|()| None),
        Command::Check => check::run(environment, &config).await.map(|()| None),
        Command::Status => status::run(&config).await.map(|()| None),
        Command::Gc => gc::run(&config).await.map(|()| None),
        Command::Version => Ok(None),
    }
}

/// A VF that is not called as it was keeps the name that it had in mind, for the next time that it comes home.
fn remember_name(state: &StateDir, was: &VfRecord, now: Option<&Link>) {
    if let Err(error) = state.keep_name(was, now.map(|link| link.name.as_str())) {
        note(error);
    }
}
