//! The plugin, run as a runtime runs it. One program: each that is linked with TLS and gRPC costs half a minute to build.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "a test's helpers may"
)]

mod agent;
mod lifecycle;
mod names;
mod restore;
mod support;
mod trouble;
