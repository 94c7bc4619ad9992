# SPDX-License-Identifier: GPL-2.0
"""Each key: matches what it should, and nothing else. A frame that matches ends in the eSwitch, another goes to software."""
from lib import *

netns("k1", "ka", "kb")
nic("k1", "1 4")
sh("echo 4 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs")
function("ens1v0", "ka"); function("ens1v1", "kb")
sh("ip -n k1 link set pf0vf0 up; ip -n k1 link set pf0vf1 up")
a, b, rep = Tap("ka", "eth0"), Tap("kb", "eth0"), Tap("k1", "pf0vf0")
U, T, F = dict(proto=17), dict(proto=6), eth
ifindex = sh("cat /sys/class/net/lo/ifindex").stdout.strip()
GE = "0102:80:00020001"
# name, protocol and keys, frames that match, frames that do not
CASES = [
    ("all", "all flower", [F(ip4()), F(ip6()), F(arp()), F(ip4(), vlans=[(0x8100, 5, 0)])], []),
    ("ethertype", "ip flower", [F(ip4())], [F(ip6()), F(arp()), F(ip4(), vlans=[(0x8100, 5, 0)])]),
    ("arp ethertype", "arp flower", [F(arp())], [F(ip4())]),
    ("dst_mac", "all flower dst_mac 02:00:00:00:0b:0b", [F(ip4())], [F(ip4(), dst=A)]),
    ("dst_mac masked", "all flower dst_mac 02:00:00:00:0b:00/ff:ff:ff:ff:ff:00", [F(ip4())], [F(ip4(), dst=A)]),
    ("multicast bit", "all flower dst_mac 01:00:00:00:00:00/01:00:00:00:00:00", [F(ip4(), dst=b"\xff" * 6)], [F(ip4())]),
    ("src_mac", "all flower src_mac 02:00:00:00:0a:0a", [F(ip4())], [F(ip4(), src=B)]),
    ("indev", "ip flower indev pf0vf0", [F(ip4())], [F(ip6())]),
    ("vlan_id", "802.1Q flower vlan_id 5", [F(ip4(), vlans=[(0x8100, 5, 0)]), F(ip4(), vlans=[(0x8100, 5, 3)])],
     [F(ip4()), F(ip4(), vlans=[(0x8100, 6, 0)])]),
    ("vlan_prio", "802.1Q flower vlan_prio 3", [F(ip4(), vlans=[(0x8100, 5, 3)])], [F(ip4(), vlans=[(0x8100, 5, 4)])]),
    ("vlan_ethtype", "802.1Q flower vlan_id 5 vlan_ethtype ipv4", [F(ip4(), vlans=[(0x8100, 5, 0)])],
     [F(ip6(), vlans=[(0x8100, 5, 0)]), F(arp(), vlans=[(0x8100, 5, 0)])]),
    ("cvlan_id", "802.1ad flower vlan_id 5 vlan_ethtype 802.1q cvlan_id 9", [F(ip4(), vlans=[(0x88a8, 5, 0), (0x8100, 9, 0)])],
     [F(ip4(), vlans=[(0x88a8, 5, 0), (0x8100, 8, 0)]), F(ip4(), vlans=[(0x88a8, 5, 0)])]),
    ("src_ip", "ip flower src_ip 10.9.0.10", [F(ip4())], [F(ip4(src="10.9.0.12"))]),
    ("src_ip masked", "ip flower src_ip 10.9.0.0/24", [F(ip4())], [F(ip4(src="10.9.1.10"))]),
    ("dst_ip", "ip flower dst_ip 10.9.0.11", [F(ip4())], [F(ip4(dst="10.9.0.12"))]),
    ("src_ip v6", "ipv6 flower src_ip fd00::a", [F(ip6())], [F(ip6(src="fd00::c")), F(ip4())]),
    ("dst_ip v6 masked", "ipv6 flower dst_ip fd00::/64", [F(ip6())], [F(ip6(dst="fd01::b"))]),
    ("ip_proto", "ip flower ip_proto tcp", [F(ip4(**T))], [F(ip4(**U)), F(ip4(proto=1))]),
    ("tcp dst_port", "ip flower ip_proto tcp dst_port 80", [F(ip4(**T))], [F(ip4(dport=81, **T)), F(ip4(**U))]),
    ("tcp src_port", "ip flower ip_proto tcp src_port 1000", [F(ip4(**T))], [F(ip4(sport=80, **T))]),
    ("masked dst_port", "ip flower ip_proto tcp dst_port 80/0xfff8", [F(ip4(dport=87, **T))], [F(ip4(dport=88, **T))]),
    ("udp ports v6", "ipv6 flower ip_proto udp src_port 1000 dst_port 80", [F(ip6(**U))], [F(ip6(dport=1, **U)), F(ip6(**T))]),
    ("tcp_flags", "ip flower ip_proto tcp tcp_flags 0x2/0x12", [F(ip4(flags=2, **T))], [F(ip4(flags=0x12, **T)), F(ip4(**T))]),
    ("icmp type", "ip flower ip_proto icmp type 8", [F(ip4(proto=1))], [F(ip4(proto=1, typ=0))]),
    ("icmp type code", "ip flower ip_proto icmp type 3 code 1", [F(ip4(proto=1, typ=3, code=1))], [F(ip4(proto=1, typ=3, code=2))]),
    ("icmpv6 type", "ipv6 flower ip_proto icmpv6 type 135", [F(ip6(proto=58, typ=135))], [F(ip6(proto=58, typ=136))]),
    ("ip_tos", "ip flower ip_tos 0x10/0xfc", [F(ip4(tos=0x12))], [F(ip4(tos=0x20))]),
    ("ip_ttl", "ip flower ip_ttl 64", [F(ip4())], [F(ip4(ttl=63))]),
    ("ip_tos v6", "ipv6 flower ip_tos 0x10/0xfc", [F(ip6(tos=0x10))], [F(ip6())]),
    ("ip_ttl v6", "ipv6 flower ip_ttl 7", [F(ip6(ttl=7))], [F(ip6())]),
    ("frag", "ip flower ip_flags frag", [F(ip4(frag=0x2000)), F(ip4(frag=4))], [F(ip4())]),
    ("nofrag", "ip flower ip_flags nofrag", [F(ip4())], [F(ip4(frag=0x2000))]),
    ("ports of a later fragment", "ip flower ip_proto udp dst_port 80", [F(ip4())], [F(ip4(frag=4))]),
    ("ct_state -trk", "ip flower ct_state -trk", [F(ip4())], []),
    ("ct_state +trk", "ip flower ct_state +trk", [], [F(ip4())]),
    ("ct_zone", "ip flower ct_state +trk ct_zone 5", [], [F(ip4())]),
    ("ct_mark", "ip flower ct_mark 1/0xff", [], [F(ip4())]),
]
for name, keys, good, bad in CASES:
    filters("k1", "pf0vf0")
    proto, rest = keys.split(" ", 1)
    r = tc("k1", f"filter add dev pf0vf0 ingress pref 1 protocol {proto} {rest} skip_sw action mirred egress redirect dev pf0vf1", False)
    if not ok(r.returncode == 0, f"key {name}: taken", r.stderr.strip()):
        continue
    for i, (frames, want) in enumerate(((good, 1), (bad, 0))):
        for frame in frames:
            b.got(0); rep.got(0)
            was = stats(1)
            a.send(frame)
            here = b.got(3 if want else 0.02, want)
            up = rep.got(0 if want else 3, None if want else 1)
            now = stats(1)
            ended, missed = now["ended_in_hardware"] - was["ended_in_hardware"], now["to_software"] - was["to_software"]
            good_ = (here, up, ended, missed) == ([frame], [], 1, 0) if want else (here, up, ended, missed) == ([], [frame], 0, 1)
            ok(good_, f"key {name}: {'matches' if want else 'does not match'} {frame[12:38].hex()}",
               f"{len(here)} redirected, {len(up)} up, {ended} ended, {missed} missed")

# priorities and disjoint chains
filters("k1", "pf0vf0")
add = "filter add dev pf0vf0 ingress"
tc("k1", f"{add} pref 2 protocol ip flower skip_sw action mirred egress redirect dev pf0vf1")
tc("k1", f"{add} pref 1 protocol ip flower skip_sw ip_proto udp action drop")
a.send(eth(ip4())); a.send(eth(ip4(proto=6)))
ok([f[23] for f in b.got(3, 1)] == [6], "the lower pref comes first, whatever the order of addition")
was = tc("k1", "-s -j filter show dev pf0vf0 ingress pref 1").stdout
ok('"packets":1' in was.replace(" ", "") and "in_hw" in was, "a rule's counters are the hardware's", was)
write("del", 1)
for n in ("k1", "ka", "kb"):
    sh(f"ip netns del {n}")
