# SPDX-License-Identifier: GPL-2.0
"""Connections: untranslated and translated, over IPv4 and IPv6; once established, the eSwitch carries them alone."""
from lib import *

IP4, IP6 = ("10.9.0.10", "10.9.0.11", "10.9.0.99"), ("fd00::a", "fd00::b", "fd00::99")
netns("k1")
for n in ("ka", "kb"):
    sh(f"ip netns add {n} && ip -n {n} link set lo up")
nic("k1", "1 4")
sh("echo 4 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs")
for i, (n, m) in enumerate((("ka", "02:00:00:00:0a:0a"), ("kb", "02:00:00:00:0b:0b"))):
    sh(f"ip link set ens1v{i} netns {n} name eth0; ip -n {n} link set eth0 address {m} addrgenmode none; ip -n {n} link set eth0 up;"
       f"ip -n {n} addr add {IP4[i]}/24 dev eth0; ip -n {n} addr add {IP6[i]}/64 dev eth0 nodad; ip -n k1 link set pf0vf{i} up")
other = {"ka": "02:00:00:00:0b:0b", "kb": "02:00:00:00:0a:0a"}
for n in other:
    for a in IP4 + IP6:
        sh(f"ip -n {n} neigh replace {a} lladdr {other[n]} dev eth0 nud permanent")
sh("ip -n k1 link set lo up; ip netns exec k1 sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1")


def rules(nat, zone):
    """Both directions, tracked in zone; a new connection goes to B, to its address even if it was sent to the VIP."""
    for d, to in (("pf0vf0", "pf0vf1"), ("pf0vf1", "pf0vf0")):
        filters("k1", d)
        for pref, proto, (_, real, vip) in ((1, "ip", IP4), (2, "ipv6", IP6)):
            add = f"filter add dev {d} ingress pref {pref} protocol {proto}"
            tc("k1", f"{add} chain 0 flower verbose ct_state -trk action ct zone {zone} {'nat' if nat else ''} pipe action goto chain 1")
            tc("k1", f"{add} chain 1 flower verbose ct_state +trk+est ct_zone {zone} action mirred egress redirect dev {to}")
            if d == "pf0vf0":
                key = f"ct_state +trk+new dst_ip {vip}" if nat else "ct_state +trk+new"
                tc("k1", f"{add} chain 1 flower verbose {key} action ct commit zone {zone} {f'nat dst addr {real}' if nat else ''} pipe "
                         f"action mirred egress redirect dev {to}")
                if nat:
                    # UDP is handed over before its answer is seen (act_ct.c, tcf_ct_flow_table_process_conn): until the
                    # eSwitch hears of the answer, it translates a frame and still calls it new.
                    tc("k1", f"{add} chain 1 flower verbose ct_state +trk+new dst_ip {real} action mirred egress redirect dev {to}")


class Echo:
    """A connection from A to B that is echoed."""

    def __init__(self, family, to, kind, port):
        self.kind = kind
        with In("kb"):
            self.srv = socket.socket(family, kind)
        with In("ka"):
            self.cli = socket.socket(family, kind)
        for s in (self.srv, self.cli):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.settimeout(5)
        self.srv.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            self.srv.listen()
            self.cli.connect((to, port))
            self.conn, _ = self.srv.accept()
            self.conn.settimeout(5)
        else:
            self.cli.connect((to, port))
            self.conn = self.srv

    def turn(self, n=1):
        for _ in range(n):
            self.cli.send(b"ping")
            data, peer = self.conn.recvfrom(100)
            if self.kind == socket.SOCK_STREAM:
                self.conn.send(data)
            else:
                self.conn.sendto(data, peer)
            if self.cli.recv(100) != b"ping":
                return False
        return True

    def close(self):
        for s in (self.cli, self.conn, self.srv):
            s.close()


def settled(e, zone, n=100):
    """Turns until both directions are in the eSwitch."""
    for _ in range(n):
        try:
            e.turn()
        except OSError as x:
            print("#", x)
            return False
        if len([l for l in read("conns").splitlines() if f"zone {zone} " in l and "state 0xa " in l or f"zone {zone} " in l and "state 0x2a " in l]) >= 2:
            return True
        time.sleep(0.1)
    return False


port, zone = 5000, 10
for nat in (False, True):
    for kind, kname in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        for fam, ips in ((socket.AF_INET, IP4), (socket.AF_INET6, IP6)):
            port, zone = port + 1, zone + 1
            name = f"{kname} over {'IPv6' if fam == socket.AF_INET6 else 'IPv4'}{', translated' if nat else ''}"
            rules(nat, zone)
            was = stats(1)
            try:
                e = Echo(fam, ips[2] if nat else ips[1], kind, port)
                good = e.turn()
            except OSError as x:
                ok(False, f"{name}: connects", f"{x} {read('rules')} {sh('conntrack -L 2>&1', False).stdout}")
                continue
            ok(good, f"{name}: connects, its first frames through software")
            ok(stats(1)["to_software"] > was["to_software"], f"{name}: they missed at the ct action and went on there")
            if not ok(settled(e, zone), f"{name}: handed to the eSwitch, both directions", read("conns")):
                continue
            e.turn(3)
            time.sleep(0.3)                          # delayed ACKs of what was before
            was = stats(1)
            good = e.turn(20)
            now = stats(1)
            ok(good and now["to_software"] == was["to_software"] and now["ended_in_hardware"] - was["ended_in_hardware"] >= 40,
               f"{name}: 20 turns, no frame in software", f"{was} {now}")
            counts = [int(l.split()[-1]) for l in read("conns").splitlines() if f"zone {zone} " in l]
            ok(len(counts) == 2 and min(counts) >= 20, f"{name}: counted by connection", str(counts))
            if nat and kind == socket.SOCK_STREAM:
                peer = e.conn.getsockname()[0]
                ok(peer.endswith(ips[1].split(":")[-1]), f"{name}: B sees its own address", peer)
            write("nic1/max_conns", 0)
            e.close()
            write("nic1/max_conns", 0xffffffff)

# a full connection table: software carries it on
zone += 1
rules(False, zone)
write("nic1/max_conns", 0)
e = Echo(socket.AF_INET, IP4[1], socket.SOCK_STREAM, 6000)
ok(e.turn(5) and not settled(e, zone, 20) and fault(1, "conns_full") > 0, "a full connection table: counted, and carried by software")
e.close()
write("nic1/max_conns", 0xffffffff)

# a connection that is cut: the rules go while it lives
zone += 1
rules(False, zone)
e = Echo(socket.AF_INET, IP4[1], socket.SOCK_STREAM, 6001)
ok(settled(e, zone), "another one is in the eSwitch", read("conns"))
for d in ("pf0vf0", "pf0vf1"):
    tc("k1", f"qdisc del dev {d} clsact")
ok(f"zone {zone} " not in read("conns"), "its table goes with the last rule that uses it", read("conns"))
rules(False, zone)
ok(e.turn(3) and settled(e, zone), "and comes back with the rules", read("conns"))
# forgotten rules: software finds the conntrack entry by itself
write("forget", 1)
was = stats(1)
ok(e.turn(3) and stats(1)["to_software"] > was["to_software"], "forgotten: software carries the connection")
e.close()

# state bits: an established connection does not match +new, a reply matches +rpl
zone += 1
rules(False, zone)
tc("k1", f"filter add dev pf0vf1 ingress pref 1 chain 1 protocol ip flower verbose ct_state +trk+est+rpl ct_zone {zone} ip_proto tcp action drop")
tc("k1", "filter del dev pf0vf1 ingress pref 1 chain 1")
tc("k1", f"filter add dev pf0vf1 ingress pref 1 chain 1 protocol ip flower verbose ct_state +trk+est+rpl ct_zone {zone} action mirred egress redirect dev pf0vf0")
e = Echo(socket.AF_INET, IP4[1], socket.SOCK_STREAM, 6002)
ok(settled(e, zone) and e.turn(3), "replies match +rpl")
was = stats(1)
e.turn(5)
ok(stats(1)["to_software"] == was["to_software"], "in the eSwitch, too")
e.close()
write("del", 1)
for n in ("k1", "ka", "kb"):
    sh(f"ip netns del {n}")
