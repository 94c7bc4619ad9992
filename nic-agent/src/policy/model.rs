//! What the compiler needs of Kubernetes' objects, as values that have been checked.
//!
//! Read by serde from the JSON that Kubernetes writes: unknown fields are skipped, what is read is read strictly, but for
//! Services and their slices ([`kube_services`]). Texts
//! and label sets are shared, so that a pod of another node costs little.

mod object;
mod policy;
mod raw;
mod selector;
#[cfg(test)]
mod tests;
mod word;
mod wording;

pub use kube_services::{Endpoint, EndpointSlice, ObjectName, Port, Protocol, Service};
pub(in crate::policy) use object::find_port;
pub use object::{NamedPort, Namespace, Pod};
pub use policy::{Directions, Fault, Peer, Peers, Policy, PolicyPort, PolicyRule, Ports, Unkept};
pub use selector::{Labels, Requirement, Selector, Test};
pub use word::{Confirmed, NicNode, Node, NodeRange, PodAttachment, Word};
