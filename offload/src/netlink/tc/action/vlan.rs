//! vlan: push and pop of a tag. (`linux/tc_act/tc_vlan.h`)

use super::{Decoded, GENERIC, Meaning, Verdict};
use crate::flower::{Step, VlanTag};
use crate::netlink::wire::{Attributes, Malformed, Writer, u32_at};

pub const KIND: &str = "vlan";
/// The kernel refuses 4095, which 802.1Q reserves, and what is above.
pub const MAX_ID: u16 = 4094;

const TCA_VLAN_TM: u16 = 1;
const TCA_VLAN_PARMS: u16 = 2;
const TCA_VLAN_PUSH_ID: u16 = 3;
const TCA_VLAN_PUSH_PROTOCOL: u16 = 4;
const TCA_VLAN_PAD: u16 = 5;
const TCA_VLAN_PUSH_PRIORITY: u16 = 6;

const POP: u32 = 1;
const PUSH: u32 = 2;
const ETH_P_8021Q: u16 = 0x8100;

/// `struct tc_vlan`: `tc_gen`, v_action.
fn parameters(w: &mut Writer, action: u32) {
    let mut bytes = [0; GENERIC + 4];
    let fields = Verdict::Pipe.generic().into_iter().chain(action.to_ne_bytes());
    bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    w.put(TCA_VLAN_PARMS, &bytes);
}

pub fn pop(w: &mut Writer) {
    parameters(w, POP);
}

pub fn push(w: &mut Writer, tag: VlanTag) {
    parameters(w, PUSH);
    // Without a protocol it is 802.1Q.
    w.put_u16(TCA_VLAN_PUSH_ID, tag.id);
}

/// Not of ours: rewriting a tag, 802.1ad, a priority.
pub fn decode(options: Attributes<'_>) -> Result<Decoded, Malformed> {
    let (mut found, mut id, mut protocol, mut plain) = (None, None, None, true);
    for attribute in options {
        let attribute = attribute?;
        match attribute.kind {
            TCA_VLAN_PARMS => found = Some(attribute),
            TCA_VLAN_PUSH_ID => id = Some(attribute.u16()?),
            TCA_VLAN_PUSH_PROTOCOL => protocol = Some(u16::from_be(attribute.u16()?)),
            TCA_VLAN_PUSH_PRIORITY => plain &= attribute.u8()? == 0,
            TCA_VLAN_TM | TCA_VLAN_PAD => {}
            _ => plain = false,
        }
    }
    let Some(found) = found else { return Ok((None, None)) };
    let verdict = Verdict::of_generic(found)?;
    let step = match (u32_at(found.value, GENERIC)?, id, protocol) {
        (POP, None, None) => Some(Step::VlanPop),
        (PUSH, Some(id), None | Some(ETH_P_8021Q)) => Some(Step::VlanPush(VlanTag { id })),
        _ => None,
    };
    Ok((Some(verdict), step.filter(|_| plain && verdict == Verdict::Pipe).map(Meaning::Step)))
}
