//! Two pods on VFs of a simulated NIC, and TC rules that track what goes between them: what enters a representor is
//! looked up in [`ZONE`], a new connection is committed, everything goes to the other pod. Established ones the eSwitch
//! carries alone.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::bench::{Bench, Nic, output, run};
use crate::patience::{late, patience};

pub const ZONE: u16 = 77;
const PODS: [&str; 2] = ["ctvm-a", "ctvm-b"];
/// Pods `a` and `b`, each with an address of both versions.
pub const V4: [&str; 2] = ["10.9.0.1", "10.9.0.2"];
pub const V6: [&str; 2] = ["fd09::1", "fd09::2"];

pub struct Pods {
    nic: Nic,
}

impl Pods {
    pub fn new(bench: &mut Bench) -> Self {
        let nic = bench.nic(2);
        let pci = format!("/sys/bus/pci/devices/{:04x}:03:00.0/sriov_numvfs", 0x1000 + nic.id);
        std::fs::write(&pci, "2").unwrap_or_else(|error| panic!("{pci}: {error}"));
        for (i, pod) in PODS.iter().enumerate() {
            run(&format!("ip netns add {pod}"));
            run(&format!("nsenter -t 1 -n ip link set ens{}v{i} netns {pod} name eth0", nic.id));
            let ip = |line: &str| run(&format!("ip -n {pod} {line}"));
            ip(&format!("link set eth0 address 02:00:00:00:00:0{i} addrgenmode none"));
            ip("link set eth0 up");
            ip(&format!("addr add {}/24 dev eth0", V4[i]));
            ip(&format!("addr add {}/64 dev eth0 nodad", V6[i]));
            for address in [V4[1 - i], V6[1 - i]] {
                ip(&format!(
                    "neigh replace {address} lladdr 02:00:00:00:00:0{} dev eth0 nud permanent",
                    1 - i
                ));
            }
            run(&format!("ip link set pf0vf{i} up"));
            run(&format!("tc qdisc add dev pf0vf{i} clsact"));
            let to = format!("mirred egress redirect dev pf0vf{}", 1 - i);
            for (pref, protocol) in [(1, "ip"), (2, "ipv6")] {
                let flower = |chain, pref, rest: &str| {
                    run(&format!(
                        "tc filter add dev pf0vf{i} ingress chain {chain} pref {pref} protocol {protocol} flower {rest}"
                    ));
                };
                flower(0, pref, &format!("action ct zone {ZONE} pipe action goto chain 1"));
                flower(1, pref, &format!("ct_state +trk+est action {to}"));
                flower(
                    1,
                    pref + 10,
                    &format!("ct_state +trk+new action ct commit zone {ZONE} pipe action {to}"),
                );
            }
        }
        Self { nic }
    }

    /// Connections are no longer let in: the rules for new ones go.
    pub fn close() {
        for (i, pref) in [(0, 11), (0, 12), (1, 11), (1, 12)] {
            run(&format!("tc filter del dev pf0vf{i} ingress chain 1 pref {pref}"));
        }
    }

    /// Of the eSwitch's connections, the zone's: one line for each direction.
    pub fn in_hardware(&self) -> Vec<String> {
        let all = std::fs::read_to_string("/sys/kernel/debug/simnic/conns").unwrap();
        let ours = format!("nic {} zone {ZONE} ", self.nic.id);
        all.lines().filter(|line| line.starts_with(&ours)).map(str::to_owned).collect()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for pod in PODS {
            let _ = output(&format!("ip netns del {pod}"));
        }
    }
}

/// Does something in a pod's network namespace. Sockets that are made there stay there.
pub fn inside<T: Send>(pod: usize, work: impl FnOnce() -> T + Send) -> T {
    let act = move || {
        let namespace = File::open(format!("/run/netns/{}", PODS[pod])).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection from pod `a` to a port of pod `b`, both ends in our hands.
pub struct Tcp {
    pub client: TcpStream,
    server: TcpStream,
}

impl Tcp {
    pub fn open(to: &str, port: u16) -> Self {
        let to: IpAddr = to.parse().unwrap();
        let listener = inside(1, || TcpListener::bind((to, port)).unwrap());
        let client =
            inside(0, || TcpStream::connect_timeout(&(to, port).into(), patience(PATIENCE)).unwrap());
        let (server, _) = listener.accept().unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(patience(PATIENCE))).unwrap();
            socket.set_nodelay(true).unwrap();
        }
        Self { client, server }
    }

    /// There and back.
    pub fn turn(&mut self) {
        let mut byte = [0];
        self.client.write_all(b"x").unwrap();
        self.server.read_exact(&mut byte).unwrap();
        self.server.write_all(b"y").unwrap();
        self.client.read_exact(&mut byte).unwrap();
    }
}

/// As [`Tcp`], over UDP.
pub struct Udp {
    pub client: UdpSocket,
    pub server: UdpSocket,
}

impl Udp {
    pub fn open(to: &str, port: u16) -> Self {
        let to: IpAddr = to.parse().unwrap();
        let any: IpAddr = if to.is_ipv6() { "::".parse().unwrap() } else { "0.0.0.0".parse().unwrap() };
        let server = inside(1, || UdpSocket::bind((to, port)).unwrap());
        let client = inside(0, || UdpSocket::bind((any, 0)).unwrap());
        client.connect((to, port)).unwrap();
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(patience(PATIENCE))).unwrap();
        }
        Self { client, server }
    }

    pub fn turn(&self) {
        let mut byte = [0];
        self.client.send(b"x").unwrap();
        let (_, from) = self.server.recv_from(&mut byte).unwrap();
        self.server.send_to(b"y", from).unwrap();
        self.client.recv(&mut byte).unwrap();
    }

    /// What is waiting at the server, without waiting for more.
    pub fn arrived(&self) -> usize {
        self.server.set_nonblocking(true).unwrap();
        let mut byte = [0];
        let count = std::iter::from_fn(|| self.server.recv(&mut byte).ok()).count();
        self.server.set_nonblocking(false).unwrap();
        count
    }
}

pub fn ping(to: &str) {
    run(&format!("ip netns exec {} ping -n -c 1 -W 5 {to}", PODS[0]));
}

/// Until the NIC has a connection that is in use.
const HANDED_OVER: Duration = Duration::from_secs(30);

/// Turns until it is so.
pub fn until(what: &str, mut turn: impl FnMut(), mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    for turns in 1.. {
        turn();
        if so() {
            return;
        }
        assert!(
            began.elapsed() < patience(HANDED_OVER),
            "{}",
            late(what, began.elapsed(), format_args!("not so after {turns} turns"))
        );
        std::thread::sleep(Duration::from_millis(30));
    }
}
