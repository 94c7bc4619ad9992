//! How far OVN has come with a logical port.

use serde::{Deserialize, Serialize};

use super::IdentityError;

/// What is known of a logical port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortState {
    /// The southbound cannot be asked.
    Disconnected {
        why: String,
    },
    /// Asked, not answered.
    Asking,
    Missing,
    NoIdentity(IdentityError),
    /// It is that of another pod, which has the same name.
    OtherPod {
        uid: String,
    },
    Known {
        chassis: ChassisState,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChassisState {
    Unbound,
    Ours,
    /// Bound elsewhere; `requested` when the CMS asks for us all the same (`options:requested-chassis`).
    Other {
        name: String,
        requested: bool,
    },
    /// The CMS asks for another, whoever has bound it.
    Elsewhere {
        name: String,
    },
    /// The CMS asks for one that is not there, by a name that is not ours, and nobody has bound it.
    Nowhere {
        requested: String,
        /// Our names.
        own: String,
        hostname: String,
    },
}

impl PortState {
    /// Is it another's: of another pod, or of a chassis that has bound it, or shall?
    pub fn is_lost(&self) -> bool {
        use ChassisState::{Elsewhere, Other};
        matches!(
            self,
            Self::OtherPod { .. }
                | Self::Known { chassis: Other { requested: false, .. } | Elsewhere { .. } }
        )
    }

    /// May our integration bridge claim the port? One that another chassis has bound is left there: two that claim it
    /// take it from each other for ever.
    pub fn may_plug(&self) -> bool {
        !self.is_lost() && *self != Self::Missing
    }
}
