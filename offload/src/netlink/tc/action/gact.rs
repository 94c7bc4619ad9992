//! gact: an action that is only its verdict. (`linux/tc_act/tc_gact.h`)

use super::{Decoded, Meaning, Verdict, parameters};
use crate::flower::{End, NextChain};
use crate::netlink::wire::{Attributes, Malformed, Writer};

pub const KIND: &str = "gact";

const TCA_GACT_TM: u16 = 1;
const TCA_GACT_PARMS: u16 = 2;
const TCA_GACT_PAD: u16 = 4;

pub fn write(w: &mut Writer, verdict: Verdict) {
    w.put(TCA_GACT_PARMS, &verdict.generic());
}

/// Not of ours is what rolls dice (`TCA_GACT_PROB`).
pub fn decode(options: Attributes<'_>) -> Result<Decoded, Malformed> {
    let (found, plain) = parameters(options, TCA_GACT_PARMS, &[TCA_GACT_TM, TCA_GACT_PAD])?;
    let verdict = found.map(Verdict::of_generic).transpose()?;
    let end = match verdict {
        Some(Verdict::Drop) => Some(End::Drop),
        Some(Verdict::Trap) => Some(End::Trap),
        Some(Verdict::GotoChain(chain)) => NextChain::new(chain).map(End::Goto),
        _ => None,
    };
    Ok((verdict, end.filter(|_| plain).map(Meaning::End)))
}
