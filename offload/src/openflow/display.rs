//! Flows as `ovs-ofctl` writes and reads them.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::actions::{
    Action, Commit, Ct, CtExec, CtZoneSource, Foreign, Nat, NatRange, Port, RegSlice, SetField,
};
use super::fields::Oxm;
use super::fields::{Bits, CtFlags, Masked, Reg};
use super::flow::{Flow, FlowKey, FlowMod};
use super::matches::{FragMatch, Icmp6Match, L4Match, Match, Payload, Ports, VlanMatch};
use crate::ids::MacAddr;

impl Display for Flow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "cookie={}, table={}, priority={}", self.cookie, self.table, self.priority)?;
        write!(f, "{} actions={}", AfterComma(&self.matches), Actions(&self.actions))
    }
}

impl Display for FlowKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "table={}, priority={}{}", self.table, self.priority, AfterComma(&self.matches))
    }
}

impl Display for FlowMod {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(flow) => write!(f, "add {flow}"),
            Self::ModifyStrict(flow) => write!(f, "modify_strict {flow}"),
            Self::DeleteStrict(key) => write!(f, "delete_strict {key}"),
            Self::Delete { table, cookie, matches } => {
                write!(f, "delete")?;
                if let Some(table) = table {
                    write!(f, " table={table}")?;
                }
                if let Some(cookie) = cookie {
                    write!(f, " cookie={cookie}/-1")?;
                }
                write!(f, " {matches}")
            }
        }
    }
}

struct AfterComma<'a>(&'a Match);

impl Display for AfterComma<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        parts(self.0).iter().try_for_each(|part| write!(f, ",{part}"))
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&parts(self).join(","))
    }
}

/// A list of actions.
pub struct Actions<'a>(pub &'a [Action]);

impl Display for Actions<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("drop");
        }
        let texts: Vec<String> = self.0.iter().map(Action::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

fn parts(matches: &Match) -> Vec<String> {
    let mut out = Parts(Vec::new());
    out.protocol(&matches.payload);
    out.exact("in_port", matches.in_port);
    out.masked("metadata", matches.metadata, |bits| format!("{bits:#x}"));
    for reg in Reg::ALL {
        out.masked(&reg.to_string(), matches.reg_match(reg), |bits| format!("{bits:#x}"));
    }
    out.exact("conj_id", matches.conj_id);
    if !matches.ct_state.is_any() {
        out.0.push(format!("ct_state={}", ct_state(matches.ct_state)));
    }
    out.exact("ct_zone", matches.ct_zone);
    out.masked("ct_mark", matches.ct_mark, |bits| format!("{bits:#x}"));
    match matches.vlan {
        VlanMatch::Any => {}
        VlanMatch::Vid(vid) => out.0.push(format!("dl_vlan={vid}")),
        VlanMatch::Untagged | VlanMatch::Tagged => {
            let vlan = matches.vlan.masked();
            out.0.push(format!("vlan_tci={:#06x}/{:#06x}", vlan.value(), vlan.mask()));
        }
    }
    out.masked("dl_src", matches.eth_src, |mac| mac.to_string());
    out.masked("dl_dst", matches.eth_dst, |mac| mac.to_string());
    out.payload(&matches.payload);
    out.0.extend(matches.other.iter().map(Oxm::to_string));
    out.0
}

struct Parts(Vec<String>);

impl Parts {
    fn exact<T: Display>(&mut self, name: &str, value: Option<T>) {
        self.0.extend(value.map(|value| format!("{name}={value}")));
    }

    fn masked<T: Bits>(&mut self, name: &str, pair: Masked<T>, show: impl Fn(T) -> String) {
        if pair.is_exact() {
            self.0.push(format!("{name}={}", show(pair.value())));
        } else if !pair.is_any() {
            self.0.push(format!("{name}={}/{}", show(pair.value()), show(pair.mask())));
        }
    }

    fn ipv4(&mut self, name: &str, pair: Masked<Ipv4Addr>) {
        self.address(name, pair);
    }

    fn ipv6(&mut self, name: &str, pair: Masked<Ipv6Addr>) {
        self.address(name, pair);
    }

    /// A mask of leading ones is shown as its length.
    fn address<T: Bits + Display>(&mut self, name: &str, pair: Masked<T>) {
        let unused = u32::try_from(128 - T::BYTES * 8).unwrap_or(0);
        let mask = pair.mask().to_bits().checked_shl(unused).unwrap_or(0);
        if pair.is_any() || pair.is_exact() || mask.leading_ones() != mask.count_ones() {
            self.masked(name, pair, |address| address.to_string());
        } else {
            self.0.push(format!("{name}={}/{}", pair.value(), mask.leading_ones()));
        }
    }

    fn mac(&mut self, name: &str, pair: Masked<MacAddr>) {
        self.masked(name, pair, |mac| mac.to_string());
    }

    /// The word that stands for Ethernet type and protocol.
    fn protocol(&mut self, payload: &Payload) {
        let word = match payload {
            Payload::Any => return,
            Payload::Other(other) => format!("dl_type={:#06x}", other.get()),
            Payload::Arp(_) => "arp".to_owned(),
            Payload::Ipv4(ip) => l4_word(&ip.l4, ["ip", "tcp", "udp", "sctp", "icmp"]),
            Payload::Ipv6(ip) => l4_word(&ip.l4, ["ipv6", "tcp6", "udp6", "sctp6", "icmp6"]),
        };
        self.0.push(word);
    }

    fn payload(&mut self, payload: &Payload) {
        match payload {
            Payload::Any | Payload::Other(_) => {}
            Payload::Arp(arp) => {
                self.exact("arp_op", arp.op);
                self.ipv4("arp_spa", arp.spa);
                self.ipv4("arp_tpa", arp.tpa);
                self.mac("arp_sha", arp.sha);
                self.mac("arp_tha", arp.tha);
            }
            Payload::Ipv4(ip) => {
                self.ipv4("nw_src", ip.src);
                self.ipv4("nw_dst", ip.dst);
                self.frag(ip.frag);
                self.ports(&ip.l4);
                if let L4Match::Icmp(icmp) = &ip.l4 {
                    self.exact("icmp_type", icmp.kind);
                    self.exact("icmp_code", icmp.code);
                }
            }
            Payload::Ipv6(ip) => {
                self.ipv6("ipv6_src", ip.src);
                self.ipv6("ipv6_dst", ip.dst);
                self.frag(ip.frag);
                self.exact("nw_ttl", ip.hops);
                self.ports(&ip.l4);
                match &ip.l4 {
                    L4Match::Icmp(Icmp6Match::Type(kind, code)) => {
                        self.exact("icmp_type", Some(kind.get()));
                        self.exact("icmp_code", *code);
                    }
                    L4Match::Icmp(Icmp6Match::Solicit { target, sll }) => {
                        self.exact("icmp_type", Some(135));
                        self.ipv6("nd_target", *target);
                        self.mac("nd_sll", *sll);
                    }
                    L4Match::Icmp(Icmp6Match::Advert { target, tll }) => {
                        self.exact("icmp_type", Some(136));
                        self.ipv6("nd_target", *target);
                        self.mac("nd_tll", *tll);
                    }
                    _ => {}
                }
            }
        }
    }

    fn frag(&mut self, frag: FragMatch) {
        let word = match frag {
            FragMatch::Any => return,
            FragMatch::No => "no",
            FragMatch::Yes => "yes",
            FragMatch::First => "first",
            FragMatch::Later => "later",
            FragMatch::NotLater => "not_later",
        };
        self.exact("nw_frag", Some(word));
    }

    fn ports<I>(&mut self, l4: &L4Match<I>) {
        match l4 {
            L4Match::Tcp(Ports { src, dst })
            | L4Match::Udp(Ports { src, dst })
            | L4Match::Sctp(Ports { src, dst }) => {
                // Masked ports must be in hexadecimal to be read back.
                let show = |pair: &Masked<u16>| {
                    let hex = !pair.is_exact();
                    move |port: u16| if hex { format!("{port:#x}") } else { port.to_string() }
                };
                self.masked("tp_src", *src, show(src));
                self.masked("tp_dst", *dst, show(dst));
            }
            L4Match::TcpFlags(flags) => self.masked("tcp_flags", *flags, |flags| format!("{flags:#x}")),
            L4Match::Other(other) => self.exact("nw_proto", Some(other.get())),
            L4Match::Any | L4Match::Icmp(_) => {}
        }
    }
}

fn l4_word<I>(l4: &L4Match<I>, [any, tcp, udp, sctp, icmp]: [&str; 5]) -> String {
    match l4 {
        L4Match::Any | L4Match::Other(_) => any,
        L4Match::Tcp(_) | L4Match::TcpFlags(_) => tcp,
        L4Match::Udp(_) => udp,
        L4Match::Sctp(_) => sctp,
        L4Match::Icmp(_) => icmp,
    }
    .to_owned()
}

fn ct_state(state: Masked<CtFlags>) -> String {
    let mut text = String::new();
    for (flag, name) in CtFlags::NAMES.iter().filter(|(flag, _)| state.mask().contains(*flag)) {
        text.push(if state.value().contains(*flag) { '+' } else { '-' });
        text.push_str(name);
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

impl Display for Oxm {
    /// A field that we have no name for, so nothing reads this back.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "field({:#06x},{})=0x{}", self.field.class, self.field.number, hex(&self.value))?;
        if self.mask.is_empty() { Ok(()) } else { write!(f, "/0x{}", hex(&self.mask)) }
    }
}

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "reg{}", self.number())
    }
}

impl Display for RegSlice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "NXM_NX_REG{}", self.reg.number())?;
        if *self == Self::whole(self.reg) {
            return f.write_str("[]");
        }
        let last = u16::from(self.offset).saturating_add(self.bits.saturating_sub(1).into());
        write!(f, "[{}..{last}]", self.offset)
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(port) => port.fmt(f),
            Self::InPort => f.write_str("IN_PORT"),
            Self::Local => f.write_str("LOCAL"),
            Self::Controller => f.write_str("CONTROLLER"),
            Self::Normal => f.write_str("NORMAL"),
            Self::Other(number) => number.fmt(f),
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output(port @ Port::Number(_)) => write!(f, "output:{port}"),
            Self::Output(port) => port.fmt(f),
            Self::OutputReg(slice) => write!(f, "output:{slice}"),
            Self::Set(set) => set.fmt(f),
            Self::Ct(ct) => ct.fmt(f),
            Self::CtClear => f.write_str("ct_clear"),
            Self::Meter(meter) => write!(f, "meter:{meter}"),
            Self::Resubmit(table) => write!(f, "resubmit(,{table})"),
            Self::Goto(table) => write!(f, "goto_table:{table}"),
            Self::Conjunction { id, clause, clauses } => write!(f, "conjunction({id},{clause}/{clauses})"),
            Self::Note(note) => {
                let bytes: Vec<String> = note.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, "note:{}", bytes.join("."))
            }
            Self::Other(Foreign::Action(bytes)) => write!(f, "action(0x{})", hex(bytes)),
            Self::Other(Foreign::Instruction(bytes)) => write!(f, "instruction(0x{})", hex(bytes)),
        }
    }
}

fn masked_hex(value: Masked<u32>) -> String {
    if value.is_exact() {
        format!("{:#x}", value.value())
    } else {
        format!("{:#x}/{:#x}", value.value(), value.mask())
    }
}

impl Display for SetField {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reg(reg, value) => write!(f, "set_field:{}->{reg}", masked_hex(*value)),
            Self::EthSrc(mac) => write!(f, "set_field:{mac}->eth_src"),
            Self::EthDst(mac) => write!(f, "set_field:{mac}->eth_dst"),
            Self::Other(oxm) => write!(f, "set_field:{oxm}"),
        }
    }
}

impl Display for Ct {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.commit {
            Commit::No => {}
            Commit::Yes => parts.push("commit".to_owned()),
            Commit::Force => parts.push("commit,force".to_owned()),
        }
        parts.extend(self.table.map(|table| format!("table={table}")));
        parts.push(match self.zone {
            CtZoneSource::Fixed(zone) => format!("zone={zone}"),
            CtZoneSource::Reg(slice) => format!("zone={slice}"),
        });
        let mut exec = Vec::new();
        for item in &self.exec {
            match item {
                CtExec::SetMark(mark) => exec.push(format!("set_field:{}->ct_mark", masked_hex(*mark))),
                CtExec::CopyToMark(slice) => {
                    let last = slice.bits.saturating_sub(1);
                    exec.push(format!("move:{slice}->NXM_NX_CT_MARK[0..{last}]"));
                }
                CtExec::Nat(nat) => parts.push(nat.to_string()),
                CtExec::Other(bytes) => exec.push(format!("action(0x{})", hex(bytes))),
            }
        }
        if !exec.is_empty() {
            parts.push(format!("exec({})", exec.join(",")));
        }
        write!(f, "ct({})", parts.join(","))
    }
}

impl Display for Nat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restore => f.write_str("nat"),
            Self::Source(range) => write!(f, "nat(src={range})"),
            Self::Destination(range) => write!(f, "nat(dst={range})"),
        }
    }
}

impl Display for NatRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (first, last, ports) = match self {
            Self::Ipv4 { addresses: (first, last), ports } => (first.to_string(), last.to_string(), ports),
            Self::Ipv6 { addresses: (first, last), ports } => {
                (format!("[{first}]"), format!("[{last}]"), ports)
            }
        };
        f.write_str(&first)?;
        if first != last {
            write!(f, "-{last}")?;
        }
        match ports {
            None => Ok(()),
            Some((first, last)) if first == last => write!(f, ":{first}"),
            Some((first, last)) => write!(f, ":{first}-{last}"),
        }
    }
}
