//! Who goes on reaching the database, and who never does.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tests::cluster::KubePod;
use tests::{netns, patience};

use crate::herald::{By, ask};
use crate::scene::Scene;

const EVERY: Duration = Duration::from_millis(400);
/// Of a connection that should not be there.
const SHORT: Duration = Duration::from_millis(1500);

#[derive(Default)]
struct Count {
    tried: usize,
    wrong: Vec<String>,
}

struct Watcher {
    may: bool,
    thread: JoinHandle<Count>,
}

pub struct Watchers {
    stop: Arc<AtomicBool>,
    all: Vec<Watcher>,
}

/// What they saw: nothing was wrong.
pub struct Seen {
    allowed: usize,
    denied: usize,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections of those who may, all answered by the database; {} tries of those who may not, \
             none answered",
            self.allowed, self.denied
        )
    }
}

fn watch(pod: &KubePod, targets: Vec<SocketAddr>, may: bool, stop: &Arc<AtomicBool>) -> Watcher {
    let (name, stopped) = (pod.name.clone(), Arc::clone(stop));
    let thread = netns::spawn(&pod.place(), move || {
        let mut count = Count::default();
        for to in targets.iter().cycle() {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let wrong = if may { allowed(*to) } else { denied(*to) };
            count.wrong.extend(wrong.map(|why| format!("{name} to {to}: {why}")));
            count.tried += 1;
            std::thread::sleep(EVERY);
        }
        count
    });
    Watcher { may, thread }
}

fn allowed(to: SocketAddr) -> Option<String> {
    match ask(to, By::Tcp) {
        Ok(who) if who == "db" => None,
        Ok(who) => Some(format!("{who} answered")),
        Err(e) => Some(e.to_string()),
    }
}

fn denied(to: SocketAddr) -> Option<String> {
    TcpStream::connect_timeout(&to, patience(SHORT)).ok().map(|_| "connected".to_owned())
}

impl Watchers {
    pub fn start(scene: &Scene) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut all = Vec::new();
        for name in ["api", "own"] {
            all.push(watch(scene.pod(name), scene.targets(), true, &stop));
        }
        // Each try takes its time: one after the other, a hole could be there between two.
        for name in ["x", "z"] {
            let each = scene.targets().into_iter();
            all.extend(each.map(|to| watch(scene.pod(name), vec![to], false, &stop)));
        }
        Self { stop, all }
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let (mut seen, mut wrong) = (Seen { allowed: 0, denied: 0 }, Vec::new());
        for watcher in self.all {
            let count = watcher.thread.join().expect("the watcher");
            assert!(count.tried > 0, "nobody looked");
            if watcher.may {
                seen.allowed += count.tried;
            } else {
                seen.denied += count.tried;
            }
            wrong.extend(count.wrong);
        }
        assert_eq!(wrong, Vec::<String>::new());
        seen
    }
}
