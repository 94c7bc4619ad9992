//! What compiling NetworkPolicy costs: one event, all of it, and memory; and how that grows with the cluster.
//!
//! A plain program: an event is a change of state, so the same one cannot be measured twice, which is what criterion
//! does. The cluster is made as clusters are: applications of ten pods, ten of them in a namespace, each with a Service;
//! ten policies in a namespace; pods spread over nodes that have a /24 each.
//!
//! An event costs what it concerns, not what the cluster is. What each concerns here is the same in a cluster ten times as
//! large with ten times the nodes: a node has as many pods, in as many namespaces. Two selectors mean a tenth of all pods,
//! at any size (an application in all namespaces, a team's namespaces); one pod more or less in them is measured with the
//! rest. What brings such a selector into force for the first time on a node concerns all that it means: that is said
//! apart, with no goal for how it grows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss)] // figures for people

#[path = "policy_compile/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cluster::{Size, namespace_with, pod, slice, snapshot};
use nic_agent::policy::{Change, Compiler, ObjectName, Pod, Settings, Snapshot};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// What one process measured of one size: a figure, or events of one kind, in the same order in every process.
#[derive(Serialize, Deserialize)]
struct Series {
    name: String,
    /// Milliseconds, or bytes.
    values: Vec<f64>,
    unit: Unit,
    /// In the same unit, at the size that the goal is for.
    limit: Option<f64>,
    /// So many times as much at most, in a cluster ten times as large.
    growth: Option<f64>,
}

/// A line of the table.
struct Figure {
    name: String,
    value: f64,
    unit: Unit,
    limit: Option<f64>,
    growth: Option<f64>,
}

impl Series {
    /// What else a machine does only ever adds to what an event takes.
    fn best(mut self, again: &Self) -> Self {
        assert_eq!((&self.name, self.values.len()), (&again.name, again.values.len()));
        for (value, again) in self.values.iter_mut().zip(&again.values) {
            *value = value.min(*again);
        }
        self
    }

    /// Median and worst of events.
    fn figures(self) -> Vec<Figure> {
        let Self { name, mut values, unit, limit, growth } = self;
        let figure = |name, value| Figure { name, value, unit, limit, growth };
        values.sort_by(f64::total_cmp);
        match values[..] {
            [value] => vec![figure(name, value)],
            _ => vec![
                figure(format!("{name}, median"), values[values.len() / 2]),
                figure(format!("{name}, worst"), values[values.len() - 1]),
            ],
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Unit {
    Time,
    Memory,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Time => format!("{value:.3} ms"),
            Self::Memory if value < 10_000.0 => format!("{value:.0} B"),
            Self::Memory => format!("{:.1} MiB", value / 1024.0 / 1024.0),
        }
    }
}

fn time(name: &str, it: Duration, limit: Option<f64>) -> Series {
    series(name, limit, None, &[it])
}

fn memory(name: &str, bytes: usize) -> Series {
    let values = vec![bytes as f64];
    Series { name: name.to_owned(), values, unit: Unit::Memory, limit: None, growth: None }
}

fn series(name: &str, limit: Option<f64>, growth: Option<f64>, times: &[Duration]) -> Series {
    let values = times.iter().map(|it| it.as_secs_f64() * 1e3).collect();
    Series { name: name.to_owned(), values, unit: Unit::Time, limit, growth }
}

/// What this thread has had of a processor: an event is short, and who else runs meanwhile would be the worst of many.
fn of_processor() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn event(compiler: &mut Compiler, change: Change) -> Duration {
    let start = of_processor();
    std::hint::black_box(compiler.apply(change));
    of_processor().saturating_sub(start)
}

fn events(
    name: &str,
    compiler: &mut Compiler,
    limit: Option<f64>,
    changes: impl IntoIterator<Item = Change>,
) -> Series {
    let times: Vec<Duration> = changes.into_iter().map(|it| event(compiler, it)).collect();
    series(name, limit, GROWTH, &times)
}

/// Pods of this node go, and come again, each while the others are there.
fn come_and_go(
    name: &str,
    compiler: &mut Compiler,
    limit: Option<f64>,
    growth: Option<f64>,
    pods: impl IntoIterator<Item = Pod>,
) -> [Series; 2] {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for pod in pods {
        gone.push(event(compiler, Change::PodGone(pod.name.clone())));
        come.push(event(compiler, Change::Pod(pod)));
    }
    [series(&format!("{name} gone"), limit, growth, &gone), series(name, limit, growth, &come)]
}

fn measure(size: &Size) -> Vec<Series> {
    let settings = Settings {
        node: "node-1".into(),
        zone: "".into(),
        node_addresses: ["10.128.1.1".parse::<IpAddr>().unwrap()].into_iter().collect(),
        budget: nic_agent::policy::Budget::default(),
    };
    let elsewhere = Settings { node: "nowhere".into(), ..settings.clone() };
    // One by one, and before anything else: what is freed again would hide what is kept.
    let mut only_foreign = Compiler::new(elsewhere, Snapshot::default());
    let before = resident();
    // Also the largest cluster has been a small one: nothing may be made anew on the way that is as large as all.
    let mut growing = Vec::new();
    for index in 0..size.pods {
        growing.push(event(&mut only_foreign, Change::Pod(pod(size, index))));
    }
    let growing_is = growing.capacity() * size_of::<Duration>();
    let per_pod = resident().saturating_sub(before + growing_is) / usize::try_from(size.pods).unwrap();
    drop(only_foreign);

    let mut full = Vec::new();
    let mut compiler: Option<Compiler> = None;
    for _ in 0..3 {
        let snapshot = snapshot(size);
        // Its memory is not freed while the clock runs.
        drop(compiler.take());
        let start = of_processor();
        let settings = settings.clone();
        compiler = Some(Compiler::new(settings, snapshot));
        full.push(of_processor().saturating_sub(start));
    }
    let mut compiler = compiler.unwrap();
    let resident_with_all = resident();
    println!(
        "# {} pods, {} policies, {} Services, {} local pods, {} sets of peers, {} origins, {} reports",
        size.pods,
        size.pods / 10,
        size.pods / 10,
        compiler.all_compiled().count(),
        compiler.sets(),
        compiler.origins().iter().count(),
        compiler.reports().len(),
    );
    full.sort();
    let mut figures = vec![
        time("full compile, median of 3", full[1], Some(200.0)),
        memory("memory for a foreign pod", per_pod),
        memory("memory in all, resident", resident_with_all),
    ];
    figures.push(series("first word of a pod that is nobody's peer here", None, GROWTH, &growing));

    let (of_node, of_others): (Vec<Pod>, Vec<Pod>) =
        (0..size.pods).map(|it| pod(size, it)).partition(|it| *it.node == *"node-1");
    // Those that have pods here: what happens elsewhere concerns these less, and in a large cluster more happens elsewhere.
    let namespaces: BTreeSet<Arc<str>> = of_node.iter().map(|it| it.name.namespace.clone()).collect();
    let beside: Vec<Pod> =
        of_others.into_iter().filter(|it| namespaces.contains(&it.name.namespace)).collect();
    // Odd, so that pods of every application have their turn.
    let chosen: Vec<Pod> = beside.iter().step_by((beside.len() / 200) | 1).cloned().collect();
    let compiler = &mut compiler;
    // A warm-up, which is not counted: the allocator puts the pieces of all that was freed till now together when it is next
    // asked for more, and what the compilation shared is copied where it is first changed. No event of a cluster that has
    // been there for a while pays for either.
    drop(std::hint::black_box(vec![0_u8; 1 << 20]));
    for it in chosen.iter().chain(&of_node) {
        event(compiler, Change::PodGone(it.name.clone()));
        event(compiler, Change::Pod(it.clone()));
    }
    let numbers: Vec<u32> = namespaces.iter().take(50).map(|it| it[3..].parse().unwrap()).collect();
    let slices = |skip| {
        let slice = move |it: &u32| serde_json::from_value(slice(*it, 3, size, skip)).unwrap();
        numbers.iter().map(slice).map(Change::EndpointSlice).collect::<Vec<_>>()
    };
    let teams = |more| {
        let namespace = move |it: &u32| Change::Namespace(namespace_with(*it, it % 10 + more));
        numbers.iter().map(namespace).collect::<Vec<_>>()
    };
    for change in [slices(1), slices(0), teams(1), teams(0)].into_iter().flatten() {
        event(compiler, change);
    }
    let gone =
        |pods: &[Pod]| -> Vec<Change> { pods.iter().map(|it| Change::PodGone(it.name.clone())).collect() };
    figures.push(events("pod gone", compiler, Some(5.0), gone(&chosen)));
    figures.push(events("pod with an address", compiler, Some(5.0), chosen.iter().cloned().map(Change::Pod)));
    let relabelled = chosen.iter().map(|it| {
        let labels =
            it.labels.iter().filter(|(key, _)| *key != "role").map(|(k, v)| (k.to_owned(), v.to_owned()));
        Change::Pod(Pod { labels: labels.collect(), ..it.clone() })
    });
    figures.push(events("pod with other labels", compiler, Some(5.0), relabelled));
    // Its egress is to a tenth of all pods, and to their Services.
    let is_broad = |it: &Pod| it.labels.get("app") == Some("app-6");
    let (broad, narrow): (Vec<Pod>, Vec<Pod>) = of_node.into_iter().take(100).partition(is_broad);
    figures.extend(come_and_go("pod of this node", compiler, Some(5.0), GROWTH, narrow));
    figures.push(events("endpoint not ready", compiler, None, slices(1)));
    let gone = numbers.iter().map(|it| Change::PolicyGone(ObjectName::new(format!("ns-{it}"), "policy-2")));
    figures.push(events("policy of a namespace gone", compiler, None, gone));
    figures.push(events("namespace with other labels", compiler, None, teams(1)));
    // At the end: what it makes and frees is as large as the cluster, and the next event would pay for the caches.
    let name = "pod of this node whose policy means a tenth of the cluster";
    figures.extend(come_and_go(name, compiler, Some(5.0), None, broad));
    figures
}

/// Each event's best of as many processes as make up for what else a machine does.
fn measured_apart(size: &Size) -> Vec<Figure> {
    let mut best = measured_once(size, true);
    for _ in 1..PROCESSES {
        let again = measured_once(size, false);
        best = best.into_iter().zip(&again).map(|(best, again)| best.best(again)).collect();
    }
    best.into_iter().flat_map(Series::figures).collect()
}

/// In a process of its own, so that memory, allocator and caches are this size's.
fn measured_once(size: &Size, with_remarks: bool) -> Vec<Series> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--size", &size.pods.to_string(), &size.nodes.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{size:?}: {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let (remarks, series): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    for it in remarks.iter().filter(|_| with_remarks) {
        println!("{it}");
    }
    series.iter().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// One line of the table that `make bench` ends with: name, ours, peer or limit, ratio, goal.
fn line(name: &str, unit: Unit, ours: f64, peer: Option<(f64, &str)>, goal: &str) {
    let (peer, ratio) = peer.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |(value, what)| (format!("{}{what}", unit.show(value)), format!("{:.3}", ours / value)),
    );
    println!("bench\t{name}\t{}\t{peer}\t{ratio}\t{goal}", unit.show(ours));
}

const PROCESSES: usize = 3;
/// Of what an event costs, in a cluster ten times as large.
const GROWTH: Option<f64> = Some(2.0);
const GOAL_SIZE: Size = Size { pods: 10_000, nodes: 100 };
/// A tenth; ten times as a cluster grows, with its nodes; ten times with as many pods on the node as it cannot hold.
const OTHERS: [Size; 3] =
    [Size { pods: 1000, nodes: 10 }, Size { pods: 100_000, nodes: 1000 }, Size { pods: 100_000, nodes: 100 }];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, pods, nodes] = arguments.as_slice()
        && flag == "--size"
    {
        for series in measure(&Size { pods: pods.parse().unwrap(), nodes: nodes.parse().unwrap() }) {
            println!("{}", serde_json::to_string(&series).unwrap());
        }
        return;
    }
    // `cargo test --benches` runs this too: a look at a small one is enough there.
    if !arguments.iter().any(|it| it == "--bench") {
        for it in measure(&OTHERS[0]).into_iter().flat_map(Series::figures) {
            line(&it.name, it.unit, it.value, None, "-");
        }
        return;
    }
    let base = measured_apart(&GOAL_SIZE);
    for it in &base {
        let goal = it.limit.map_or_else(
            || "-".to_owned(),
            |limit| format!("<= 1: {}", if it.value <= limit { "met" } else { "MISSED" }),
        );
        let limit = it.limit.map(|limit| (limit, " (limit)"));
        line(&format!("policy, 10000 pods: {}", it.name), it.unit, it.value, limit, &goal);
    }
    for size in &OTHERS {
        // How it grows: against the same figure at the size of the goal. With more nodes, too, what a node has to do with
        // stays the same.
        let is_tenfold = (size.pods, size.nodes) == (10 * GOAL_SIZE.pods, 10 * GOAL_SIZE.nodes);
        for (it, base) in measured_apart(size).iter().zip(&base) {
            let name = format!("policy, {} pods on {} nodes: {}", size.pods, size.nodes, it.name);
            let goal = it.growth.filter(|_| is_tenfold).map_or_else(
                || "-".to_owned(),
                |most| format!("<= {most}: {}", if it.value <= most * base.value { "met" } else { "MISSED" }),
            );
            line(&name, it.unit, it.value, Some((base.value, " (10000 pods)")), &goal);
        }
    }
}
