# SPDX-License-Identifier: GPL-2.0
"""Ends, under load: of rules, qdiscs, functions, pods, NICs, their namespaces, the module. Nothing leaks, nothing splats."""
import threading
from lib import *

FRAMES = [eth(ip4()), eth(ip6()), eth(arp()), eth(ip4(src="10.9.0.11", dst="10.9.0.10", sport=80, dport=1000))]


class Load(threading.Thread):
    """Sends into a netdev for as long as it is there, until it is stopped. Its socket holds the namespace."""

    def __init__(self, ns, dev):
        super().__init__(daemon=True)
        self.ns, self.dev, self.over = ns, dev, threading.Event()
        self.start()

    def run(self):
        while not self.over.is_set():
            t = None
            try:
                t = Tap(self.ns, self.dev)
                while not self.over.is_set():
                    for f in FRAMES * 5:
                        t.send(f)
                    time.sleep(0.002)
            except OSError:
                time.sleep(0.02)
            finally:
                if t:
                    t.s.close()

    def stop(self):
        self.over.set()
        self.join(20)


def ours(ns=None):
    return {l.split(": ")[1].split("@")[0] for l in sh(f"ip {'-n ' + ns if ns else ''} -o link").stdout.splitlines()}


machine = ours()  # devices that were there before


def up(id, ns, pods, vfs=4):
    assert nic(ns, f"{id} {vfs}") == 0
    sh(f"echo {vfs} >/sys/bus/pci/devices/100{id}:03:00.0/sriov_numvfs")
    for i, n in enumerate(pods):
        function(f"ens{id}v{i}", n)
        sh(f"ip -n {ns} link set pf0vf{i} up")
    sh(f"ip -n {ns} link set p0 up; ip link set wire{id} up arp off")


def policy(ns):
    """Rules of every kind between VF 0, VF 1 and the cable."""
    for d in ("pf0vf0", "pf0vf1", "p0"):
        filters(ns, d)
    for d, to in (("pf0vf0", "pf0vf1"), ("pf0vf1", "p0"), ("p0", "pf0vf0")):
        add = f"filter add dev {d} ingress"
        tc(ns, f"{add} chain 0 pref 1 protocol ip flower ct_state -trk action ct zone 5 pipe action goto chain 1")
        tc(ns, f"{add} chain 1 pref 1 protocol ip flower ct_state +trk+new action ct commit zone 5 pipe action mirred egress redirect dev {to}")
        tc(ns, f"{add} chain 1 pref 2 protocol ip flower ct_state +trk+est action mirred egress redirect dev {to}")
        tc(ns, f"{add} chain 0 pref 2 protocol ipv6 flower action pedit ex munge ip6 hoplimit set 9 pipe action mirred egress redirect dev {to}")
        tc(ns, f"{add} chain 0 pref 3 protocol arp flower action vlan push id 7 pipe action mirred egress redirect dev {to}")


netns("k1", "k2", "ka", "kb", "kf")
up(1, "k1", ["ka", "kb"])
cable, pods = Load(None, "wire1"), [Load("ka", "eth0"), Load("kb", "eth0")]
time.sleep(0.5)

for i in range(2):
    policy("k1")
    time.sleep(0.1)
    for d in ("pf0vf0", "pf0vf1", "p0"):
        for c in (0, 1):
            tc("k1", f"filter del dev {d} ingress chain {c}")
ok(stats(1)["rules"] == 0, "rules come and go under load", read("rules"))
for i in range(2):
    policy("k1")
    time.sleep(0.1)
    for d in ("pf0vf0", "pf0vf1", "p0"):
        tc("k1", f"qdisc del dev {d} clsact")
ok(stats(1)["rules"] == 0 and read("conns") == "", "qdiscs, too", read("rules") + read("conns"))

# the cable's frames go on to the pods that end
[t.stop() for t in pods]
# a pod ends: its VF is in the host's namespace again, and works
policy("k1")
before = stats(1)["rules"]
sh("ip -n ka link set eth0 mtu 1400; ip netns del ka")
# By its function, not by its name: the machine that this runs on may have an eth0 of its own.
for _ in range(100):
    home = os.listdir("/sys/bus/pci/devices/1001:03:00.1/net")  # shows what is in this namespace
    if home:
        break
    time.sleep(0.1)
ok(len(home) == 1 and home[0] in ours() and stats(1)["rules"] == before, "a pod's namespace ends: its VF is the host's again", f"{home} {ours()}")
netns("ka")
sh(f"ip link set {home[0]} netns ka name eth0; ip -n ka link set eth0 up arp off")
policy("k1")
tap = Tap("ka", "eth0")
ok(tap.got(5, 1) != [], "and can be given to the next pod")
# two with the same name at once
tap.s.close()
sh("ip netns del ka; ip netns del kb")
for _ in range(100):
    names = [os.listdir(f"/sys/bus/pci/devices/1001:03:00.{i}/net") for i in (1, 2)]
    if all(names):
        break
    time.sleep(0.1)
ok(all(len(n) == 1 and n[0] in ours() for n in names), "two pods with the same interface name end at once: both VFs are there", f"{names} {ours()}")
netns("ka", "kb")
for (n,), pod in zip(names, ("ka", "kb")):
    sh(f"ip link set {n} netns {pod} name eth0; ip -n {pod} link set eth0 up arp off")
pods = [Load("ka", "eth0"), Load("kb", "eth0")]

# functions go while frames fly
policy("k1")
for i in range(3):
    sh("echo 0 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs; echo 4 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs")
    for v, pod in ((0, "ka"), (1, "kb")):
        function(f"ens1v{v}", pod)
    time.sleep(0.2)
was = stats(1)["frames"]
time.sleep(1)
ok(stats(1)["frames"] > was, "SR-IOV off and on under load")
# either side's driver is unbound and bound
for side in ("1001", "2001"):
    sh(f"echo {side}:03:00.0 >/sys/bus/pci/drivers/simnic/unbind; sleep 0.3; echo {side}:03:00.0 >/sys/bus/pci/drivers/simnic/bind")
ok("p0" in ours("k1") and "pf0vf3" in ours("k1") and "ens1" in ours(), "either side's driver is unbound and bound under load")
write("del", 1)
for i in range(3):
    up(1, "k1", ["ka", "kb"])
    policy("k1")
    time.sleep(0.3)
    ok(write("del", 1) == 0 and stats(1) is None, f"a NIC goes under load, round {i + 1}")
ok(not [d for d in (ours() - machine) | ours("k1") | ours("ka") if d.startswith(("ens", "wire", "pf0", "p0", "eth"))], "nothing of it is left", str(ours()))

# two NICs on one fabric; one NIC's namespace ends
up(1, "k1", ["ka"]); up(2, "k2", ["kb"])
for i in (1, 2):
    sh(f"ip link set wire{i} netns kf; ip -n kf link set wire{i} up arp off")
sh("ip -n kf link add br0 type bridge; ip -n kf link set br0 up; for i in 1 2; do ip -n kf link set wire$i master br0; done")
for k in ("k1", "k2"):
    filters(k, "pf0vf0"); filters(k, "p0")
    tc(k, "filter add dev pf0vf0 ingress pref 1 protocol ip flower action vlan push id 9 pipe action mirred egress redirect dev p0")
    tc(k, "filter add dev p0 ingress pref 1 protocol 802.1Q flower vlan_id 9 action vlan pop pipe action mirred egress redirect dev pf0vf0")
[t.stop() for t in pods + [cable]]
a, b = Tap("ka", "eth0"), Tap("kb", "eth0")
F = eth(ip4(sport=4242))
a.send(F)
ok(F in b.got(5, 1), "two NICs on one fabric: a frame crosses both")
pods = [Load("ka", "eth0"), Load("kb", "eth0")]
time.sleep(0.5)
sh("ip netns del k1")
for _ in range(300):
    if stats(1) is None:
        break
    time.sleep(0.1)
ok(stats(1) is None, "a NIC's namespace ends: the NIC ends with it")
for _ in range(50):
    if not os.path.exists("/sys/bus/pci/devices/1001:03:00.0"):
        break
    time.sleep(0.1)
ok(not os.path.exists("/sys/bus/pci/devices/1001:03:00.0") and "eth0" not in ours("ka"), "its functions leave the host, and the pods")
was = stats(2)["frames"]
ok(eventually(lambda: stats(2)["frames"], lambda now: now > was) > was, "the other one goes on")
sh("ip netns del kf")
for _ in range(100):
    if "wire2" in ours():
        break
    time.sleep(0.1)
ok("wire2" in ours(), "the cable is the host's again when the fabric ends")
netns("k1")
up(1, "k1", ["ka"])
policy("k2")
# the module goes with two NICs, rules, a tunnel device, and frames on their way
sh("ip -n k2 link add gen0 type geneve external dstport 6081; ip -n k2 link set gen0 up")
filters("k2", "gen0")
tc("k2", "filter add dev gen0 ingress pref 1 protocol ip flower enc_key_id 7 enc_src_ip 10.0.0.2 enc_dst_ip 10.0.0.1 enc_dst_port 6081 action drop")
ok(sh("rmmod simnic", False).returncode == 0, "the module is unloaded under load")
ok(not os.path.exists("/sys/bus/pci/devices/1002:03:00.0") and "p0" not in ours("k2"), "and nothing of it is left")
sh(f"insmod {os.path.dirname(os.path.abspath(__file__))}/../simnic.ko")
up(2, "k2", ["kb"])
ok(stats(2)["frames"] >= 0, "it can be loaded again")
write("del", 2)
[t.stop() for t in pods]
for n in ("k1", "k2", "ka", "kb"):
    sh(f"ip netns del {n}")
