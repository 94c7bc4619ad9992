//! Drawbridge's CMS for clusters that have no other: OVN's northbound, written from Kubernetes' objects.
//!
//! Runs in the cluster, one active at a time by a Lease. Owns the northbound's rows that bear its mark, and in the API the
//! statuses of `NodeRange`s, which say what addresses are whose ([`ranges`], [`publish`]), and nothing else;
//! gives no addresses (OVN does) and programs no switch (`ovn-controller` and nic-agent do). No SNAT, node ports or
//! gateways.
//!
//! ```text
//!  watches ──Change──► Plan ──wanted──┐
//!                                     ├─► Core ──Batch──► transact ──► northbound
//!  monitor ─Snapshot─► Observed ──────┘            ▲
//!  Lease ──until when we lead──────────────────────┘
//!                     Plan ──decisions──► Publisher ──► NodeRanges, and back by the watch
//! ```
//!
//! [`plan`] and [`northbound`] are pure; [`core`] keeps what is to be done; [`app`] does it. Nothing is kept on disk: what
//! is wanted is in Kubernetes, what is there in the northbound, so being killed at any moment loses nothing.
//!
//! Failure: without the API, or before all of it has been listed, nothing is written, and what is written stands. Without
//! the northbound it goes on trying. A row that cannot be written holds up no other: it is reported and tried again.
#![forbid(unsafe_code)]

pub mod app;
pub mod arguments;
pub mod cluster;
pub mod controller;
pub mod core;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod northbound;
pub mod plan;
pub mod publish;
pub mod ranges;
pub mod settings;
pub mod taint;
pub mod watch;
