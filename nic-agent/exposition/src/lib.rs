//! What all of Drawbridge's `/metrics` have in common: the text formats and which of them a client gets, what the process
//! takes ([`process`]), and when certificates end ([`Certificates`]).
//!
//! Owns no registry and no listener. Failure: what cannot be read at a scrape is left out of it, the rest is shown.
#![forbid(unsafe_code)]

mod certificates;
mod format;
pub mod process;
mod text;

use std::fmt;

use prometheus_client::encoding::text::encode as open_metrics;
use prometheus_client::registry::Registry;

pub use certificates::{Certificates, Ends, first_end, last_end};
pub use format::Format;

/// All of a registry.
pub fn encode(registry: &Registry, format: Format) -> Result<String, fmt::Error> {
    let mut all = String::new();
    open_metrics(&mut all, registry)?;
    Ok(match format {
        Format::OpenMetrics => all,
        Format::Text => text::of_open_metrics(&all),
    })
}
