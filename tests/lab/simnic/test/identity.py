# SPDX-License-Identifier: GPL-2.0
"""Who is who: devlink attributes, names that tell nothing, a second PF, controllers, sysfs of the host side, limits."""
import json
from lib import *

netns("k1", "k2", "k3", "k4", "ka")


def ports(ns):
    """devlink's ports by PCI address and netdev, with the netdev's own phys names."""
    with In(ns):
        d = json.loads(sh("devlink -j port show").stdout)["port"]
        out = {}
        for handle, p in d.items():
            # sysfs of the test's mount is the first namespace's: ip shows this one's
            link = json.loads(sh(f"ip -j -d link show {p['netdev']}").stdout)[0]
            out[handle] = dict(p, phys_port_name=link.get("phys_port_name"), phys_switch_id=link.get("phys_switch_id"))
        return out


ok(nic("k1", "1 8") == 0, "new \"1 8\"")
p = ports("k1")
ok({x["netdev"] for x in p.values()} == {"p0", "pf0hpf"} | {f"pf0vf{i}" for i in range(8)}, "its names", str(p))
by = {x["netdev"]: x for x in p.values()}
v = by["pf0vf3"]
ok((v["flavour"], v["controller"], v["pfnum"], v["vfnum"], v["external"]) == ("pcivf", 1, 0, 3, True), "a VF's attributes", str(v))
ok((by["pf0hpf"]["flavour"], by["pf0hpf"]["controller"]) == ("pcipf", 1), "the host PF's", str(by["pf0hpf"]))
ok((by["p0"]["flavour"], by["p0"]["port"]) == ("physical", 0), "the uplink's", str(by["p0"]))
ok((v["phys_port_name"], by["pf0hpf"]["phys_port_name"], by["p0"]["phys_port_name"]) == ("c1pf0vf3", "c1pf0", "p0"), "phys_port_name")
ok(len({x["phys_switch_id"] for x in p.values()}) == 1 and v["phys_switch_id"], "one phys_switch_id")
ok(all(h.startswith("pci/2001:03:00.0/") for h in p), "one devlink instance")
with In("k1"):
    ok("switchdev" in sh("devlink dev eswitch show pci/2001:03:00.0").stdout, "mode switchdev")
    ok("always in switchdev" in sh("devlink dev eswitch set pci/2001:03:00.0 mode legacy", False).stderr, "and no other")
    ok("SIMNIC0001" in sh("devlink dev info pci/2001:03:00.0").stdout, "a serial number")
    ok(sh("ip link set pf0vf0 netns 1", False).returncode != 0, "a representor does not leave its namespace")

# the host side
sh("echo 8 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs")
pci = "/sys/bus/pci/devices/1001:03:00"
ok(os.path.realpath(f"{pci}.4/physfn").endswith("1001:03:00.0") and os.path.realpath(f"{pci}.0/virtfn3").endswith("1001:03:00.4"),
   "physfn and virtfnN")
ok(os.listdir(f"{pci}.4/net") == ["ens1v3"] and open(f"{pci}.0/sriov_totalvfs").read() == "8\n", "a netdev for each function")
info = sh("ethtool -i ens1v3").stdout
ok("driver: simnic" in info and "bus-info: 1001:03:00.4" in info, "ethtool names driver and function", info)
ok("Link detected: no" in sh("ethtool ens1v3").stdout, "and its carrier")
ok(sh("ip link set ens1 vf 0 mac 02:00:00:00:00:01", False).returncode != 0 and "vf 0" not in sh("ip link show ens1").stdout,
   "the host has no say in the eSwitch, and no VF info")
with In("k1"):
    h = next(h for h, x in p.items() if x["netdev"] == "pf0vf3")
    sh(f"devlink port function set {h} hw_addr 02:aa:00:00:00:03")
ok("02:aa:00:00:00:03" in sh("ip link show ens1v3").stdout, "port function hw_addr is the function's")
ok(sh(f"echo 4 >{pci}.0/sriov_numvfs", False).returncode != 0, "sriov_numvfs changes by way of 0 only")

# names that tell nothing
ok(nic("k2", "2 5 names=eth") == 0, "names=eth")
p = ports("k2")
ok({x["netdev"] for x in p.values()} == {f"eth{i}" for i in range(7)}, "names are eth0 to eth6", str(p))
vf = {x["vfnum"]: x for x in p.values() if x["flavour"] == "pcivf"}
ok(sorted(vf) == list(range(5)) and all(x["phys_port_name"] == f"c1pf0vf{i}" for i, x in vf.items()), "attributes and phys_port_name are right")
ok(all(x["netdev"] != f"eth{i}" for i, x in vf.items() if i != 2), "the number is not the VF's")
ok(len({x["phys_switch_id"] for x in p.values()}) == 1, "one phys_switch_id")
sh("echo 5 >/sys/bus/pci/devices/1002:03:00.0/sriov_numvfs")
function("ens2v1", "ka")
tap, rep = Tap("ka", "eth0"), None
sh(f"ip -n k2 link set {vf[1]['netdev']} up")
rep = Tap("k2", vf[1]["netdev"])
tap.send(eth(ip4()))
ok(rep.got(3, 1) == [eth(ip4())], "and the representor is the VF's")

# two PFs
ok(nic("k3", "3 4 pfs=2") == 0, "pfs=2")
p = ports("k3")
ok({h.rsplit("/", 1)[0] for h in p} == {"pci/2003:03:00.0", "pci/2003:03:00.1"}, "two devlink instances")
ids = {pf: {x["phys_switch_id"] for h, x in p.items() if h.startswith(f"pci/2003:03:00.{pf}/")} for pf in (0, 1)}
ok(len(ids[0]) == 1 and ids[0] == ids[1], "one phys_switch_id, which is the NIC's", str(ids))
ok(not ids[0] & {x["phys_switch_id"] for x in ports("k1").values()}, "and no other NIC's")
by = {x["netdev"]: x for x in p.values()}
ok({"p0", "p1", "pf0hpf", "pf1hpf", "pf1vf3"} <= set(by), "p1, pf1hpf, pf1vfN", str(set(by)))
ok((by["pf1vf3"]["pfnum"], by["pf1vf3"]["vfnum"], by["pf1vf3"]["phys_port_name"], by["p1"]["phys_port_name"]) == (1, 3, "c1pf1vf3", "p1"),
   "their attributes", str(by["pf1vf3"]))
sh("for f in 0 1; do echo 4 >/sys/bus/pci/devices/1003:03:00.$f/sriov_numvfs; done")
ok(os.path.realpath("/sys/bus/pci/devices/1003:03:00.1/virtfn0").endswith("1003:03:00.6"), "the second PF's VFs follow the first's")
ok(os.listdir("/sys/bus/pci/devices/1003:03:00.6/net") == ["ens3f1v0"], "named by their PF")
sh("ip -n ka link del eth0 2>/dev/null; ip -n ka link set eth0 name old")
function("ens3f1v2", "ka", "eth1")
sh("ip -n k3 link set pf1vf2 up; ip -n k3 link set p1 up; ip link set wire3p1 up arp off")
tap, wire = Tap("ka", "eth1"), Tap(None, "wire3p1")
filters("k3", "pf1vf2")
tc("k3", "filter add dev pf1vf2 ingress pref 1 protocol ip flower skip_sw action mirred egress redirect dev p1")
tap.send(eth(ip4()))
ok(wire.got(3, 1) == [eth(ip4())], "the second eSwitch forwards")

# controller 0: functions of the NIC's own computer
ok(nic("k4", "4 2 controller=0 names=rep_") == 0, "controller=0")
p = ports("k4")
v = next(x for x in p.values() if x.get("vfnum") == 1)
ok((v["phys_port_name"], v["external"], v["controller"]) == ("pf0vf1", False, 0), "its ports are not external", str(v))
ok(all(x["netdev"].startswith("rep_") for x in p.values()), "names=rep_")

# controller 2: another server's
write("del", 4)
ok(nic("k4", "4 2 controller=2 pfs=2 names=rep_") == 0, "controller=2")
v = next(x for x in ports("k4").values() if x.get("vfnum") == 1 and x["pfnum"] == 1)
ok((v["phys_port_name"], v["external"], v["controller"]) == ("c2pf1vf1", True, 2), "its ports are external", str(v))

# what is refused, and the limits
for bad in ("", "x", "5", "5 0", "5 255", "5 128 pfs=2", "5 1 pfs=3", "4096 1", "-1 1", "5 1 names=a/b", "5 1 names=eth%d", "5 1 names=toolongname",
            "5 1 names=eth1", "5 1 colour=red", "5 1 pfs", "5 1 controller=16", "5 1 controller=-1"):
    ok(nic("k4", bad) == 22, f"new \"{bad}\": EINVAL")
ok(nic("k4", "4 2") == 17, "the same id again: EEXIST")
ok(nic("k3", "5 2") == 19 and stats(5) is None, "a name that is taken: ENODEV, nothing is left")
dmesg = sh("dmesg").stdout
ok("a name is taken" in dmesg, "and said in the log")
t = time.monotonic()
for i in (1, 2, 3, 4):
    write("del", i)
ok(nic("k1", "1 254") == 0, "254 VFs")
ok(sh("echo 254 >/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs; ls -d /sys/bus/pci/devices/1001:03:*/net/* | wc -l").stdout.strip() == "255", "all there")
ok(write("del", 1) == 0, "and gone")
ok(nic("k1", "1 127 pfs=2") == 0, "127 for each of two PFs")
sh("for f in 0 1; do echo 127 >/sys/bus/pci/devices/1001:03:00.$f/sriov_numvfs; done")
ok(os.path.realpath("/sys/bus/pci/devices/1001:03:00.1/virtfn126").endswith("1001:03:1f.7"), "the last one is the bus's last function")
ok(write("del", 1) == 0, "and gone")
for n in ("k1", "k2", "k3", "k4", "ka"):
    sh(f"ip netns del {n}")
