//! What the end-to-end tests share. They run inside the lab VM (`tests/lab/lab run-test`) with a lab up, drive it
//! through the lab's own commands, and look with other people's tools: `ip`, `tc`, `ovs-ofctl`, `ovs-vsctl`, `tcpdump`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod balancer;
pub mod capture;
pub mod cluster;
pub mod command;
pub mod control_plane;
pub mod counters;
pub mod fault;
pub mod frame;
pub mod host;
pub mod json;
pub mod kube_oracle;
pub mod lies;
pub mod netns;
pub mod nic;
pub mod patience;
pub mod pod;
pub mod policy_lab;
pub mod recording;
pub mod state;
pub mod traffic;
pub mod unharmed;
pub mod unheld;
pub mod wait;

pub use capture::Capture;
pub use command::{Output, place, vm};
pub use nic::Nic;
pub use patience::{late, patience};
pub use pod::{Pod, Wish};
pub use policy_lab::PolicyLab;
pub use recording::Recording;
pub use state::State;
pub use wait::until;
