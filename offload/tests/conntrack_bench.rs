//! What it costs to hold all connections against a policy, beside `conntrack -L`. Runs in the lab VM, as root. Ends with a line for each figure, `bench`, name,
//! ours, peer, ratio, goal, between tabs. `[ROUNDS]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[path = "netlink_vm/bench.rs"]
#[allow(dead_code, reason = "shared with another target")]
mod bench;
#[path = "conntrack_vm/judged.rs"]
mod judged;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bench::{Bench, run};
use judged::policy;
use offload::cut::is_denied;
use offload::netlink::conntrack::Conntrack;
use offload::policy::PodPolicy;

fn fill(connections: u32) {
    let file = std::env::temp_dir().join("bench-conntrack");
    let mut lines = String::new();
    for n in 0..connections {
        let (src, port) = (Ipv4Addr::from(0x0a10_0000 + n / 1000), n % 1000 + 1);
        let zone = 1000 + n % 32;
        writeln!(
            lines,
            "-A -w {zone} -t 3600 -u SEEN_REPLY -s {src} -d 10.9.0.2 -p udp --sport {port} --dport 53"
        )
        .unwrap();
    }
    std::fs::write(&file, lines).unwrap();
    run(&format!("conntrack -R {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    assert!(Conntrack::open().unwrap().kept().unwrap() >= connections, "all of them are there");
}

/// As `nic-agent`'s audit does: one dump of all zones, each entry judged.
fn audit(policy: &PodPolicy, expected: usize) -> Duration {
    let own = [IpAddr::from([10, 9, 0, 2])];
    let start = Instant::now();
    let mut judged = 0;
    let denied = Conntrack::open()
        .unwrap()
        .select(None, |entry| {
            judged += 1;
            is_denied(&own, policy, &entry.orig).then_some(entry)
        })
        .unwrap();
    let took = start.elapsed();
    assert!(denied.is_empty() && judged >= expected, "{judged} judged, {} denied", denied.len());
    took
}

fn tool() -> Duration {
    let start = Instant::now();
    run("conntrack -L");
    start.elapsed()
}

fn best(rounds: u32, mut measure: impl FnMut() -> Duration) -> Duration {
    (0..rounds).map(|_| measure()).min().unwrap()
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(5);
    let mut lines = Vec::new();
    let _bench = Bench::new();
    // Of all namespaces, to be set in the first one only.
    run("nsenter -t 1 -n sysctl -q -w net.netfilter.nf_conntrack_max=300000");
    let policy = policy();
    for connections in [0, 10_000, 100_000] {
        if connections > 0 {
            fill(connections);
        }
        let expected = usize::try_from(connections).unwrap();
        let (ours, tool) = (best(rounds, || audit(&policy, expected)), best(rounds, tool));
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let ratio = ours.as_secs_f64() / tool.as_secs_f64();
        lines.push(format!(
            "bench\taudit of {connections} connections: ours, conntrack -L\t{}\t{}\t{ratio:.2}\t-",
            ms(ours),
            ms(tool)
        ));
        if connections > 0 {
            run("conntrack -F");
        }
    }
    println!("{}", lines.join("\n"));
}
