//! Where a filter runs: in hardware, or in software and why; and the rule that keeps the two from contradicting.
//!
//! [`check`] predicts, for an NIC that takes and refuses as mlx5 does: the tables are those of Linux 6.12,
//! `drivers/net/ethernet/mellanox/mlx5/core` (`en_tc.c`, `en/tc_ct.c`, `en/tc/act/*.c`). The lab's simulated NIC is built
//! after the same tables. What the hardware said is in the filters' `in_hw`.
//!
//! The closure rule: *nothing of lower precedence may be in hardware under an overlapping filter that is not.* Else a
//! packet that software would have ended at the upper one is ended by the lower one in hardware. It is a rule of each
//! chain by itself: a packet that misses goes on in software in that very chain, with what conntrack said of it.
//! [`place`] makes it true of a program from the prediction, [`settle`] of what stands from what the hardware said.

use crate::flower::{
    Actions, ChainIndex, CtKey, End, IpKey, Key, L4, Payload, Place, Ports, Rule, Skip, Step,
};
use crate::ids::IfIndex;
use crate::openflow::{CtFlags, FragMatch};

mod closure;
mod foreign;
mod report;

pub use closure::{place, recover, settle, withdraw};
pub use foreign::{Foreseen, foresee};
pub use report::{InSoftware, Mismatch, Why, compare, in_software};

/// What a NIC can do, where NICs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Connection tracking (`MLX5_TC_CT`, loopback of reg_c1).
    pub conntrack: bool,
    /// Matches on ICMP's type and code (flex parser).
    pub icmp: bool,
    /// Matches on the time to live (`ft_field_support.outer_ipv4_ttl`).
    pub ttl: bool,
    /// Copies of frames that are changed between the copies.
    pub split_mirror: bool,
    /// Outputs of one rule.
    pub outputs: usize,
    /// Tags pushed, and tags taken, by one rule.
    pub vlans: usize,
    /// Highest chain (without `ignore_flow_level`: 3).
    pub chain: ChainIndex,
    /// Highest preference (without `ignore_flow_level`: 16).
    pub pref: u16,
}

impl Profile {
    /// `ConnectX`-6 Dx and later, `BlueField`: with `ignore_flow_level`.
    pub const MLX5: Self = Self {
        conntrack: true,
        icmp: true,
        ttl: true,
        split_mirror: true,
        outputs: 32,
        vlans: 2,
        chain: ChainIndex(u32::MAX),
        pref: u16::MAX,
    };
}

/// Why hardware does not take a filter. In mlx5's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reason {
    #[error("told to run in software")]
    Told,
    #[error("Requested chain is out of supported range")]
    Chain,
    #[error("Requested priority is out of supported range")]
    Pref,
    #[error("Only UDP and TCP transports are supported for L4 matching")]
    L4,
    #[error("Match on Flex protocols for ICMP is not supported")]
    Icmp,
    #[error("Matching on TTL is not supported")]
    Ttl,
    #[error("Unsupported match on control.flags")]
    Fragments,
    #[error("offload of ct matching isn't available")]
    CtMatch,
    #[error("matching on ct_state +rel isn't supported")]
    CtRelated,
    #[error("matching on ct_state +inv isn't supported")]
    CtInvalid,
    #[error("offload of ct action isn't available")]
    CtAction,
    #[error("Total vlans used is greater than supported")]
    Vlans,
    #[error("can't support more output ports, can't offload forwarding")]
    Outputs,
    #[error("can't duplicate output to same device")]
    SameOutput,
    #[error("can't forward from a VF to itself")]
    SamePort,
    #[error("current firmware doesn't support split rule for port mirroring")]
    SplitMirror,
    #[error("Rule cannot support forward+drop action")]
    DropForward,
    #[error("Rule must have at least one forward/drop action")]
    NoEnd,
    #[error("Unsupported key: fields of ARP")]
    Arp,
    #[error("Unsupported key: a range of ports")]
    PortRange,
    #[error("Can't match on \"l2_miss\"")]
    L2Miss,
    /// Open vSwitch 3.5.0 to 3.5.2, 3.6.0 and 3.6.1 match them in all that comes out of a tunnel.
    #[error("Unsupported match on enc_control.flags")]
    TunnelFlags,
    #[error("devices are not on same switch HW, can't offload forwarding")]
    OtherSwitch,
}

/// Will this filter, in this place, be in hardware?
///
/// # Errors
///
/// It will not.
pub fn check(rule: &Rule, at: Place, profile: &Profile) -> Result<(), Reason> {
    if rule.skip == Skip::Hardware {
        return Err(Reason::Told);
    }
    if at.chain > profile.chain {
        return Err(Reason::Chain);
    }
    if at.pref.0.get() > profile.pref {
        return Err(Reason::Pref);
    }
    check_key(&rule.key, profile)?;
    check_actions(&rule.actions, at.port, profile)
}

fn check_key(key: &Key, profile: &Profile) -> Result<(), Reason> {
    match &key.payload {
        Payload::Ipv4(ip) => check_ip(ip, profile)?,
        Payload::Ipv6(ip) => check_ip(ip, profile)?,
        Payload::Any | Payload::Other(_) | Payload::Arp => {}
    }
    check_ct(&key.ct, profile)
}

fn check_ip<A>(ip: &IpKey<A>, profile: &Profile) -> Result<(), Reason> {
    let icmp_any = |icmp: crate::flower::Icmp| icmp.kind.is_any() && icmp.code.is_any();
    let any_ports = |ports: Ports| ports.src.is_any() && ports.dst.is_any();
    if !ip.ttl.is_any() && !profile.ttl {
        return Err(Reason::Ttl);
    }
    match ip.frag {
        FragMatch::Any | FragMatch::No | FragMatch::Yes => {}
        FragMatch::First | FragMatch::Later | FragMatch::NotLater => return Err(Reason::Fragments),
    }
    match ip.l4 {
        L4::Sctp(ports) if !any_ports(ports) => Err(Reason::L4),
        L4::Icmp(icmp) if !profile.icmp && !icmp_any(icmp) => Err(Reason::Icmp),
        L4::Any | L4::Tcp(_) | L4::Udp(_) | L4::Sctp(_) | L4::Icmp(_) | L4::Other(_) => Ok(()),
    }
}

fn check_ct(ct: &CtKey, profile: &Profile) -> Result<(), Reason> {
    if !ct.is_any() && !profile.conntrack {
        return Err(Reason::CtMatch);
    }
    if ct.state.value().contains(CtFlags::REL) {
        return Err(Reason::CtRelated);
    }
    if ct.state.value().contains(CtFlags::INV) {
        return Err(Reason::CtInvalid);
    }
    Ok(())
}

fn check_actions(actions: &Actions, port: IfIndex, profile: &Profile) -> Result<(), Reason> {
    let (mut outputs, mut edited) = (Vec::new(), false);
    let (mut pushed, mut popped) = (0, 0);
    for step in &actions.steps {
        match step {
            Step::Mirror(to) => output(&mut outputs, *to, port, profile)?,
            Step::Ct(_) if !profile.conntrack => return Err(Reason::CtAction),
            Step::Ct(_) | Step::CtClear => {}
            Step::VlanPush(_) => pushed += 1,
            Step::VlanPop => popped += 1,
        }
        edited |= !outputs.is_empty() && matches!(step, Step::VlanPush(_) | Step::VlanPop);
    }
    if pushed > profile.vlans || popped > profile.vlans {
        return Err(Reason::Vlans);
    }
    match actions.end {
        End::Redirect(to) => output(&mut outputs, to, port, profile)?,
        End::Drop if !outputs.is_empty() => return Err(Reason::DropForward),
        End::Drop | End::Trap | End::Goto(_) => {}
    }
    if edited && !profile.split_mirror { Err(Reason::SplitMirror) } else { Ok(()) }
}

fn output(outputs: &mut Vec<IfIndex>, to: IfIndex, port: IfIndex, profile: &Profile) -> Result<(), Reason> {
    if outputs.contains(&to) {
        return Err(Reason::SameOutput);
    }
    if outputs.len() >= profile.outputs {
        return Err(Reason::Outputs);
    }
    // Said of VFs. Nor does any program of ours send a frame back to the uplink that it came from.
    if to == port {
        return Err(Reason::SamePort);
    }
    outputs.push(to);
    Ok(())
}

#[cfg(test)]
mod tests;
