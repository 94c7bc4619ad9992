# SPDX-License-Identifier: GPL-2.0
"""What the tests of simnic share: results, namespaces, NICs, frames. Runs in the lab VM, as root."""
import atexit, os, socket, struct, subprocess, time

DEBUG = "/sys/kernel/debug/simnic"
passed = failed = 0


def ok(good, name, detail=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
    print(f"{'ok' if good else 'not ok'} {passed + failed} - {name}" + (f" # {detail}" if not good else ""), flush=True)
    return good


@atexit.register
def finish():
    """The count goes to test.sh, which adds it up."""
    with open("/run/simnic-count", "a") as f:
        f.write(f"{passed} {failed}\n")


def sh(cmd, check=True):
    r = subprocess.run(cmd, shell=True, capture_output=True, text=True, timeout=120)
    if check and r.returncode:
        raise RuntimeError(f"{cmd}: {r.stdout}{r.stderr}")
    return r


def read(name):
    with open(f"{DEBUG}/{name}") as f:
        return f.read()


def eventually(look, is_right, seconds=3):
    """What was seen last: as soon as it is right, or when time is up."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if is_right(seen) or time.monotonic() > end:
            return seen
        time.sleep(0.05)


def write(name, value):
    """To a file of the debugfs; returns the errno, or 0."""
    try:
        fd = os.open(f"{DEBUG}/{name}", os.O_WRONLY)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)
        return 0
    except OSError as e:
        return e.errno


HOME = os.open("/proc/self/ns/net", os.O_RDONLY)


class In:
    """with In("ns"): what is made in it belongs to that network namespace."""

    def __init__(self, ns):
        self.ns = ns

    def __enter__(self):
        fd = os.open(f"/run/netns/{self.ns}", os.O_RDONLY) if self.ns else os.dup(HOME)
        os.setns(fd, 0)
        os.close(fd)

    def __exit__(self, *_):
        os.setns(HOME, 0)


def netns(*names):
    for n in names:
        sh(f"ip netns add {n} && ip -n {n} link set lo up && ip netns exec {n} sysctl -qw "
           "net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")


def nic(ns, args):
    with In(ns):
        return write("new", args)


def function(dev, ns, name="eth0"):
    sh(f"ip link set {dev} netns {ns} name {name} && ip -n {ns} link set {name} up arp off")


def stats(id):
    for line in read("stats").splitlines():
        w = line.split()
        if w[1] == str(id):
            return {w[i]: int(w[i + 1]) for i in range(2, len(w), 2)}
    return None


def fault(id, name):
    for line in read("faults").splitlines():
        w = line.split()
        if w[1] == str(id) and w[2] == name:
            return int(w[3])
    return None


def tc(ns, args, check=True):
    return sh(f"tc -n {ns} {args}", check)


def filters(ns, dev):
    """A representor's qdisc, fresh."""
    tc(ns, f"qdisc del dev {dev} clsact", False)
    tc(ns, f"qdisc add dev {dev} clsact")


# ---- frames ----

def mac(s):
    return bytes.fromhex(s.replace(":", ""))


A, B = mac("020000000a0a"), mac("020000000b0b")


def csum(data):
    if len(data) % 2:
        data += b"\0"
    s = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def pseudo(src, dst, proto, n):
    return src + dst + (struct.pack("!BBH", 0, proto, n) if len(src) == 4 else struct.pack("!IHBB", n, 0, 0, proto))


def l4(src, dst, proto, sport=1000, dport=80, flags=0x10, data=b"payload.", typ=8, code=0, check=True):
    at = {6: 16, 17: 6, 1: 2, 58: 2, 132: None}[proto]
    if proto == 6:
        p = struct.pack("!HHIIBBHHH", sport, dport, 1, 2, 5 << 4, flags, 1024, 0, 0) + data
    elif proto == 17:
        p = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    elif proto == 132:
        p = struct.pack("!HHII", sport, dport, 0, 0) + data
    else:
        p = struct.pack("!BBHHH", typ, code, 0, 1, 1) + data
    if at is not None and check:
        c = csum((b"" if proto == 1 else pseudo(src, dst, proto, len(p))) + p)
        p = p[:at] + struct.pack("!H", c or 0xffff) + p[at + 2:]
    return p


def ip4(src="10.9.0.10", dst="10.9.0.11", proto=17, tos=0, ttl=64, frag=0, payload=None, **kw):
    s, d = socket.inet_aton(src), socket.inet_aton(dst)
    p = l4(s, d, proto, **kw) if payload is None else payload
    h = struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(p), 7, frag, ttl, proto, 0, s, d)
    return 0x0800, h[:10] + struct.pack("!H", csum(h)) + h[12:] + p


def ip6(src="fd00::a", dst="fd00::b", proto=17, tos=0, ttl=64, payload=None, **kw):
    s, d = socket.inet_pton(socket.AF_INET6, src), socket.inet_pton(socket.AF_INET6, dst)
    p = l4(s, d, proto, **kw) if payload is None else payload
    return 0x86dd, struct.pack("!IHBB", 6 << 28 | tos << 20, len(p), proto, ttl) + s + d + p


def arp():
    return 0x0806, struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, A, b"\x0a\x09\0\x0a", b"\0" * 6, b"\x0a\x09\0\x0b")


def eth(inner, dst=B, src=A, vlans=()):
    """vlans: outer first, each (tpid, vid, prio)."""
    typ, p = inner
    tags = b"".join(struct.pack("!HH", t, prio << 13 | vid) for t, vid, prio in vlans)
    return dst + src + tags + struct.pack("!H", typ) + p


def sums_right(frame):
    """The checksums of an untagged IP frame."""
    typ, p = struct.unpack("!H", frame[12:14])[0], frame[14:]
    if typ == 0x0800:
        n = (p[0] & 15) * 4
        if csum(p[:n]):
            return False
        src, dst, proto, p = p[12:16], p[16:20], p[9], p[n:struct.unpack("!H", p[2:4])[0]]
    else:
        src, dst, proto, p = p[8:24], p[24:40], p[6], p[40:40 + struct.unpack("!H", p[4:6])[0]]
    if proto == 17 and p[6:8] == b"\0\0":
        return len(src) == 4
    return csum((b"" if proto == 1 else pseudo(src, dst, proto, len(p))) + p) == 0


class Tap:
    """A raw socket on a netdev: sends frames, and sees those that come in (not those that go out)."""

    def __init__(self, ns, dev):
        with In(ns):
            self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.s.setsockopt(263, 8, 1)                 # PACKET_AUXDATA: the VLAN tag
        self.s.setsockopt(263, 23, 1)                # PACKET_IGNORE_OUTGOING
        self.s.bind((dev, 3))
        self.s.setblocking(False)

    def send(self, frame):
        self.s.send(frame)

    def got(self, wait=0.3, want=None):
        """What has come in; waits until something (or want frames) has, or the time is over."""
        out, end = [], time.monotonic() + wait
        while True:
            try:
                data, anc, _, _ = self.s.recvmsg(10000, 200)
            except BlockingIOError:
                if (want is not None and len(out) >= want) or time.monotonic() > end:
                    return out
                time.sleep(0.005)
                continue
            for level, typ, c in anc:
                status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", c[:20])
                if status & 0x10:
                    data = data[:12] + struct.pack("!HH", tpid if status & 0x40 else 0x8100, tci) + data[12:]
            out.append(data)
