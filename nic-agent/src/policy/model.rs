//! What the compiler needs of Kubernetes' objects, as values that have been checked.
//!
//! Read by serde from the JSON that Kubernetes writes: unknown fields are skipped, what is read is read strictly. Texts
//! and label sets are shared, so that a pod of another node costs little.

mod object;
mod policy;
mod raw;
mod selector;
#[cfg(test)]
mod tests;
mod word;
mod wording;

pub(in crate::policy) use object::find_port;
pub use object::{
    AddressKind, Endpoint, EndpointPort, EndpointSlice, NamedPort, Namespace, ObjectName, Pod, Protocol,
    Service, ServicePort, Target,
};
pub use policy::{Directions, Fault, Peer, Peers, Policy, PolicyPort, PolicyRule, Ports, Unkept};
pub use selector::{Labels, Requirement, Selector, Test};
pub use word::{Confirmed, NicNode, Node, NodeRange, PodAttachment, Word};
