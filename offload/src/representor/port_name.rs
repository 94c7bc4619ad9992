//! `phys_port_name` as the kernel forms it: `p0`, `pf0`, `c1pf0`, `c1pf0vf3`, `pf0sf8`.

use super::Function;
use crate::ids::VfId;

/// `None` for whatever else a driver calls its ports, `p0s1` of a split port included.
pub(super) fn parse_port_name(name: &str) -> Option<Function> {
    let (controller, rest) = match name.strip_prefix('c') {
        Some(rest) => {
            let (controller, rest) = number(rest)?;
            (Some(controller), rest)
        }
        None => (None, name),
    };
    let Some(rest) = rest.strip_prefix("pf") else {
        let (port, rest) = number(rest.strip_prefix('p')?)?;
        let whole = controller.is_none() && rest.is_empty();
        return whole.then_some(Function::Uplink { number: Some(port) });
    };
    let (pf, rest) = number(rest)?;
    let pf = u16::try_from(pf).ok()?;
    let own = controller.unwrap_or(0);
    if rest.is_empty() {
        // The kernel writes the controller exactly if the function is on another machine. Kernels before 5.10 never do,
        // and there such a name can only be the server's PF.
        return Some(Function::Pf { controller: own, pf, external: true });
    }
    if let Some(rest) = rest.strip_prefix("vf") {
        let (vf, rest) = number(rest)?;
        let vf = VfId { pf, vf: u16::try_from(vf).ok()? };
        return rest.is_empty().then_some(Function::Vf { controller: own, vf });
    }
    let (sf, rest) = number(rest.strip_prefix("sf")?)?;
    rest.is_empty().then_some(Function::Sf { controller: own, pf, sf })
}

/// A decimal number without sign or leading zeros, and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}
