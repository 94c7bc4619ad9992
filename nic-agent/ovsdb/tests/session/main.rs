//! The session with real servers, and with ones that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, too

mod cluster;
mod common;
mod monitor;
mod remote;
mod transact;
