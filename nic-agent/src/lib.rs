//! Drawbridge's agent on the SmartNIC. It owns Open vSwitch and the boundary of each pod's VF, and believes nothing that
//! the server says.
#![forbid(unsafe_code)]

pub mod admission;
pub mod alone;
pub mod app;
pub mod attachment;
pub mod audit;
pub mod backend;
pub mod bucket;
pub mod certificates;
pub mod claim;
pub mod close;
pub mod cluster;
pub mod config;
pub mod directory;
pub mod durable;
pub mod edge;
pub mod endpoint;
pub mod enforcement;
pub mod intent;
mod jitter;
pub mod kernel;
pub mod key_pin;
pub mod kubeconfig;
pub mod ledger;
pub mod log;
pub mod management;
pub mod marks;
pub mod metrics;
mod names;
pub mod network;
mod news;
pub mod openflow;
mod outcome;
pub mod ovs;
pub mod platform;
pub mod policy;
pub mod preflight;
pub mod profile;
pub mod published;
pub mod reconcile;
pub mod replica;
pub mod representors;
pub mod server;
pub mod service_manager;
pub mod southbound;
