//! The loop itself, on a NIC of fakes: each keeps what it was told, does what its original would do, and can fail.
//!
//! ```text
//!  Bench ─ asks, detaches, policy, ... ─► Reconciler<Fakes> ─► Links, Ovs, Southbound, Switch, Disk, Clock
//!    │                                                                     │
//!    └─ the world's own steps: ovs-vswitchd, ovn-controller, packets ─► World ◄─┘ ─► observer: what is open, and whose
//! ```
//!
//! The observer reads the world, never the loop: what the fakes hold is what a NIC would have.

mod bench;
mod disk;
mod histories;
mod kernel;
mod names;
mod observer;
mod order;
mod ovs;
mod recording;
mod restart;
mod southbound;
mod stages;
mod superseded;
mod switch;
mod world;
mod zones;
