//! Kubernetes' policies, compiled into the representation that [`offload::policy`] makes programs from.
//!
//! ```text
//!  pods, namespaces, policies, services, slices ──Change──►  Compiler  ──►  Arc<PodPolicy> of each pod of this node
//!   (a file; a cluster by way of Trust)                         ├──►  Report   what a user should know
//!                                                               └──►  Origins  which rule was it
//!
//!  Compiler:  Change ─┬─► index: addresses, pods, Services ──┬──► tiers of each pod ──► PodPolicy
//!                     └─► layers, one for a kind of policy ──┘
//! ```
//!
//! Pure: no I/O but [`Snapshot::from_file`], no clock, no task. The same objects give the same output, byte for byte, in
//! whatever order they came; a change recomputes what it touches and says which pods that changed.
//!
//! Failure: a policy that cannot be read as a whole keeps its last good state; one that never had any isolates the pods
//! that it selects and allows nothing by the rule that is wrong. What is decided where Kubernetes leaves it open stands
//! in docs/policy.md. Sources: the NetworkPolicy v1 API's documentation and validation, `pkg/apis/networking`.

mod budget;
mod compiler;
mod index;
mod layers;
mod model;
mod origins;
mod report;
mod snapshot;
mod trust;

pub use budget::{Budget, Cost, Excess};
pub use compiler::{Affected, Compiler, Settings};
pub use model::{
    Confirmed, Directions, Endpoint, EndpointSlice, Fault, Labels, NamedPort, Namespace, NicNode, Node,
    NodeRange, ObjectName, Peer, Peers, Pod, PodAttachment, Policy, PolicyPort, PolicyRule, Port, Ports,
    Protocol, Requirement, Selector, Service, Test, Unkept, Word,
};
pub use origins::{OriginKey, Origins};
pub use report::{Disbelief, InForce, Overrun, Report};
pub use snapshot::{Change, FileError, ObjectKind, Snapshot, WordKind};
pub use trust::{Held, Trust};
