//! Services, their EndpointSlices, and which endpoints a client gets: one meaning for `cluster-controller`, which writes
//! OVN's load balancers from it, and for `nic-agent`, which judges by it what a pod may send to a ClusterIP.
//!
//! ```text
//!  JSON ──► Service ──────────┐
//!  JSON ──► EndpointSlice ──► Backing ──► backends of a port, for a client on a node
//! ```
//!
//! As kube-proxy has it: `CategorizeEndpoints` (pkg/proxy/topology.go) for a ClusterIP, KEP-1669 (endpoints that terminate),
//! KEP-2086 (`internalTrafficPolicy`), KEP-2433 and KEP-4444 (hints for zones), KEP-3015 (hints for nodes). Whether an
//! endpoint's address is believed is for the caller to say. Nothing here fails, and this crate does no I/O.
#![forbid(unsafe_code)]

/// The label of a Node that names its zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

mod backing;
mod object;
mod raw;
mod shares;
#[cfg(test)]
mod tests;

pub use backing::{Backing, Client, Scope};
pub use object::{Endpoint, EndpointSlice, Hints, ObjectName, Port, Protocol, Service, Target, WithMetadata};
pub use raw::strict_address;
pub use shares::{Excess, Limit, Limits, Served, Shares};
