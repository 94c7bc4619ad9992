//! Pods of one simulated NIC on a VLAN of its fabric, and a host on the same VLAN at the far end of the NIC's wire.
//! Hosts are numbers: the pods from 0, the one on the wire after the last pod.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use nix::sched::{CloneFlags, setns};
use offload::ids::{CtZone, IfIndex, MacAddr};
use offload::netlink::link;
use offload::netlink::socket::{NetlinkSocket, Protocol};
use offload::policy::PodPolicy;
use offload::underlay::{Member, Program, Underlay, compile};

use crate::bench::{Bench, Nic, batch, output, run};

pub const VLAN: u16 = 100;
const ZONE: u16 = 62_000;
/// Of all hosts, as they are told: whom a pod may ask for.
const LINK: [Ipv6Net; 1] = [Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 0), 64)];
const DEBUGFS: &str = "/sys/kernel/debug/simnic";

pub fn zone() -> CtZone {
    CtZone::new(ZONE).unwrap()
}

pub fn v4(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 50, 10 + u8::try_from(host).unwrap())
}

pub fn v6(host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 10 + u16::try_from(host).unwrap())
}

pub fn address(host: usize, is_ipv6: bool) -> IpAddr {
    if is_ipv6 { v6(host).into() } else { v4(host).into() }
}

fn mac(host: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 5, u8::try_from(host).unwrap()])
}

fn namespace(host: usize) -> String {
    format!("ulvm-{host}")
}

pub fn route() -> NetlinkSocket {
    NetlinkSocket::open(Protocol::Route).unwrap()
}

/// The calling thread goes to a host's network namespace. Sockets that it makes there stay there.
pub fn enter(host: usize) {
    setns(File::open(format!("/run/netns/{}", namespace(host))).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

/// Does something in a host's network namespace.
pub fn inside<T: Send>(host: usize, work: impl FnOnce() -> T + Send) -> T {
    let act = move || {
        enter(host);
        work()
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

/// What the simulated NIC has counted of its own accord.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub rules: u64,
    pub frames: u64,
    pub ended_in_hardware: u64,
}

impl Counted {
    /// The share, in percent, of the frames since then that no software has seen.
    pub fn hardware_share(self, before: Self) -> u64 {
        (self.ended_in_hardware - before.ended_in_hardware) * 100 / (self.frames - before.frames).max(1)
    }
}

pub struct Stand {
    pub nic: Nic,
    reps: Vec<IfIndex>,
    uplink: IfIndex,
}

impl Stand {
    pub fn new(bench: &mut Bench, pods: usize) -> Self {
        let nic = bench.nic(u32::try_from(pods).unwrap());
        let pci = format!("/sys/bus/pci/devices/{:04x}:03:00.0/sriov_numvfs", 0x1000 + nic.id);
        std::fs::write(&pci, pods.to_string()).unwrap_or_else(|error| panic!("{pci}: {error}"));
        run("ip link set p0 up");
        for host in 0..=pods {
            let name = namespace(host);
            run(&format!("ip netns add {name}"));
            let mut lines = Vec::new();
            if host == pods {
                run(&format!("nsenter -t 1 -n ip link set wire{} netns {name} name wire", nic.id));
                lines.push("link set wire addrgenmode none".to_owned());
                lines.push("link set wire up".to_owned());
                lines.push(format!("link add link wire name eth0 type vlan id {VLAN}"));
            } else {
                run(&format!("nsenter -t 1 -n ip link set ens{}v{host} netns {name} name eth0", nic.id));
                run(&format!("ip link set pf0vf{host} up"));
            }
            lines.push(format!("link set eth0 address {} addrgenmode none", mac(host)));
            lines.push("link set eth0 up".to_owned());
            lines.push(format!("addr add {}/24 dev eth0", v4(host)));
            lines.push(format!("addr add {}/64 dev eth0 nodad", v6(host)));
            batch(&format!("ip -n {name}"), lines);
        }
        let mut socket = route();
        let mut index = |name: &str| link::link_by_name(&mut socket, name).unwrap().unwrap().ifindex;
        let reps = (0..pods).map(|pod| index(&format!("pf0vf{pod}"))).collect();
        Self { nic, reps, uplink: index("p0") }
    }

    pub fn pods(&self) -> usize {
        self.reps.len()
    }

    /// Everybody knows everybody's MAC, so that what a policy allows is all that a frame's way depends on.
    pub fn introduce(&self) {
        for host in 0..=self.pods() {
            let others = (0..=self.pods()).filter(|other| *other != host);
            let know = others.flat_map(|other| {
                [false, true].map(|is_ipv6| {
                    let (ip, mac) = (address(other, is_ipv6), mac(other));
                    format!("neigh replace {ip} lladdr {mac} dev eth0 nud permanent")
                })
            });
            batch(&format!("ip -n {}", namespace(host)), know);
        }
    }

    /// One policy for each pod.
    pub fn program(&self, policies: &[PodPolicy]) -> Program {
        assert_eq!(policies.len(), self.pods());
        let ips: Vec<_> = (0..self.pods()).map(|pod| ([v4(pod)], [v6(pod)])).collect();
        let member = |(pod, policy): (usize, _)| {
            let (ipv4, ipv6) = &ips[pod];
            Member { rep: self.reps[pod], mac: mac(pod), ipv4, ipv6, on_link: &LINK, policy }
        };
        let members = policies.iter().enumerate().map(member).collect();
        compile(&[Underlay { vlan: VLAN, zone: zone(), uplink: self.uplink, members }]).unwrap()
    }

    pub fn devices(&self) -> Vec<String> {
        (0..self.pods()).map(|pod| format!("pf0vf{pod}")).chain(["p0".to_owned()]).collect()
    }

    /// A fault of this NIC: a file of its own in simnic's debugfs.
    pub fn knob(&self, name: &str, value: &str) {
        let path = format!("{DEBUGFS}/nic{}/{name}", self.nic.id);
        std::fs::write(&path, value).unwrap_or_else(|error| panic!("{value:?} to {path}: {error}"));
    }

    /// The eSwitch loses all rules and tells nobody.
    pub fn forget(&self) {
        std::fs::write(format!("{DEBUGFS}/forget"), self.nic.id.to_string()).unwrap();
    }

    /// How many rules it has lost that nobody has taken away or written anew.
    pub fn forgotten(&self) -> usize {
        let all = std::fs::read_to_string(format!("{DEBUGFS}/rules")).unwrap();
        let ours = format!("nic {} ", self.nic.id);
        all.lines().filter(|line| line.starts_with(&ours) && line.ends_with(" forgotten")).count()
    }

    /// The eSwitch's connections from or to this port, one line for each direction.
    pub fn connections(&self, port: u16) -> Vec<String> {
        let all = std::fs::read_to_string(format!("{DEBUGFS}/conns")).unwrap();
        let ours = format!("nic {} zone {ZONE} ", self.nic.id);
        let port = port.to_string();
        // … proto P SRC DST SPORT DPORT state …
        let is_to = |line: &&str| line.split_whitespace().skip(8).take(2).any(|word| word == port);
        all.lines().filter(|line| line.starts_with(&ours)).filter(is_to).map(str::to_owned).collect()
    }

    pub fn counted(&self) -> Counted {
        let all = std::fs::read_to_string(format!("{DEBUGFS}/stats")).unwrap();
        let ours = format!("nic {} ", self.nic.id);
        let line = all.lines().find(|line| line.starts_with(&ours)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |name| words[words.iter().position(|word| *word == name).unwrap() + 1].parse().unwrap();
        Counted {
            rules: number("rules"),
            frames: number("frames"),
            ended_in_hardware: number("ended_in_hardware"),
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        for host in 0..=self.pods() {
            let _ = output(&format!("ip netns del {}", namespace(host)));
        }
    }
}
