# SPDX-License-Identifier: GPL-2.0
"""What is refused, with its text and its count; a full table, injected failures, a slow eSwitch, one that forgets."""
import threading
from lib import *

netns("k1", "k2", "ka", "kb")
nic("k1", "1 4 pfs=2")
nic("k2", "2 2")
sh("ip -n k1 link add gen0 type geneve external dstport 6081; ip -n k1 link add vx0 type vxlan external dstport 4789")
sh("for d in gen0 vx0 pf0vf0 pf0vf1 p0 p1; do ip -n k1 link set $d up; done; ip -n k1 link add dum0 type dummy")
TO_B = "action mirred egress redirect dev pf0vf1"
UNSET, IP = "action tunnel_key unset pipe " + TO_B, "enc_src_ip 10.0.0.2 enc_dst_ip 10.0.0.1 enc_key_id 7 "
# counter, device, protocol, rule, text
CASES = [
    ("key", "pf0vf0", "ip", "ip_proto tcp dst_port 80-90 " + TO_B, "Unsupported key"),
    ("key", "pf0vf0", "arp", "arp_sip 10.0.0.1 " + TO_B, "Unsupported key"),
    ("key", "pf0vf0", "mpls_uc", "mpls_label 5 " + TO_B, "Unsupported key"),
    ("l4_proto", "pf0vf0", "ip", "ip_proto sctp dst_port 80 " + TO_B, "Only UDP and TCP transports are supported for L4 matching"),
    ("control_flags", "pf0vf0", "ip", "ip_flags firstfrag " + TO_B, "Unsupported match on control.flags"),
    ("ifindex", "pf0vf0", "ip", "indev pf0vf1 " + TO_B, "Can't match on the ingress filter port"),
    ("ct_rel", "pf0vf0", "ip", "ct_state +trk+rel " + TO_B, "matching on ct_state +rel isn't supported"),
    ("ct_inv", "pf0vf0", "ip", "ct_state +trk+inv " + TO_B, "matching on ct_state +inv isn't supported"),
    ("enc_dst_port_missing", "gen0", "ip", IP + UNSET, "UDP tunnel decap filter must include enc_dst_port condition"),
    ("geneve_port", "gen0", "ip", IP + "enc_dst_port 6999 " + UNSET, "Matched UDP dst port is not registered as a GENEVE port"),
    ("vxlan_port", "vx0", "ip", IP + "enc_dst_port 6081 " + UNSET, "Matched UDP dst port is not registered as a VXLAN port"),
    ("opts_len", "gen0", "ip", IP + "enc_dst_port 6081 geneve_opts 0102:80:0002000100020001 " + UNSET, "Matching on GENEVE options: unsupported options len"),
    ("opt_zero", "gen0", "ip", IP + "enc_dst_port 6081 geneve_opts 0102:80:00000000 " + UNSET, "can't match on 0 data field"),
    ("action", "pf0vf0", "ip", "action skbedit mark 5 pipe " + TO_B, "Not implemented offload action"),
    ("hw_stats", "pf0vf0", "ip", "action drop hw_stats immediate", "Flow action HW stats type is not supported"),
    ("no_end", "pf0vf0", "ip", "action ct clear", "Rule must have at least one forward/drop action"),
    ("drop_forward", "pf0vf0", "ip", "action mirred egress mirror dev pf0vf1 pipe action drop", "Rule cannot support forward+drop action"),
    ("drop_mangle", "pf0vf0", "ip", "action pedit ex munge ip ttl set 5 pipe action drop", "Drop with modify header action is not supported"),
    ("goto_decap", "gen0", "ip", IP + "enc_dst_port 6081 action tunnel_key unset pipe action goto chain 5", "Decap with goto isn't supported"),
    ("goto_encap", "pf0vf0", "ip", "action tunnel_key set id 7 src_ip 10.0.0.1 dst_ip 10.0.0.2 dst_port 6081 pipe action goto chain 5",
     "Goto chain is not allowed if action has reformat or decap"),
    ("other_switch", "pf0vf0", "ip", "action mirred egress redirect dev dum0", "devices are not on same switch HW, can't offload forwarding"),
    ("other_switch", "pf0vf0", "ip", "action mirred egress redirect dev p1", "devices are not on same switch HW, can't offload forwarding"),
    ("other_switch", "pf0vf0", "ip", "action mirred egress redirect dev pf1vf1", "devices are not on same switch HW, can't offload forwarding"),
    ("other_switch", "pf0vf0", "ip", "action mirred egress redirect dev gen0", "devices are not on same switch HW, can't offload forwarding"),
    ("same_vf", "pf0vf0", "ip", "action mirred egress redirect dev pf0vf0", "can't forward from a VF to itself"),
    ("same_output", "pf0vf0", "ip", "action mirred egress mirror dev pf0vf1 pipe " + TO_B, "can't duplicate output to same device"),
    ("vlans", "pf0vf0", "ip", "action vlan push id 5 pipe action vlan push id 6 pipe action vlan push id 7 pipe " + TO_B,
     "Total vlans used is greater than supported"),
    ("vlan_match", "pf0vf0", "ip", "action vlan modify id 5 pipe " + TO_B, "VLAN rewrite action must have VLAN protocol match"),
    ("vlan_prio", "pf0vf0", "802.1Q", "vlan_id 6 action vlan modify id 5 priority 3 pipe " + TO_B, "Changing VLAN prio is not supported"),
    ("mangle_field", "pf0vf0", "ip", "action pedit ex munge ip tos set 3 pipe " + TO_B, "attempt to offload an unsupported field"),
    ("mangle_l4", "pf0vf0", "ip", "action pedit ex munge tcp dport set 5 pipe " + TO_B, "can't offload re-write of non TCP/UDP"),
    ("csum_alone", "pf0vf0", "ip", "action csum ip pipe " + TO_B, "TC csum action is only offloaded with pedit"),
    ("csum_header", "pf0vf0", "ip", "action pedit ex munge ip ttl set 5 pipe action csum icmp pipe " + TO_B,
     "can't offload TC csum action for some header/s"),
    ("police_peak", "pf0vf0", "ip", "action police rate 1mbit burst 10k peakrate 2mbit mtu 2000 conform-exceed drop/pipe " + TO_B,
     "Offload not supported when peakrate/avrate/overhead is configured"),
    ("police_action", "pf0vf0", "ip", "action police rate 1mbit burst 10k conform-exceed continue/pipe " + TO_B,
     "Offload not supported when conform-exceed action is not pipe, ok, jump or drop"),
]
for d in ("pf0vf0", "gen0", "vx0"):
    filters("k1", d)


def add(rest, dev="pf0vf0", proto="ip", pref=1, how="skip_sw"):
    return tc("k1", f"filter add dev {dev} ingress pref {pref} protocol {proto} flower {how} {rest}", False)


for name, dev, proto, rest, text in CASES:
    was, n = fault(1, name), stats(1)["rules"]
    if dev == "pf0vf0":              # TC itself refuses skip_sw on a device that has no offload of its own
        r = add(rest, dev, proto)
        ok(r.returncode and text in r.stderr, f"refused: {name} by {dev}: {text}", r.stderr.strip() or "taken")
        ok(fault(1, name) == was + 1 and stats(1)["rules"] == n, f"refused: {name} is counted, nothing is left", str(fault(1, name) - was))
    r = add(rest, dev, proto, how="verbose")
    ok(r.returncode == 0 and text in r.stderr, f"refused: {name}: software takes it and says why the hardware did not", r.stderr.strip())
    ok(fault(1, name) > was and stats(1)["rules"] == n, f"refused: {name} is counted again")
    tc("k1", f"filter del dev {dev} ingress")

write("nic1/max_chain", 9)
r = tc("k1", f"filter add dev pf0vf0 ingress chain 10 pref 1 protocol ip flower skip_sw {TO_B}", False)
ok("Requested chain is out of supported range" in r.stderr, "refused: a chain beyond max_chain", r.stderr)
r = add("action goto chain 10")
ok("Requested destination chain is out of supported range" in r.stderr, "refused: a goto beyond max_chain", r.stderr)
write("nic1/max_chain", 0xffffffff)
sh("echo Y >/sys/module/simnic/parameters/geneve_iana_only; ip -n k1 link add gen1 type geneve external dstport 7000; ip -n k1 link set gen1 up")
filters("k1", "gen1")
ok("not registered as a GENEVE port" in add(IP + "enc_dst_port 7000 " + UNSET, "gen1", how="verbose").stderr, "geneve_iana_only: 6081 alone")
sh("echo N >/sys/module/simnic/parameters/geneve_iana_only")
r = add(IP + "enc_dst_port 7000 " + UNSET, "gen1", pref=2, how="verbose")
ok("GENEVE" not in r.stderr and "in_hw" in tc("k1", "filter show dev gen1 ingress pref 2").stdout, "without it: any port that a Geneve device has", r.stderr)
r = tc("k1", "filter add dev pf0vf0 ingress pref 9 matchall skip_sw action drop", False)
ok(r.returncode and fault(1, "offload_type") >= 1, "matchall is refused", r.stderr)

# a full table, one that has room again, and the other NIC's
filters("k1", "pf0vf0")
n = stats(1)["rules"]
write("nic1/max_rules", n + 2)
r = [add(f"dst_ip 10.1.0.{i} {TO_B}") for i in range(3)]
ok([x.returncode == 0 for x in r] == [True, True, False] and "table full" in r[2].stderr, "a full table", r[2].stderr)
ok(fault(1, "full") == 1 and fault(2, "full") == 0, "counted for this NIC")
tc("k1", "filter del dev pf0vf0 ingress pref 1")
ok(add(f"dst_ip 10.1.0.9 {TO_B}").returncode == 0, "and room again once one is gone")
write("nic1/max_rules", 0xffffffff)

# injected failures: per NIC, and for all
write("nic1/fail_errno", 12)
write("nic1/fail_count", 2)
r = [add(f"dst_ip 10.2.0.{i} {TO_B}") for i in range(3)]
ok([x.returncode == 0 for x in r] == [False, False, True] and "injected failure" in r[0].stderr,
   "the next fail_count additions fail", r[0].stderr)
sh("echo 5 >/sys/module/simnic/parameters/fail_errno; echo 1 >/sys/module/simnic/parameters/fail_count")
ok("injected failure" in add(f"dst_ip 10.3.0.1 {TO_B}").stderr and add(f"dst_ip 10.3.0.1 {TO_B}").returncode == 0,
   "and by the module's parameters")
ok(fault(1, "injected") == 3, "counted", str(fault(1, "injected")))
write("nic1/add_delay_us", 300000)
t = time.monotonic()
add(f"dst_ip 10.4.0.1 {TO_B}")
ok(time.monotonic() - t >= 0.3, "add_delay_us holds an addition up")
write("nic1/add_delay_us", 0)

# the eSwitch forgets, tells nobody, and keeps the rules' places
held = stats(1)["rules"]
ok(write("forget", 1) == 0 and " forgotten" in read("rules"), "forget")
ok(stats(1)["rules"] == held and fault(1, "forgets") == 1, "its rules still count")
ok("in_hw" in tc("k1", "filter show dev pf0vf0 ingress").stdout, "and say in_hw")
ok(write("forget", 77) == 2 and write("del", 77) == 2 and write("carrier", "77 0 p 0") == 2, "of no NIC: ENOENT")

# many at once: additions and removals from several sides leave the count right
filters("k1", "pf0vf0"); filters("k1", "pf0vf1")


def churn(dev, k):
    for i in range(15):
        cmds = "".join(f"filter add dev {dev} ingress chain {k} pref {j % 3 + 1} handle {j + 1} protocol ip flower dst_ip 10.{k}.{i}.{j} action drop\n"
                       for j in range(20)) + f"filter del dev {dev} ingress chain {k}\n"
        subprocess.run(f"tc -n k1 -b -", shell=True, input=cmds, text=True, capture_output=True)


ts = [threading.Thread(target=churn, args=(d, k)) for k, d in enumerate(["pf0vf0", "pf0vf0", "pf0vf1", "pf0vf1"])]
[t.start() for t in ts]
for _ in range(20):
    tc("k1", "-s filter show dev pf0vf0 ingress", False)
    read("rules")
[t.join() for t in ts]
ok("pf0vf0" not in read("rules") and "pf0vf1" not in read("rules"), "after churn from four sides no rule is left", read("rules"))
sh("ip -n k1 link del gen0; ip -n k1 link del gen1; ip -n k1 link del vx0")
ok(stats(1)["rules"] == 0 and read("rules") == "", "a tunnel device takes its rules along", read("rules"))
write("del", 1); write("del", 2)
for n in ("k1", "k2", "ka", "kb"):
    sh(f"ip netns del {n}")
