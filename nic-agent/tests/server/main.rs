//! The gRPC server. One program: each that is linked with TLS and gRPC costs half a minute to build.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod common;
mod health;
mod hostile;
mod requests;
mod starve;
mod tls;
