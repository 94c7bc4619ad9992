//! `ofproto/trace`: what a real switch would do with a frame.

use std::collections::BTreeSet;

use offload::ids::OfPort;
use offload::openflow::CtFlags;
use offload::openflow::interpret::{Body, Frame, L4, Piece};

use super::{BRIDGE, PrivateSwitch};

/// The frame in words that `ofproto/trace` takes.
pub fn words(in_port: OfPort, frame: &Frame) -> String {
    let mut out = format!("in_port={in_port},dl_src={},dl_dst={}", frame.eth_src, frame.eth_dst);
    if let Some(vid) = frame.vlan {
        out.push_str(",dl_vlan=");
        out.push_str(&vid.to_string());
    }
    let l4_words = |l4: &L4, piece: Piece, icmp_proto: u8, six: &str| {
        let shown = piece != Piece::Later;
        let ports = |name: &str, proto: u8, src: &u16, dst: &u16| {
            let ports = format!(",{name}_src={src},{name}_dst={dst}");
            format!(",nw_proto={proto}{}", if shown { ports.as_str() } else { "" })
        };
        let frag = match piece {
            Piece::Whole => "",
            Piece::First => ",nw_frag=first",
            Piece::Later => ",nw_frag=later",
        };
        let l4 = match l4 {
            L4::Tcp { src, dst, syn } => {
                let flags = if shown {
                    format!(",tcp_flags={:#x}", if *syn { 0x2 } else { 0x10 })
                } else {
                    String::new()
                };
                ports("tcp", 6, src, dst) + &flags
            }
            L4::Udp { src, dst } => ports("udp", 17, src, dst),
            L4::Sctp { src, dst } => ports("sctp", 132, src, dst),
            L4::Other(proto) => format!(",nw_proto={proto}"),
            L4::Icmp(icmp) if shown => {
                let nd = icmp.nd.map_or(String::new(), |nd| {
                    let option = if icmp.kind == 135 { "nd_sll" } else { "nd_tll" };
                    format!(",nd_target={},{option}={}", nd.target, nd.address)
                });
                format!(
                    ",nw_proto={icmp_proto},icmp{six}_type={},icmp{six}_code={}{nd}",
                    icmp.kind, icmp.code
                )
            }
            L4::Icmp(_) => format!(",nw_proto={icmp_proto}"),
        };
        format!("{frag}{l4}")
    };
    let payload = match &frame.body {
        Body::Other(kind) => format!(",dl_type={:#06x}", kind.get()),
        Body::Arp(arp) => format!(
            ",arp,arp_op={},arp_spa={},arp_tpa={},arp_sha={},arp_tha={}",
            arp.op, arp.spa, arp.tpa, arp.sha, arp.tha
        ),
        Body::Ipv4(ip) => {
            let l4 = l4_words(&ip.l4, ip.piece, 1, "");
            format!(",ip,nw_src={},nw_dst={},nw_ttl={}{l4}", ip.src, ip.dst, ip.ttl)
        }
        Body::Ipv6(ip) => {
            let l4 = l4_words(&ip.l4, ip.piece, 58, "v6");
            format!(",ipv6,ipv6_src={},ipv6_dst={},nw_ttl={}{l4}", ip.src, ip.dst, ip.ttl)
        }
    };
    out + &payload
}

/// What OVS would do with a frame.
pub struct Traced {
    /// To these ports it would send it.
    pub ports: BTreeSet<u32>,
    /// What it would leave in `ct_mark`.
    pub marks: Vec<u32>,
}

/// What OVS would do with the frame, if conntrack called it what our model of conntrack calls it.
pub fn traced(switch: &PrivateSwitch, in_port: OfPort, frame: &Frame, state: CtFlags) -> Traced {
    let names = CtFlags::NAMES.iter().filter(|(flag, _)| state.contains(*flag)).map(|(_, name)| *name);
    let next = names.collect::<Vec<_>>().join(",");
    let trace = switch.appctl(&["ofproto/trace", BRIDGE, &words(in_port, frame), "--ct-next", &next]);
    let number = |line: &str| -> Option<u32> {
        let line = line.trim();
        line.strip_prefix("output:").or_else(|| line.strip_prefix("-> output port is "))?.parse().ok()
    };
    let actions = trace.lines().filter_map(|line| line.strip_prefix("Datapath actions: "));
    // "…=0x5/0xff": a commit of a new connection, whose other bits are zero.
    let marks =
        actions.flat_map(|it| it.split(",mark=").skip(1).map(|it| it.split([',', ')', '/']).next().unwrap()));
    let marks = marks.map(|it| u32::from_str_radix(it.trim_start_matches("0x"), 16).unwrap());
    Traced { ports: trace.lines().filter_map(number).collect(), marks: marks.collect() }
}
