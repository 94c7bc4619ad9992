//! 200 pods come and go on 32 VFs, and nothing of them is left: no port, flow, zone, ledger entry or VF.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use tests::command::{place, sh};
use tests::{Nic, Pod, State, Wish};

const CYCLES: u16 = 200;
const VFS: u16 = 32;

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn line(what: &str, mut samples: Vec<Duration>) {
    samples.sort();
    println!(
        "{what}: p50 {:.0} ms, p99 {:.0} ms, n {}",
        percentile(&samples, 50).as_secs_f64() * 1e3,
        percentile(&samples, 99).as_secs_f64() * 1e3,
        samples.len()
    );
}

#[test]
fn nothing_is_left_of_two_hundred_pods() {
    let nic = Nic(1);
    nic.settle();
    let before = State::of(nic);
    let zones_free = nic.metric("nic_agent_zones_free");
    let vfs = || sh("host1", "ls -d /sys/class/net/ens1v* | sort").ok();
    let vfs_before = vfs();

    let mut whole = Vec::new();
    // Several at a time, each on a VF of its own, so that they also meet each other.
    let lanes: Vec<Vec<Duration>> = std::thread::scope(|scope| {
        let lane = |lane: u16| {
            move || {
                let mut times = Vec::new();
                for cycle in (lane..CYCLES).step_by(4) {
                    let name = format!("churn{cycle}");
                    let vf = cycle % VFS;
                    let pod = Pod::create(&Wish { name: &name, host: "host1", vf, options: &[] });
                    let began = Instant::now();
                    pod.cni("ADD", &[]).ok();
                    times.push(began.elapsed());
                    if cycle % 16 == 0 {
                        assert!(pod.pings("10.244.0.1"), "{name} is attached");
                    }
                    pod.delete();
                }
                times
            }
        };
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(lane(n))).collect();
        threads.into_iter().map(|t| t.join().expect("lane")).collect()
    });
    whole.extend(lanes.into_iter().flatten());
    assert_eq!(whole.len(), usize::from(CYCLES));

    nic.settle();
    assert_eq!(State::of(nic), before);
    assert!(
        (nic.metric("nic_agent_zones_free") - zones_free).abs() < f64::EPSILON,
        "every zone is free again"
    );
    assert_eq!(vfs(), vfs_before, "every VF is back on the server, under its name");
    let left = place("nic1", &["conntrack", "-L"]).stdout;
    let ours: Vec<_> = left
        .lines()
        .filter(|line| {
            line.split("zone=").nth(1).is_some_and(|z| z.starts_with("610") || z.starts_with("611"))
        })
        .collect();
    assert!(ours.is_empty(), "connections of pods that are gone: {ours:#?}");
    let bound = place(
        "central",
        &["ovn-sbctl", "--bare", "--columns=logical_port", "find", "Port_Binding", "type=\"\""],
    )
    .ok();
    assert!(!bound.contains("churn"), "{bound}");

    line("CNI ADD, whole", whole);
    for stage in ["ours", "ovn-controller"] {
        println!("attach stage {stage}: {}", quantiles(nic, stage));
    }
}

/// p50 and p99 out of the histogram that the agent keeps, as upper bounds of their buckets.
fn quantiles(nic: Nic, stage: &str) -> String {
    let text = nic.run(&["curl", "-sS", "http://127.0.0.1:9464/metrics"]).ok();
    let mut buckets: Vec<(f64, f64)> = text
        .lines()
        .filter(|line| {
            line.starts_with("nic_agent_attach_seconds_bucket{")
                && line.contains(&format!("stage=\"{stage}\""))
        })
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, line.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last().unwrap_or_else(|| panic!("no samples of stage {stage}")).1;
    assert!(total >= f64::from(CYCLES), "each attach is counted: {total} in stage {stage}");
    let at = |share: f64| {
        buckets.iter().find(|(_, count)| *count >= total * share).map_or(f64::NAN, |b| b.0 * 1e3)
    };
    format!("p50 <= {:.0} ms, p99 <= {:.0} ms, n {total}", at(0.5), at(0.99))
}
