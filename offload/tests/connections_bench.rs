//! How many connections a second begin through Open vSwitch's kernel datapath, with what ours has that a plain commit has not:
//! the mark that names the rule, a listener that judges each by conntrack's events, and the pod's meter. The peer is the same
//! switch with none of these, in the same run. Runs in the lab VM, as root. Ends with a line for each figure, `bench`, name,
//! ours, peer, ratio, goal, between tabs. `[ROUNDS]`
//!
//! ```text
//!  trafgen ─ sent ═══ in ─┐ bridge: ct(zone), then +new: ct(commit) ├─ out ═══ arrived: its counter is the clock's hand
//! ```
//!
//! Every datagram begins a connection, and all of them are two flows of the datapath. The simulated NIC has no part in it. The
//! VM has one processor, which the reader of events shares with the datapath; a DPU has others for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[path = "netlink_vm/bench.rs"]
#[allow(dead_code, reason = "shared with another target")]
mod bench;
#[path = "conntrack_vm/judged.rs"]
mod judged;

use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bench::{Bench, output, run};
use judged::policy;
use offload::cut::is_denied;
use offload::ids::CtZone;
use offload::netlink::conntrack::{NewConnection, NewConnections};

const ZONE: u16 = 1000;
const BRIDGE: &str = "bench";
const RUN: &str = "/run/connections-bench";
/// Begun in one measurement.
const CONNECTIONS: u64 = 40_000;
/// Of what is sent before the clock starts, and after it stops: starting and ending are not measured.
const EDGE: u64 = CONNECTIONS / 10;
/// More than is sent, in a second: what is measured is what the meter costs.
const RATE: u32 = 4_000_000;
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Marked,
    Heard,
    Metered,
    /// As the agent has it.
    All,
}

impl Kind {
    const OURS: [(Self, &str); 4] = [
        (Self::Marked, "marks"),
        (Self::Heard, "events, judged"),
        (Self::Metered, "a meter"),
        (Self::All, "all three"),
    ];

    fn has(self, part: Self) -> bool {
        self == part || self == Self::All
    }
}

/// A switch of its own, in this thread's network namespace.
struct Switch {
    daemons: Vec<Child>,
}

impl Switch {
    fn start() -> Self {
        let _ = std::fs::remove_dir_all(RUN);
        std::fs::create_dir_all(RUN).unwrap();
        run(&format!("ovsdb-tool create {RUN}/db /usr/share/openvswitch/vswitch.ovsschema"));
        let daemon = |program: &str, arguments: &[String]| {
            let mut command = Command::new(program);
            command.args(arguments).env("OVS_RUNDIR", RUN).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
        };
        let log = |name: &str| {
            ["-vconsole:off".to_owned(), "-vsyslog:off".to_owned(), format!("--log-file={RUN}/{name}.log")]
        };
        let database = [format!("{RUN}/db"), format!("--remote=punix:{RUN}/db.sock"), "--pidfile".to_owned()];
        let server = daemon("ovsdb-server", &[database.as_slice(), &log("server")].concat());
        until("its database answers", || Path::new(&format!("{RUN}/db.sock")).exists());
        vsctl("--no-wait init");
        let switch = [format!("unix:{RUN}/db.sock"), "--pidfile".to_owned()];
        let switch = daemon("ovs-vswitchd", &[switch.as_slice(), &log("vswitchd")].concat());
        let started = Self { daemons: vec![switch, server] };
        vsctl(&format!("add-br {BRIDGE} -- set bridge {BRIDGE} protocols=OpenFlow15 fail-mode=secure"));
        for (port, peer) in [("in", "sent"), ("out", "arrived")] {
            run(&format!("ip link add {port} type veth peer name {peer}"));
            // Nothing of IPv6's own goes out: all that arrives is what was sent.
            for link in [port, peer] {
                run(&format!("ip link set {link} addrgenmode none up"));
            }
            vsctl(&format!("add-port {BRIDGE} {port}"));
        }
        started
    }

    /// The flows of a boundary, as far as a new connection meets them.
    fn program(kind: Kind) {
        ofctl(&format!("del-flows {BRIDGE}"));
        let _ = output(&format!("ovs-ofctl -O OpenFlow15 del-meters {RUN}/{BRIDGE}.mgmt"));
        if kind.has(Kind::Metered) {
            ofctl(&format!(
                "add-meter {BRIDGE} meter=1,pktps,burst,band=type=drop,rate={RATE},burst_size={RATE}"
            ));
        }
        let meter = if kind.has(Kind::Metered) { "meter:1," } else { "" };
        let exec = if kind.has(Kind::Marked) { ",exec(load:0x1000001->NXM_NX_CT_MARK[])" } else { "" };
        for flow in [
            format!("table=0,in_port=in,ip,actions=ct(zone={ZONE},table=1)"),
            format!("table=1,ct_state=+trk+new,ip,actions={meter}ct(commit,zone={ZONE}{exec}),output:out"),
        ] {
            ofctl(&format!("add-flow {BRIDGE} {flow}"));
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // The datapath is the kernel's and outlives its daemon, but not this namespace.
        for port in ["in", "out"] {
            let _ = output(&format!("ip link del {port}"));
        }
    }
}

fn vsctl(words: &str) {
    run(&format!("ovs-vsctl --timeout=60 --db=unix:{RUN}/db.sock {words}"));
}

fn ofctl(words: &str) {
    // By its socket: the tool looks for a bridge's name where the distribution has it.
    let words = words.replacen(BRIDGE, &format!("{RUN}/{BRIDGE}.mgmt"), 1);
    run(&format!("ovs-ofctl -O OpenFlow15 {words}"));
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "late: {what}");
        std::thread::sleep(LOOK);
    }
}

/// As the agent's: reads events and judges each, by twenty rules of one peer and one that allows the rest.
struct Ears {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Ears {
    fn open() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let zone = CtZone::new(ZONE).unwrap();
        let mut socket = NewConnections::open(zone..=zone).unwrap();
        let (policy, own) = (policy(), [IpAddr::from([10, 9, 0, 2])]);
        let told = ends.clone();
        let thread = std::thread::spawn(move || {
            let (mut heard, mut lost) = (0, 0);
            while !told.load(Ordering::Relaxed) {
                for event in socket.wait(Duration::from_millis(50)).unwrap() {
                    match event {
                        NewConnection::Began(entry) => {
                            assert!(!is_denied(&own, &policy, &entry.orig));
                            heard += 1;
                        }
                        NewConnection::Lost => lost += 1,
                    }
                }
            }
            (heard, lost)
        });
        Self { ends, thread }
    }

    fn close(self) -> (u64, u64) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Packets, by the kernel's count in this thread's namespace (sysfs has the first one's devices). Asked often, so without a program.
fn arrived() -> u64 {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let counts = devices.lines().find_map(|line| line.trim_start().strip_prefix("arrived:"));
    counts.and_then(|it| it.split_whitespace().nth(1)).expect("its packets").parse().unwrap()
}

/// Connections per second.
fn measure(kind: Kind) -> f64 {
    Switch::program(kind);
    run("conntrack -F");
    let ears = kind.has(Kind::Heard).then(Ears::open);
    let before = arrived();
    let datagrams = format!("{RUN}/datagrams");
    // More ports than datagrams: no two are of one connection.
    std::fs::write(
        &datagrams,
        "{ eth(da=02:00:00:00:00:02, sa=02:00:00:00:00:01), ipv4(saddr=10.9.0.1, daddr=10.9.0.2), \
         udp(sport=dinc(1024, 61023), dport=53), fill('x', 8) }",
    )
    .unwrap();
    let mut sender = Command::new("trafgen")
        .args(["--dev", "sent", "--conf", &datagrams, "--num", &CONNECTIONS.to_string(), "--cpus", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("trafgen");
    let (mut first, mut last, mut still) = (None, None, Instant::now());
    let mut seen = 0;
    until("what was sent arrives", || {
        let now = (Instant::now(), arrived() - before);
        if now.1 != seen {
            (seen, still) = (now.1, Instant::now());
        }
        if first.is_none() && seen >= EDGE {
            first = Some(now);
        }
        if seen <= CONNECTIONS - EDGE {
            last = Some(now);
        }
        // What a queue had no room for does not come.
        let is_over = sender.try_wait().unwrap().is_some() && still.elapsed() > Duration::from_secs(1);
        seen >= CONNECTIONS || is_over
    });
    let _ = sender.wait();
    let counted: u64 = run("conntrack -C").trim().parse().unwrap();
    let (first, last) = (first.expect("something arrives"), last.unwrap());
    assert!(last.1 > first.1 && seen > CONNECTIONS / 2, "{seen} of {CONNECTIONS} arrived");
    assert!(counted >= seen, "{seen} arrived and {counted} are in conntrack");
    let listed = run(&format!("conntrack -L -m {} -w {ZONE}", 0x0100_0001)).lines().count() as u64;
    assert_eq!(listed >= seen, kind.has(Kind::Marked), "{listed} of {seen} are marked");
    if let Some((heard, lost)) = ears.map(Ears::close) {
        println!("  {heard} of {counted} heard, {lost} times events were lost");
        assert!(heard > 0);
    }
    f64::from(u32::try_from(last.1 - first.1).unwrap()) / (last.0 - first.0).as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds: usize = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(5);
    let _bench = Bench::new();
    // Of all namespaces, to be set in the first one only.
    run("nsenter -t 1 -n sysctl -q -w net.netfilter.nf_conntrack_max=300000");
    let _switch = Switch::start();
    let kinds: Vec<Kind> = Kind::OURS.map(|(kind, _)| kind).into_iter().chain([Kind::Plain]).collect();
    let mut figures = vec![Vec::new(); kinds.len()];
    for round in 0..=rounds {
        for (kind, figures) in kinds.iter().zip(&mut figures) {
            let figure = measure(*kind);
            // The first one warms up.
            if round > 0 {
                figures.push(figure);
            }
        }
    }
    let medians: Vec<f64> = figures.into_iter().map(median).collect();
    let plain = medians[kinds.len() - 1];
    for ((_, name), ours) in Kind::OURS.iter().zip(&medians) {
        println!(
            "bench\tnew connections/s with {name}, without\t{ours:.0}\t{plain:.0}\t{:.2}\t-",
            ours / plain
        );
    }
}
