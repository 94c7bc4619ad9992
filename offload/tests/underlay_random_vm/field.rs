//! The stand with a session, hosts that probe, and the comparison of all that they see with the evaluator.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use offload::checker::Profile;
use offload::flower::Filters;
use offload::netlink::conntrack::Conntrack;
use offload::policy::PodPolicy;
use offload::session::{Report, Session};
use offload::tuple::L4;
use offload::underlay::{Program, plan};
use serde::{Deserialize, Serialize};

use crate::bench::Bench;
use crate::generate::{legend, smaller};
use crate::load::{DENIED_SOURCE, Denied, Path};
use crate::probes::{Difference, Hosts, Probe, SILENT_PORT};
use crate::stand::{Stand, address, route, zone};

pub const PODS: usize = 4;

/// A case that once was wrong: each set of policies in turn, one policy for each pod, all probes after each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    pub note: String,
    pub sets: Vec<Vec<PodPolicy>>,
}

/// Dropped in this order: what holds a network namespace before what ends it.
pub struct Field {
    pub hosts: Hosts,
    pub session: Session,
    pub conntrack: Conntrack,
    pub stand: Stand,
    _bench: Bench,
}

impl Field {
    pub fn new() -> Self {
        let mut bench = Bench::new();
        let stand = Stand::new(&mut bench, PODS);
        stand.introduce();
        let hosts = Hosts::new(PODS + 1);
        let session = Session::new(route(), Profile::MLX5);
        Self { hosts, session, conntrack: Conntrack::open().unwrap(), stand, _bench: bench }
    }

    pub fn sync(&mut self, policies: &[PodPolicy]) -> Report {
        self.session.sync(self.stand.program(policies)).unwrap()
    }

    /// Puts the policies in force. What the session, the plan and the hardware say must agree afterwards.
    pub fn install(&mut self, policies: &[PodPolicy]) -> (Report, Vec<Difference>) {
        let program = self.stand.program(policies);
        let report = self.session.sync(program.clone()).unwrap();
        let mut differences = Vec::new();
        let mut state = |text: String| differences.push(Difference::State(text));
        for refusal in &report.refusals {
            state(format!("refused: {refusal:?}"));
        }
        for mismatch in &report.mismatches {
            state(format!("the checker said otherwise: {mismatch:?}"));
        }
        let observed = self.session.observe().unwrap();
        let left = plan(&program, &observed);
        if !left.is_empty() {
            state(format!("a second plan has steps: {left:?}"));
        }
        // The NIC's own count, not what the kernel remembers of it.
        let (claimed, has) = (in_hardware(&observed), self.stand.counted().rules);
        if claimed as u64 != has {
            state(format!("{claimed} filters are said to be in hardware, where {has} are"));
        }
        (report, differences)
    }

    /// Where everything is allowed, begins the connections of traffic that will be denied. As nobody answers, they stay new,
    /// and the eSwitch, which knows them, asks the policy about each of their packets.
    pub fn prime(&mut self, paths: &[Path]) {
        self.sync(&vec![PodPolicy::default(); PODS]);
        for _ in 0..20 {
            let forbidden = Denied::start(paths);
            forbidden.finish();
            let known = |path: &Path| {
                let tuple = format!(
                    " {} {} {DENIED_SOURCE} {} ",
                    address(path.0, path.2),
                    address(path.1, path.2),
                    path.3
                );
                self.stand.connections(path.3).iter().any(|line| line.contains(&tuple))
            };
            if paths.iter().all(known) {
                return;
            }
        }
        panic!(
            "the eSwitch does not know them: {:?}",
            paths.iter().map(|path| self.stand.connections(path.3)).collect::<Vec<_>>()
        );
    }

    pub fn judge(&mut self, policies: &[PodPolicy], probes: &[Probe]) -> Vec<Difference> {
        let differences = self.hosts.judge(policies, probes);
        // Of the others none comes again.
        let mut entries = self.conntrack.entries(zone()).unwrap();
        entries.retain(|it| !matches!(it.orig.l4, L4::Ports { dst: SILENT_PORT, .. }));
        self.conntrack.delete(&entries).unwrap();
        differences
    }

    pub fn clear(&mut self) {
        self.session.sync(Program::default()).unwrap();
    }

    /// From nothing, each set in turn; of the last one the differences.
    pub fn replay(&mut self, sets: &[Vec<PodPolicy>], probes: &[Probe]) -> Vec<Difference> {
        self.clear();
        let mut differences = Vec::new();
        for set in sets {
            differences = self.install(set).1;
            differences.extend(self.judge(set, probes));
        }
        differences
    }

    /// The smallest case found in a minute that still shows a difference with one of these probes.
    pub fn shrink(&mut self, history: &[Vec<PodPolicy>], seen: &[Difference]) -> Fixture {
        let named = seen.iter().filter_map(|difference| match difference {
            Difference::Passed(probe) | Difference::Lost(probe) | Difference::Strayed(probe, _) => {
                Some(*probe)
            }
            Difference::Late(_) | Difference::State(_) => None,
        });
        let probes: Vec<Probe> = named.take(3).collect();
        let end = Instant::now() + Duration::from_mins(1);
        let last = history.len() - 1;
        let mut sets = history[last..].to_vec();
        let mut note = "as found".to_owned();
        if self.replay(&sets, &probes).is_empty() {
            sets = history.to_vec();
            if self.replay(&sets, &probes).is_empty() {
                "seen once, not again from nothing".clone_into(&mut note);
            }
        }
        let mut is_smaller = note == "as found";
        while std::mem::take(&mut is_smaller) {
            'sets: for at in 0..sets.len() {
                for simpler in smaller(&sets[at]) {
                    if Instant::now() > end {
                        break 'sets;
                    }
                    let mut candidate = sets.clone();
                    candidate[at] = simpler;
                    if !self.replay(&candidate, &probes).is_empty() {
                        sets = candidate;
                        is_smaller = true;
                        break 'sets;
                    }
                }
            }
        }
        let hosts = legend(PODS + 1);
        Fixture { note: format!("{note}: {seen:?}; hosts {hosts:?}"), sets }
    }
}

pub fn in_hardware(filters: &Filters) -> usize {
    let chains = filters.values().flat_map(|it| it.chains.values());
    chains.flat_map(|it| it.values()).flatten().filter(|filter| filter.in_hw).count()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/policy")
}

pub fn fixtures() -> Vec<(PathBuf, Fixture)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory()).unwrap().map(|it| it.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let fixture =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, fixture)
    };
    paths.into_iter().map(read).collect()
}

/// Where the VM can write, and what to do with it.
pub fn keep(fixture: &Fixture, name: &str) -> String {
    let text = serde_json::to_string_pretty(fixture).unwrap();
    let share = PathBuf::from("/share");
    let place = if share.is_dir() { share } else { std::env::temp_dir() };
    let path = place.join(format!("{name}.json"));
    fs::write(&path, &text).unwrap();
    println!("{text}");
    format!(
        "kept as {} in the VM (/share is `lab share`): its place is {}",
        path.display(),
        directory().display()
    )
}
