//! The kinds of objects that the agent watches. One file each, which says all that is particular to the kind: where the API
//! has it, which of its objects are watched, what is kept of one, and who receives that.
//!
//! A new kind is a file here, its `mod`, and its line in the list below. Nothing else of the watching asks which kind it has
//! before it, but that the directory is known when pods are. What stands elsewhere is the right to read it
//! (`packaging/kubernetes`) and who can write it (docs/trust.md).
//!
//! No I/O. An object that cannot be read changes nothing, and says why.

mod endpoint_slices;
mod namespaces;
mod network_policies;
mod nic_nodes;
mod node_ranges;
mod nodes;
mod own_node;
mod pod_attachments;
mod pods;
mod services;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::receivers::Receivers;
use crate::config::Config;
use crate::policy::ObjectName;

/// Where the API has a kind.
#[derive(Debug, Clone, Copy)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    /// As in `kind:`.
    pub name: &'static str,
    /// As in paths.
    pub plural: &'static str,
}

/// What a file of this directory says of its kind.
pub trait Watched: Clone + Debug + Send + Sync + 'static {
    const RESOURCE: Resource;
    /// For people; each kind has another.
    const LABEL: &'static str = Self::RESOURCE.plural;
    /// The cluster can do without it: its CRD may not be there.
    const IS_OPTIONAL: bool = false;
    /// Nothing but its metadata is asked for.
    const METADATA_ONLY: bool = false;

    /// What is kept of an object.
    type Kept;

    /// Does the agent need it with this configuration?
    fn is_needed(_: &Config) -> bool {
        true
    }

    /// Of which objects; `None`: of all.
    fn field_selector(_: &Config) -> Option<String> {
        None
    }

    /// The namespace in whose turn an object is taken in.
    fn owner(name: &ObjectName) -> &Arc<str> {
        &name.namespace
    }

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error>;

    /// Of an object that was too large to be held as a whole. What is missing may be what denies, so what this gives denies
    /// by itself; `Err`: what the object said before stays.
    fn read_cut(object: &mut Value) -> Result<Self::Kept, String> {
        Self::read(object).map_err(|e| e.to_string())?;
        Err("it has too many fields to be read; make several objects of it".to_owned())
    }

    /// An object is there, or is another than before.
    fn put(name: ObjectName, kept: Self::Kept, receivers: &mut Receivers);

    /// An object is gone. Others of its name may have come and gone since, of which nobody has read what they said.
    fn remove(name: ObjectName, uid: &str, receivers: &mut Receivers);

    /// These are all there are.
    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers);
}

/// A kind of the list.
pub trait Listed: Watched {
    const KIND: Kind;
}

/// Does something with each kind of the list.
pub trait ForEachKind {
    fn visit<K: Listed>(&mut self);
}

/// In the order of the list, which is that of `source` in `/policy`.
macro_rules! list {
    ($($kind:ident in $module:ident,)*) => {
        $(pub use $module::$kind;

        impl Listed for $kind {
            const KIND: Kind = Kind::$kind;
        })*

        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// For people, each kind another.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $kind::LABEL,)*
                }
            }

            /// As [`Watched::owner`].
            pub fn owner(self, name: &ObjectName) -> &Arc<str> {
                match self {
                    $(Self::$kind => $kind::owner(name),)*
                }
            }

            /// As [`Watched::remove`].
            pub fn remove(self, name: ObjectName, uid: &str, receivers: &mut Receivers) {
                match self {
                    $(Self::$kind => $kind::remove(name, uid, receivers),)*
                }
            }

            /// As [`Watched::retain`].
            pub fn retain(self, listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
                match self {
                    $(Self::$kind => $kind::retain(listed, receivers),)*
                }
            }
        }

        pub fn for_each_kind(visitor: &mut impl ForEachKind) {
            $(visitor.visit::<$kind>();)*
        }
    };
}

list! {
    EndpointSlices in endpoint_slices,
    Namespaces in namespaces,
    NetworkPolicies in network_policies,
    NicNodes in nic_nodes,
    NodeRanges in node_ranges,
    Nodes in nodes,
    OwnNode in own_node,
    PodAttachments in pod_attachments,
    Pods in pods,
    Services in services,
}

fn read<T: DeserializeOwned>(object: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(object)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list that was cut may end in what cannot be read.
fn clear_lists(object: &mut Value, pointers: &[&str]) {
    for at in pointers {
        if let Some(list) = object.pointer_mut(at) {
            *list = Value::Array(Vec::new());
        }
    }
}
