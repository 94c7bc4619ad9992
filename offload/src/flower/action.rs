//! What a flower filter does.

use std::fmt;

use super::NextChain;
use crate::ids::{CtZone, IfIndex};

/// Steps in order, then an end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actions {
    pub steps: Vec<Step>,
    pub end: End,
    /// Set on the first action: whose rule this is. The kernel keeps it and does not read it.
    pub cookie: Option<Cookie>,
}

/// An action after which the next one runs (`TC_ACT_PIPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A copy goes out there (`mirred egress mirror`).
    Mirror(IfIndex),
    VlanPush(VlanTag),
    VlanPop,
    Ct(CtAction),
    /// `ct clear`.
    CtClear,
}

/// 802.1Q, priority 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanTag {
    pub id: u16,
}

/// Through a zone, without translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtAction {
    pub zone: CtZone,
    pub commit: bool,
}

/// Where a packet's way ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    Drop,
    /// To the NIC's processor.
    Trap,
    /// `mirred egress redirect`.
    Redirect(IfIndex),
    Goto(NextChain),
}

impl Actions {
    pub fn new(steps: Vec<Step>, end: End) -> Self {
        Self { steps, end, cookie: None }
    }

    pub fn drop() -> Self {
        Self::new(Vec::new(), End::Drop)
    }

    #[must_use]
    pub fn cookie(self, cookie: Cookie) -> Self {
        Self { cookie: Some(cookie), ..self }
    }
}

/// A mark on an action that the kernel keeps and does not read. At most 12 bytes: OVS takes 16 for a flow id of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Cookie {
    pub const MAX: usize = 12;

    /// `None` if empty or too long.
    pub fn new(mark: &[u8]) -> Option<Self> {
        if mark.is_empty() {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..mark.len())?.copy_from_slice(mark);
        Some(Self { bytes, length: u8::try_from(mark.len()).ok()? })
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
