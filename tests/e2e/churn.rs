//! 200 sandboxes come and go on 32 VFs, and nothing of them is left: no port, flow, zone, ledger entry or VF.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::command::{Output, in_place, place, sh, vm};
use tests::{Nic, State, until};

const CYCLES: usize = 200;
const VFS: usize = 32;
const LANES: usize = 4;

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

/// A pod as far as the agent and OVN know it. Made here rather than by `lab pod`, so that the time goes into attaching.
struct Member {
    vf: usize,
    uid: String,
    netns: String,
}

impl Member {
    fn name(&self) -> String {
        format!("churn{}", self.vf)
    }

    /// host-shim, as a runtime runs it for one of the pod's sandboxes.
    fn cni(&self, verb: &str, sandbox: &str, config: &str) -> Output {
        let name = self.name();
        let mut command = in_place("host1", &["/opt/cni/bin/host-shim"]);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", sandbox)
            .env("CNI_NETNS", format!("/run/netns/{}", self.netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID={}",
                    self.uid
                ),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("host-shim");
        let config = config.replacen('{', &format!("{{\"deviceID\": \"{}\",", pci(self.vf)), 1);
        child.stdin.take().expect("stdin").write_all(config.as_bytes()).expect("host-shim reads");
        let done = child.wait_with_output().expect("host-shim ends");
        Output {
            command: format!("{verb} of {name}"),
            code: done.status.code(),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        }
    }
}

/// VF n is the n-th function after the PF.
fn pci(vf: usize) -> String {
    let function = vf + 1;
    format!("1001:03:{:02x}.{}", function / 8, function % 8)
}

/// A pod per VF: its namespace, its logical port, and its place in the NIC's directory.
fn members() -> Vec<Member> {
    let members: Vec<Member> = (0..VFS)
        .map(|vf| Member {
            vf,
            uid: format!("00000000-0000-4000-8000-{vf:012}"),
            netns: format!("pod-churn{vf}"),
        })
        .collect();
    let mut ports = vec!["ovn-nbctl".to_owned(), "--timeout=60".to_owned()];
    let mut pods = Vec::new();
    for member in &members {
        vm(&["ip", "netns", "add", &member.netns]).ok();
        let (name, n) = (member.name(), 100 + member.vf);
        ports.extend(
            format!("-- lsp-add ls0 default_{name} -- lsp-set-addresses default_{name}")
                .split(' ')
                .map(str::to_owned),
        );
        ports.push(format!("0a:58:0a:f4:07:{n:02x} 10.244.7.{n} fd00:10:244::7:{n}"));
        pods.push(json!({"uid": member.uid, "namespace": "default", "name": name, "node": "host1", "phase": "Running"}));
    }
    place("central", &ports.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    directory(&pods);
    members
}

/// What the NIC's agent reads; renamed into place.
fn directory(pods: &[Value]) {
    let file = "/run/lab/root/nic1/etc/nic-agent/pods.json";
    std::fs::write(format!("{file}.new"), json!({"version": 1, "pods": pods}).to_string()).unwrap();
    std::fs::rename(format!("{file}.new"), file).unwrap();
    // Read once a second.
    std::thread::sleep(Duration::from_millis(2500));
}

/// One sandbox after the other, on every VF of a lane.
fn run(members: &[Member], lane: usize, config: &str) -> Vec<Duration> {
    let mine: Vec<&Member> = members.iter().skip(lane).step_by(LANES).collect();
    let mut times = Vec::new();
    for cycle in 0..CYCLES / LANES {
        let member = mine[cycle % mine.len()];
        let sandbox = format!("churn-{lane}-{cycle}");
        let began = Instant::now();
        member.cni("ADD", &sandbox, config).ok();
        times.push(began.elapsed());
        if cycle % 10 == 0 {
            let ping =
                ["ip", "netns", "exec", &member.netns, "ping", "-q", "-c", "3", "-W", "2", "10.244.0.1"];
            assert!(vm(&ping).is_ok(), "{sandbox} is attached");
        }
        member.cni("DEL", &sandbox, config).ok();
    }
    times
}

/// 61000 to 61254.
const ZONES: u32 = 255;

#[test]
fn nothing_is_left_of_two_hundred_pods() {
    let nic = Nic(1);
    nic.settle();
    let before = State::of(nic);
    let vfs = || sh("host1", "ls -d /sys/class/net/ens1v* | sort").ok();
    let vfs_before = vfs();
    vm(&["mkdir", "-p", "/opt/cni/bin"]).ok();
    vm(&["cp", "/share/bin/host-shim", "/opt/cni/bin/host-shim.new"]).ok();
    vm(&["mv", "/opt/cni/bin/host-shim.new", "/opt/cni/bin/host-shim"]).ok();
    let config = place("host1", &["cat", "/etc/cni/net.d/10-drawbridge.conf"]).ok();
    let members = members();

    // Several at a time, so that they also meet each other.
    let (members, config) = (&members, config.as_str());
    let whole: Vec<Duration> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|lane| scope.spawn(move || run(members, lane, config))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("lane")).collect()
    });
    assert_eq!(whole.len(), CYCLES);

    nic.settle();
    assert_eq!(State::of(nic), before);
    let held = nic.ledger()["attachments"].as_array().map_or(0, Vec::len);
    let zones = f64::from(ZONES - u32::try_from(held).unwrap());
    // The last ones are in quarantine for a while.
    until("every zone is free again", Duration::from_mins(1), || {
        let free = nic.metric("drawbridge_nic_agent_zones_free");
        if (free - zones).abs() < f64::EPSILON { Ok(()) } else { Err(free.to_string()) }
    });
    assert_eq!(vfs(), vfs_before, "every VF is back on the server, under its name");
    let left = place("nic1", &["conntrack", "-L"]).stdout;
    let ours: Vec<_> =
        left.lines().filter(|line| line.contains("zone=610") || line.contains("zone=611")).collect();
    assert!(ours.is_empty(), "connections of pods that are gone: {ours:#?}");
    // Unbound again: ovn-controller has let go of them.
    let bound =
        ["ovn-sbctl", "--bare", "--columns=logical_port", "find", "Port_Binding", "chassis!=[]", "type=\"\""];
    until("OVN lets go of the ports", Duration::from_secs(30), || {
        let bound = place("central", &bound).ok();
        if bound.contains("churn") { Err(bound) } else { Ok(()) }
    });
    directory(&[]);
    for member in members {
        vm(&["ip", "netns", "del", &member.netns]).ok();
        place("central", &["ovn-nbctl", "--if-exists", "lsp-del", &format!("default_{}", member.name())])
            .ok();
    }

    line("CNI ADD, whole", whole);
    for stage in ["ours", "ovn-controller"] {
        println!("attach stage {stage}: {}", quantiles(nic, stage));
    }
}

/// p50 and p99 out of the histogram that the agent keeps, as upper bounds of their buckets.
fn quantiles(nic: Nic, stage: &str) -> String {
    let text = nic.metrics();
    let mut buckets: Vec<(f64, f64)> = text
        .lines()
        .filter(|line| {
            line.starts_with("drawbridge_nic_agent_attach_duration_seconds_bucket{")
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
    assert!(total >= 200.0, "each attach is counted: {total} in stage {stage}");
    let at = |share: f64| {
        buckets.iter().find(|(_, count)| *count >= total * share).map_or(f64::NAN, |b| b.0 * 1e3)
    };
    format!("p50 <= {:.0} ms, p99 <= {:.0} ms, n {total}", at(0.5), at(0.99))
}
