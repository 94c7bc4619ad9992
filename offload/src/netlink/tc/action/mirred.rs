//! mirred: out of another device. (`linux/tc_act/tc_mirred.h`)

use super::{Decoded, GENERIC, Meaning, Verdict, parameters};
use crate::flower::{End, Step};
use crate::ids::IfIndex;
use crate::netlink::wire::{Attributes, Malformed, Writer, u32_at};

pub const KIND: &str = "mirred";

const TCA_MIRRED_TM: u16 = 1;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_MIRRED_PAD: u16 = 3;

const EGRESS_REDIRECT: u32 = 1;
const EGRESS_MIRROR: u32 = 2;

pub fn redirect(w: &mut Writer, device: IfIndex) {
    write(w, Verdict::Stolen, EGRESS_REDIRECT, device);
}

pub fn mirror(w: &mut Writer, device: IfIndex) {
    write(w, Verdict::Pipe, EGRESS_MIRROR, device);
}

/// `struct tc_mirred`: `tc_gen`, eaction, ifindex.
fn write(w: &mut Writer, verdict: Verdict, action: u32, device: IfIndex) {
    let mut bytes = [0; GENERIC + 8];
    let fields = verdict.generic().into_iter().chain(action.to_ne_bytes()).chain(device.0.to_ne_bytes());
    bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    w.put(TCA_MIRRED_PARMS, &bytes);
}

/// Not of ours: to the ingress side of a device, to a block.
pub fn decode(options: Attributes<'_>) -> Result<Decoded, Malformed> {
    let (found, plain) = parameters(options, TCA_MIRRED_PARMS, &[TCA_MIRRED_TM, TCA_MIRRED_PAD])?;
    let Some(found) = found else { return Ok((None, None)) };
    let verdict = Verdict::of_generic(found)?;
    let device = IfIndex(u32_at(found.value, GENERIC + 4)?);
    let meaning = match (u32_at(found.value, GENERIC)?, verdict) {
        (EGRESS_REDIRECT, Verdict::Stolen) => Some(Meaning::End(End::Redirect(device))),
        (EGRESS_MIRROR, Verdict::Pipe) => Some(Meaning::Step(Step::Mirror(device))),
        _ => None,
    };
    Ok((Some(verdict), meaning.filter(|_| plain)))
}
