//! ct: through conntrack, or out of it. (`linux/tc_act/tc_ct.h`, `net/sched/act_ct.c`)

use super::{Decoded, Meaning, Verdict};
use crate::flower::{CtAction, Step};
use crate::ids::CtZone;
use crate::netlink::wire::{Attributes, Malformed, Writer};

pub const KIND: &str = "ct";

const TCA_CT_PARMS: u16 = 1;
const TCA_CT_TM: u16 = 2;
const TCA_CT_ACTION: u16 = 3;
const TCA_CT_ZONE: u16 = 4;
const TCA_CT_PAD: u16 = 15;

/// `TCA_CT_ACT_*`.
const COMMIT: u16 = 1;
const CLEAR: u16 = 4;

pub fn write(w: &mut Writer, action: CtAction) {
    let flags = if action.commit { COMMIT } else { 0 };
    w.put(TCA_CT_PARMS, &Verdict::Pipe.generic())
        .put_u16(TCA_CT_ACTION, flags)
        .put_u16(TCA_CT_ZONE, action.zone.get());
}

pub fn clear(w: &mut Writer) {
    w.put(TCA_CT_PARMS, &Verdict::Pipe.generic()).put_u16(TCA_CT_ACTION, CLEAR);
}

/// Not of ours: translation, marks, labels, helpers, `force`, zone 0.
pub fn decode(options: Attributes<'_>) -> Result<Decoded, Malformed> {
    let (mut found, mut flags, mut zone, mut plain) = (None, 0, None, true);
    for attribute in options {
        let attribute = attribute?;
        match attribute.kind {
            TCA_CT_PARMS => found = Some(attribute),
            TCA_CT_ACTION => flags = attribute.u16()?,
            TCA_CT_ZONE => zone = CtZone::new(attribute.u16()?),
            TCA_CT_TM | TCA_CT_PAD => {}
            _ => plain = false,
        }
    }
    let Some(found) = found else { return Ok((None, None)) };
    let verdict = Verdict::of_generic(found)?;
    let step = match (flags, zone) {
        (CLEAR, None) => Some(Step::CtClear),
        (0 | COMMIT, Some(zone)) => Some(Step::Ct(CtAction { zone, commit: flags == COMMIT })),
        _ => None,
    };
    Ok((Some(verdict), step.filter(|_| plain && verdict == Verdict::Pipe).map(Meaning::Step)))
}
