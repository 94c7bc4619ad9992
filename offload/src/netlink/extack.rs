//! The kernel's own explanation of an errno: the attributes behind an acknowledgement (`NLMSGERR_ATTR_*`).

use super::frame::NLMSG_HEADER;
use super::wire::{Attributes, Malformed, u32_at};

const MSG: u16 = 1;
const OFFSET: u16 = 2;
const MISSING_TYPE: u16 = 5;

/// `NLM_F_CAPPED`: only the request's header comes back.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow.
const ACK_TLVS: u16 = 0x200;

/// What an acknowledgement says: 0 or a negative errno, and perhaps a text. A text with code 0 is a warning, as flower gives
/// when the hardware refused a filter that software took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub code: i32,
    pub text: Option<String>,
}

impl Ack {
    /// From the payload of `NLMSG_ERROR`: the code, the request's header, perhaps the rest of the request, attributes.
    pub fn from_error(flags: u16, payload: &[u8]) -> Result<Self, Malformed> {
        let request_length = u32_at(payload, 4)? as usize;
        let echoed = if flags & CAPPED == 0 { request_length.max(NLMSG_HEADER) } else { NLMSG_HEADER };
        Self::parse(flags, payload, 4usize.saturating_add(echoed.min(payload.len())))
    }

    /// From the payload of `NLMSG_DONE`: the code (some kernels send none), attributes.
    pub fn from_done(flags: u16, payload: &[u8]) -> Result<Self, Malformed> {
        if payload.is_empty() {
            return Ok(Self { code: 0, text: None });
        }
        Self::parse(flags, payload, 4)
    }

    fn parse(flags: u16, payload: &[u8], attributes_at: usize) -> Result<Self, Malformed> {
        let code = u32_at(payload, 0)?.cast_signed();
        let mut text = None;
        if flags & ACK_TLVS != 0 {
            let (mut offset, mut missing) = (None, None);
            for attribute in Attributes::after(payload, attributes_at)? {
                let attribute = attribute?;
                match attribute.kind {
                    MSG => text = Some(attribute.text()),
                    OFFSET => offset = Some(attribute.u32()?),
                    MISSING_TYPE => missing = Some(attribute.u32()?),
                    _ => {}
                }
            }
            let place = match (missing, offset) {
                (Some(kind), _) => Some(format!("attribute {kind} is missing")),
                (None, Some(at)) => Some(format!("at byte {at} of the request")),
                (None, None) => None,
            };
            text = match (text, place) {
                (Some(text), Some(place)) => Some(format!("{text} ({place})")),
                (text, place) => text.or(place),
            };
        }
        Ok(Self { code, text })
    }
}

#[cfg(test)]
mod tests;
