# SPDX-License-Identifier: GPL-2.0
"""Geneve and VXLAN, over IPv4 and IPv6, on their own and on other ports: closed and opened in the eSwitch."""
from lib import *

netns("k1", "ka", "kf")
sh("ip netns exec k1 sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
nic("k1", "1 2")
sh("echo 2 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs")
function("ens1v0", "ka")
sh("ip -n k1 link set pf0vf0 addrgenmode none; ip -n k1 link set pf0vf0 up; ip link set wire1 netns kf; ip -n kf link set wire1 up arp off; ip -n k1 link set p0 addrgenmode none;"
   "ip -n k1 link set p0 up; ip -n k1 addr add 10.0.0.1/24 dev p0; ip -n k1 addr add fd01::1/64 dev p0 nodad;"
   "ip -n k1 neigh replace 10.0.0.2 lladdr 02:00:00:00:0f:02 dev p0 nud permanent;"
   "ip -n k1 neigh replace fd01::2 lladdr 02:00:00:00:0f:02 dev p0 nud permanent")
a, wire, rep, p0 = Tap("ka", "eth0"), Tap("kf", "wire1"), Tap("k1", "pf0vf0"), Tap("k1", "p0")
P0 = mac(sh("ip netns exec k1 cat /sys/class/net/p0/address").stdout.strip())
INNER = eth(ip4())
OPT = struct.pack("!HBBI", 0x102, 0x80, 1, 0x00020001)


def header(kind, vni, opts=b""):
    if kind == "geneve":
        return struct.pack("!BBHI", len(opts) // 4, 0, 0x6558, vni << 8) + opts
    return struct.pack("!II", 0x08000000, vni << 8)


def outer(kind, v6, port, vni=7, opts=b"", inner=INNER, dst=None, check=True, df=True):
    data = header(kind, vni, opts) + inner
    make = ip6(src="fd01::2", dst="fd01::1", sport=5555, dport=port, data=data, check=True) if v6 else \
        ip4(src="10.0.0.2", dst="10.0.0.1", sport=5555, dport=port, data=data, check=check, frag=0x4000 * df)
    return eth(make, dst=dst or P0, src=mac("020000000f02"))


def moved(frame):
    was = stats(1)
    wire.send(frame)
    return was


n = 0
for kind, ports in (("geneve", (6081, 6999)), ("vxlan", (4789, 8472))):
    for port in ports:
        n += 1
        dev = f"tun{n}"
        sh(f"ip -n k1 link add {dev} type {kind} external dstport {port}; ip -n k1 link set {dev} addrgenmode none; ip -n k1 link set {dev} up")
        # The kernel may leave it to its work queue (net/ipv4/udp_tunnel_nic.c).
        known = eventually(lambda: read("tunnels"), lambda it: f"nic 1 pf 0 {kind} {port}\n" in it)
        ok(f"nic 1 pf 0 {kind} {port}\n" in known, f"{kind} {port}: registered with the NIC as its device appears", known)
        for v6 in (False, True):
            name = f"{kind} {port} over IPv{6 if v6 else 4}"
            src, dst = ("fd01::2", "fd01::1") if v6 else ("10.0.0.2", "10.0.0.1")
            filters("k1", dev); filters("k1", "pf0vf0")
            opts = OPT if kind == "geneve" else b""
            key = f"enc_src_ip {src} enc_dst_ip {dst} enc_key_id 7 enc_dst_port {port}" + (" geneve_opts 0102:80:00020001" if opts else "")
            r = tc("k1", f"filter add dev {dev} ingress pref 1 protocol ip flower verbose {key} dst_mac 02:00:00:00:0b:0b "
                         "action tunnel_key unset pipe action mirred egress redirect dev pf0vf0", False)
            ok(r.returncode == 0 and "simnic" not in r.stderr and "in_hw" in tc("k1", f"filter show dev {dev} ingress").stdout,
               f"{name}: the opening rule is taken", r.stderr)
            a.got(0)
            was = moved(outer(kind, v6, port, opts=opts))
            got, now = a.got(3, 1), stats(1)
            ok(got == [INNER] and now["ended_in_hardware"] == was["ended_in_hardware"] + 1 and now["to_software"] == was["to_software"],
               f"{name}: opened in the eSwitch", f"{[g.hex() for g in got]} {was} {now}")
            for what, frame in (("without DF", dict(df=False)), ("without an outer checksum", dict(check=v6))):
                was = moved(outer(kind, v6, port, opts=opts, **frame))
                ok(a.got(3, 1) == [INNER] and stats(1)["to_software"] == was["to_software"], f"{name}: opened {what}")
            for what, frame in (("another VNI", outer(kind, v6, port, vni=8, opts=opts)),
                                ("another port", outer(kind, v6, 6000, opts=opts)),
                                ("another inner MAC", outer(kind, v6, port, opts=opts, inner=eth(ip4(), dst=A))),
                                ("an inner VLAN tag", outer(kind, v6, port, opts=opts, inner=eth(ip4(), vlans=[(0x8100, 5, 0)])))) + (
                                (("another option", outer(kind, v6, port, opts=OPT[:-1] + b"\2")),
                                 ("no option", outer(kind, v6, port))) if opts else ()):
                p0.got(0)
                was = moved(frame)
                up, now = p0.got(3, 1), stats(1)
                ok(up == [frame] and now["to_software"] == was["to_software"] + 1 and a.got(0.02) == [], f"{name}: {what} stays closed",
                   f"{len(up)} up {was} {now}")
            cut = outer(kind, v6, port, opts=opts)[:14 + (40 if v6 else 20) + 12]
            was = moved(cut)
            ok(stats(1)["to_software"] == was["to_software"] + 1, f"{name}: a cut frame stays closed")
            was = moved(outer(kind, v6, port, opts=opts, dst=mac("020000001234")))
            ok(a.got(3, 1) == [INNER], f"{name}: it is the rule that counts, not the outer MAC")
            # what the rules of the tunnel device leave goes on in software, on the tunnel device
            tc("k1", f"filter del dev {dev} ingress")
            tc("k1", f"filter add dev {dev} ingress pref 1 protocol ip flower {key} action goto chain 5")
            tc("k1", f"filter add dev {dev} ingress chain 5 pref 1 protocol ip flower skip_hw action mirred egress redirect dev pf0vf0")
            was = moved(outer(kind, v6, port, opts=opts))
            got, now = a.got(3, 1), stats(1)
            ok(got == [INNER] and now["to_software"] == was["to_software"] + 1, f"{name}: a miss in its chain goes on in software there",
               f"{[g.hex() for g in got]} {was} {now} {tc('k1', f'-s filter show dev {dev} ingress').stdout}")
            # closing
            o = " geneve_opts 0102:80:00020001" if opts else ""
            r = tc("k1", f"filter add dev pf0vf0 ingress pref 1 protocol ip flower skip_sw action tunnel_key set id 7 src_ip {dst} dst_ip {src} "
                         f"dst_port {port}{o} pipe action mirred egress redirect dev {dev}", False)
            ok(r.returncode == 0, f"{name}: the closing rule is taken", r.stderr)
            wire.got(0)
            was = stats(1)
            a.send(INNER)
            got, now = wire.got(3, 1), stats(1)
            head = 14 + (40 if v6 else 20)
            ok(len(got) == 1 and got[0][head + 8:] == header(kind, 7, opts) + INNER and
               struct.unpack("!H", got[0][head + 2:head + 4])[0] == port and got[0][:6] == mac("020000000f02"),
               f"{name}: closed", str([g.hex() for g in got]))
            ok(now["to_software"] == was["to_software"] and now["ended_in_hardware"] == was["ended_in_hardware"] + 1,
               f"{name}: closed in the eSwitch", f"{was} {now}")
        filters("k1", "pf0vf0")
        sh(f"ip -n k1 link del {dev}")
        known = eventually(lambda: read("tunnels"), lambda it: f"nic 1 pf 0 {kind} {port}\n" not in it)
        ok(f"nic 1 pf 0 {kind} {port}\n" not in known, f"{kind} {port}: and forgotten with it", known)
ok(stats(1)["rules"] == 0, "no rule is left", read("rules"))
# a tunnel device and its block outlive the NIC
sh("ip -n k1 link add tun9 type geneve external dstport 6081; ip -n k1 link set tun9 up")
filters("k1", "tun9")
RULE = ("filter add dev tun9 ingress pref 1 protocol ip flower enc_key_id 7 enc_src_ip 10.0.0.2 enc_dst_ip 10.0.0.1 enc_dst_port 6081 action drop")
tc("k1", RULE)
ok(stats(1)["rules"] == 1, "a rule of a tunnel device")
write("del", 1)
ok("in_hw" not in tc("k1", "filter show dev tun9 ingress").stdout, "is in software alone once its NIC is gone")
tc("k1", "filter del dev tun9 ingress")
nic("k1", "1 2")
sh("ip -n k1 link set p0 up")
tc("k1", RULE)
ok(stats(1)["rules"] == 1, "a new NIC takes the tunnel device that was there before", read("rules"))
sh("ip -n k1 link del tun9")
ok(stats(1)["rules"] == 0, "and gives it back")
write("del", 1)
for n in ("k1", "ka", "kf"):
    sh(f"ip netns del {n}")
