//! TC actions: what a filter does.

use std::fmt;

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::tc::{TcAction, TcActionAttribute, TcActionOption};

use crate::netlink::wire::{Attribute, Malformed, u32_at};

const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_COOKIE: u16 = 6;
const TCA_GACT_PARMS: u16 = 2;
/// `struct tc_gact`: index, capab, action, refcnt, bindcnt.
const TC_GACT: usize = 20;

/// `TC_ACT_*`: how a packet goes on after an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Drop,
    Pipe,
    Trap,
    GotoChain(u32),
    Other(i32),
}

impl Verdict {
    const GOTO: u32 = 0x2000_0000;
    const OPERAND: u32 = 0x0fff_ffff;

    pub fn to_kernel(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Drop => 2,
            Self::Pipe => 3,
            Self::Trap => 8,
            Self::GotoChain(chain) => (Self::GOTO | chain & Self::OPERAND).cast_signed(),
            Self::Other(number) => number,
        }
    }

    pub fn from_kernel(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            2 => Self::Drop,
            3 => Self::Pipe,
            8 => Self::Trap,
            _ if number.cast_unsigned() & !Self::OPERAND == Self::GOTO => {
                Self::GotoChain(number.cast_unsigned() & Self::OPERAND)
            }
            _ => Self::Other(number),
        }
    }
}

/// A mark on an action that the kernel keeps and does not read. At most 12 bytes: OVS takes 16 for a flow id of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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

/// `TCA_GACT_PARMS`, which netlink-packet-route lacks: an action that is only its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GactParameters {
    pub verdict: Verdict,
}

impl Nla for GactParameters {
    fn value_len(&self) -> usize {
        TC_GACT
    }

    fn kind(&self) -> u16 {
        TCA_GACT_PARMS
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        let fields = [0, 0, self.verdict.to_kernel(), 0, 0].map(i32::to_ne_bytes);
        buffer.iter_mut().zip(fields.as_flattened()).for_each(|(to, from)| *to = *from);
    }
}

impl From<GactParameters> for DefaultNla {
    fn from(parameters: GactParameters) -> Self {
        let mut value = vec![0; parameters.value_len()];
        parameters.emit_value(&mut value);
        Self::new(parameters.kind(), value)
    }
}

/// An action to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionSpec {
    /// gact: nothing but a verdict.
    Verdict { verdict: Verdict, cookie: Option<Cookie> },
}

impl ActionSpec {
    /// `position` counts from 1: it is the attribute's type.
    pub(super) fn to_nla(&self, position: u16) -> TcAction {
        let Self::Verdict { verdict, cookie } = self;
        let mut action = TcAction::default();
        action.tab = position;
        action.attributes = vec![
            TcActionAttribute::Kind("gact".to_owned()),
            TcActionAttribute::Options(vec![TcActionOption::Other(
                GactParameters { verdict: *verdict }.into(),
            )]),
        ];
        action.attributes.extend(cookie.map(|cookie| TcActionAttribute::Cookie(cookie.as_bytes().to_vec())));
        action
    }
}

/// An action that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub kind: String,
    /// Of kinds whose parameters begin with the kernel's generic fields; that is all that we read yet of kinds but gact.
    pub verdict: Option<Verdict>,
    pub cookie: Option<Vec<u8>>,
}

impl Action {
    /// From one entry of `TCA_FLOWER_ACT`.
    pub(super) fn decode(nest: Attribute<'_>) -> Result<Self, Malformed> {
        let attributes = nest.nested();
        let kind =
            attributes.find(TCA_ACT_KIND)?.ok_or_else(|| Malformed::new("an action without a kind"))?.text();
        let parameters = match attributes.find(TCA_ACT_OPTIONS)? {
            Some(options) if kind == "gact" => options.nested().find(TCA_GACT_PARMS)?,
            _ => None,
        };
        let verdict = parameters
            .map(|p| u32_at(p.value, 8).map(|number| Verdict::from_kernel(number.cast_signed())))
            .transpose()?;
        let cookie = attributes.find(TCA_ACT_COOKIE)?.map(|cookie| cookie.value.to_vec());
        Ok(Self { kind, verdict, cookie })
    }

    pub fn bears(&self, mark: &Cookie) -> bool {
        self.cookie.as_deref() == Some(mark.as_bytes())
    }
}
