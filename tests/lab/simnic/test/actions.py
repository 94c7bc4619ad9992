# SPDX-License-Identifier: GPL-2.0
"""Each action, by the frame that comes out; misses that go on in software where the eSwitch knew no further."""
from lib import *

netns("k1", "ka", "kb", "kc", "kf")
nic("k1", "1 4")
sh("echo 4 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs")
for i, n in enumerate(("ka", "kb", "kc")):
    function(f"ens1v{i}", n)
    sh(f"ip -n k1 link set pf0vf{i} up")
sh("ip link set wire1 netns kf && ip -n kf link set wire1 up arp off && ip -n k1 link set p0 up arp off")
a, b, c, wire, rep = Tap("ka", "eth0"), Tap("kb", "eth0"), Tap("kc", "eth0"), Tap("kf", "wire1"), Tap("k1", "pf0vf0")
TAPS = dict(b=b, c=c, wire=wire, rep=rep)
TO_B, TO_C, TO_WIRE = (f"action mirred egress redirect dev {d}" for d in ("pf0vf1", "pf0vf2", "p0"))
VLAN5 = [(0x8100, 5, 0)]


def rule(args, pref=1, chain=0, proto="all", how="skip_sw", dev="pf0vf0"):
    tc("k1", f"filter add dev {dev} ingress chain {chain} pref {pref} protocol {proto} flower {how} {args}")


def sent(frame, ended=1, missed=0, by=a, **want):
    """Sends a frame: where it comes out (frames by tap), and what the eSwitch says of it."""
    for t in TAPS.values():
        t.got(0)
    was = stats(1)
    by.send(frame)
    out = {n: t.got(3 if n in want else 0.02, len(want.get(n, [])) or None) for n, t in sorted(TAPS.items(), key=lambda x: x[0] not in want)}
    now = stats(1)
    got = {n: f for n, f in out.items() if f}
    right = got == want and now["ended_in_hardware"] - was["ended_in_hardware"] == ended and now["to_software"] - was["to_software"] == missed
    return right, str({n: [x.hex() for x in f] for n, f in got.items()}) + f" {was} {now}"


def case(name, rules, frame, **want):
    filters("k1", "pf0vf0")
    for r in rules:
        rule(**r) if isinstance(r, dict) else rule(r)
    ok(*(lambda r: (r[0], name, r[1]))(sent(frame, **want)))


P = eth(ip4())
case("no rule: to software", [], P, ended=0, missed=1, rep=[P])
case("drop", ["action drop"], P)
case("redirect to a VF", [TO_B], P, b=[P])
case("redirect to the cable", [TO_WIRE], P, wire=[P])
case("mirror and redirect", ["action mirred egress mirror dev pf0vf2 pipe " + TO_B], P, b=[P], c=[P])
case("two mirrors and redirect", ["action mirred egress mirror dev pf0vf2 pipe action mirred egress mirror dev p0 pipe " + TO_B], P,
     b=[P], c=[P], wire=[P])
case("mirror and drop is refused elsewhere; mirror alone ends the frame", ["action mirred egress mirror dev pf0vf2"], P, c=[P])
case("trap", ["action trap"], P, ended=0, missed=1, rep=[P])
case("ok: to software", ["action ok"], P, ended=0, missed=1, rep=[P])
case("goto", ["action goto chain 7", dict(args=TO_B, chain=7)], P, b=[P])
case("goto chain 0: nowhere, as on mlx5", ["action goto chain 0"], P)
was = fault(1, "loops")
case("a loop of chains ends", [dict(args="action goto chain 7"), dict(args="action goto chain 7", chain=7)], P)
ok(fault(1, "loops") == was + 1, "and is counted")
case("vlan push", ["action vlan push id 5 pipe " + TO_B], P, b=[eth(ip4(), vlans=VLAN5)])
case("vlan push with prio", ["action vlan push id 5 priority 3 pipe " + TO_B], P, b=[eth(ip4(), vlans=[(0x8100, 5, 3)])])
case("vlan pop", [dict(args="vlan_id 5 action vlan pop pipe " + TO_B, proto="802.1Q")], eth(ip4(), vlans=VLAN5), b=[P])
case("vlan push twice", ["action vlan push id 5 pipe action vlan push id 6 protocol 802.1ad pipe " + TO_B], P,
     b=[eth(ip4(), vlans=[(0x88a8, 6, 0), (0x8100, 5, 0)])])
case("vlan pop twice", [dict(args="vlan_id 6 action vlan pop pipe action vlan pop pipe " + TO_B, proto="802.1ad")],
     eth(ip4(), vlans=[(0x88a8, 6, 0), (0x8100, 5, 0)]), b=[P])
case("vlan modify", [dict(args="vlan_id 5 action vlan modify id 9 pipe " + TO_B, proto="802.1Q")], eth(ip4(), vlans=VLAN5),
     b=[eth(ip4(), vlans=[(0x8100, 9, 0)])])

# rewriting, with checksums
PEDIT = [
    ("eth dst", "eth dst set 02:00:00:00:0c:0c", eth(ip4(), dst=mac("020000000c0c")), P, "ip"),
    ("ip src", "ip src set 10.7.7.7", eth(ip4(src="10.7.7.7")), P, "ip"),
    ("ip dst of tcp", "ip dst set 10.7.7.7", eth(ip4(dst="10.7.7.7", proto=6)), eth(ip4(proto=6)), "ip"),
    ("ip dst of icmp", "ip dst set 10.7.7.7", eth(ip4(dst="10.7.7.7", proto=1)), eth(ip4(proto=1)), "ip"),
    ("ip dst of udp without a checksum", "ip dst set 10.7.7.7", eth(ip4(dst="10.7.7.7", check=False)), eth(ip4(check=False)), "ip"),
    ("ip ttl", "ip ttl set 9", eth(ip4(ttl=9)), P, "ip"),
    ("ip tos", "ip tos set 0x28 retain 0xfc", eth(ip4(tos=0x28)), P, "ip"),
    ("tcp dport", "tcp dport set 8080", eth(ip4(proto=6, dport=8080)), eth(ip4(proto=6)), "ip"),
    ("udp sport", "udp sport set 53", eth(ip4(sport=53)), P, "ip"),
    ("ip6 src", "ip6 src set fd07::7", eth(ip6(src="fd07::7")), eth(ip6()), "ipv6"),
    ("ip6 dst of tcp", "ip6 dst set fd07::7", eth(ip6(dst="fd07::7", proto=6)), eth(ip6(proto=6)), "ipv6"),
    ("ip6 dst of icmp6", "ip6 dst set fd07::7", eth(ip6(dst="fd07::7", proto=58)), eth(ip6(proto=58)), "ipv6"),
    ("ip6 hoplimit", "ip6 hoplimit set 9", eth(ip6(ttl=9)), eth(ip6()), "ipv6"),
]
for name, ed, after, before, proto in PEDIT:
    l4_ = "ip_proto tcp " if name.startswith("tcp") else "ip_proto udp " if name.startswith("udp") else ""
    case(f"pedit {name}", [dict(args=f"{l4_}action pedit ex munge {ed} pipe {TO_B}", proto=proto)], before, b=[after])
    ok("without a checksum" in name or sums_right(after), f"pedit {name}: the frame we want has right checksums itself")
case("pedit of a later fragment leaves the payload alone",
     [dict(args=f"ip_proto udp action pedit ex munge ip src set 10.7.7.7 pipe {TO_B}", proto="ip")],
     eth(ip4(frag=4)), b=[eth(ip4(frag=4, src="10.7.7.7", payload=ip4()[1][20:]))])
case("the next chain sees what was rewritten", [dict(args="action pedit ex munge ip dst set 10.7.7.7 pipe action goto chain 2", proto="ip"),
     dict(args="dst_ip 10.7.7.7 " + TO_B, chain=2, proto="ip")], P, b=[eth(ip4(dst="10.7.7.7"))])
case("the next chain sees the tag that was pushed", ["action vlan push id 5 pipe action goto chain 2",
     dict(args="vlan_id 5 " + TO_B, chain=2, proto="802.1Q")], P, b=[eth(ip4(), vlans=VLAN5)])

# software goes on where the eSwitch got to
case("a miss goes on in its chain, not in chain 0", ["action goto chain 7", dict(args=TO_C, chain=7, how="skip_hw")], P,
     ended=0, missed=1, rep=[P], c=[P])
case("a miss in chain 0 starts software there", [dict(args=TO_C, how="skip_hw")], P, ended=0, missed=1, rep=[P], c=[P])
case("a miss keeps what was rewritten", [dict(args="action vlan push id 5 pipe action goto chain 7"),
     dict(args="vlan_id 5 " + TO_C, chain=7, how="skip_hw", proto="802.1Q")], P, ended=0, missed=1,
     rep=[eth(ip4(), vlans=VLAN5)], c=[eth(ip4(), vlans=VLAN5)])
sh("echo N >/sys/module/simnic/parameters/run")
case("run=N: all of it in software", [dict(args=TO_B, how="")], P, ended=0, missed=1, rep=[P], b=[P])
sh("echo Y >/sys/module/simnic/parameters/run")
write("nic1/run", "N")
case("the same for one NIC", [dict(args=TO_B, how="")], P, ended=0, missed=1, rep=[P], b=[P])
write("nic1/run", "Y")

# policers: by frames, so that time has no say: a bucket of 5 that needs 1000 s for one more cannot be had, 1/s can
filters("k1", "pf0vf0")
rule("action police pkts_rate 1 pkts_burst 5 conform-exceed drop/pipe " + TO_B)
was = stats(1)
for _ in range(50):
    a.send(P)
n = len(b.got(0.5))
ok(5 <= n < 40, "police: a burst passes, what exceeds the rate is dropped", str(n))
ok(stats(1)["ended_in_hardware"] - was["ended_in_hardware"] == 50, "police: all of it in the eSwitch")
drops = tc("k1", "-s filter show dev pf0vf0 ingress").stdout
ok(f"dropped {50 - n}," in drops, "police: its drops are told", drops)
case("police: a rate that is not reached", ["action police rate 8gbit burst 1m conform-exceed drop/pipe " + TO_B], P, b=[P])
case("police: frames over its mtu", ["action police mtu 40 conform-exceed drop/pipe " + TO_B], P)

# ports that are not there
filters("k1", "pf0vf0")
rule(TO_B)
write("carrier", "1 0 vf1 0")
ok(*(lambda r: (r[0], "a redirect to a port without carrier is lost", r[1]))(sent(P)))
ok("NO-CARRIER" in sh("ip -n kb link show eth0").stdout and "NO-CARRIER" in sh("ip -n k1 link show pf0vf1").stdout, "both ends see it")
ok(fault(1, "unplugged") == 1, "and it is counted")
write("carrier", "1 0 vf1 1")
ok(*(lambda r: (r[0], "and works again with it", r[1]))(sent(P, b=[P])))
sh("ip -n k1 link set pf0vf1 down")
ok("NO-CARRIER" in sh("ip -n kb link show eth0").stdout, "a function's carrier follows its representor")
ok(*(lambda r: (r[0], "a redirect to a representor that is down is lost", r[1]))(sent(P)))
sh("ip -n k1 link set pf0vf1 up")
case("from software to the function", [], P, ended=0, missed=1, rep=[P])
rep.send(P)
ok(a.got(3, 1) == [P], "a frame sent on a representor comes out of its function")
# a device that leaves takes itself out of the rules
filters("k1", "pf0vf0")
rule(TO_B)
rule(TO_C, pref=2)
sh("echo 0 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs; echo 4 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs")
function("ens1v0", "ka"); function("ens1v1", "kb")
a, b = Tap("ka", "eth0"), Tap("kb", "eth0")
TAPS["b"] = b
del TAPS["c"]
ok(*(lambda r: (r[0], "rules outlive the functions behind the representors", r[1]))(sent(P, by=a, b=[P])))
write("del", 1)
for n in ("k1", "ka", "kb", "kc", "kf"):
    sh(f"ip netns del {n}")
