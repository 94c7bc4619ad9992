//! VERSION: which versions of the specification we speak.
use serde_json::{Value, json};

use crate::{
    config::peek_version,
    error::{CniError, Code},
    version::CniVersion,
};

/// Answers in the version asked for, if we speak it. Old runtimes give no stdin at all.
pub fn run(stdin: &[u8]) -> Result<Value, CniError> {
    let blank = stdin.iter().all(u8::is_ascii_whitespace);
    if !blank && let Err(error) = serde_json::from_slice::<Value>(stdin) {
        return Err(CniError::new(Code::Decode, format_args!("stdin is not JSON: {error}")));
    }
    let version = peek_version(stdin).unwrap_or(CniVersion::NEWEST);
    Ok(json!({
        "cniVersion": version.as_str(),
        "supportedVersions": CniVersion::ALL.map(CniVersion::as_str),
    }))
}
