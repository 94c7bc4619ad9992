//! The agents' file of policies: switched on, written, and in force.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::nic::{NICS, Nic};
use crate::{frame, patience, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// As the VM sees it.
fn file(nic: Nic, name: &str) -> String {
    format!("/run/lab/root/{}/etc/nic-agent/{name}", nic.place())
}

fn digest(text: &[u8]) -> String {
    frame::hex(ring::digest::digest(&ring::digest::SHA256, text).as_ref())
}

/// What the agent shows at `/policy`.
pub fn policy_of(nic: Nic) -> Result<Value, String> {
    let said = nic.ask("/policy")?;
    serde_json::from_str(&said).map_err(|e| format!("{nic:?} /policy: {e}: {said}"))
}

/// Returns when the datapath's flows, and so the eSwitch's, follow the OpenFlow tables as they are at the call.
///
/// A round of the revalidators looks at flows anew only if `reval_seq` has moved before the round began. OVS's main loop
/// runs `type_run`, which moves it, then `ofproto_run`, which changes the tables, then `unixctl_server_run`, which answers.
/// So the first answer may be older than the move. A *new* connection is accepted in a later turn of the loop only: when
/// something is answered on it, `type_run` has run since, and the move is made. A round that is under way then may have
/// begun before; the one after it has not.
#[track_caller]
pub fn revalidated(nic: Nic) {
    for method in ["version", "version", "revalidator/wait", "revalidator/wait"] {
        ask_ovs(nic, method);
    }
}

/// One command to `ovs-vswitchd`, on a connection of its own.
#[track_caller]
fn ask_ovs(nic: Nic, method: &str) {
    let run = format!("/run/{}", nic.place());
    let pid = std::fs::read_to_string(format!("{run}/ovs-vswitchd.pid")).expect("OVS runs");
    let mut stream =
        UnixStream::connect(format!("{run}/ovs-vswitchd.{}.ctl", pid.trim())).expect("OVS's socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    write!(stream, "{}", json!({"id": 0, "method": method, "params": []})).expect("OVS listens");
    let answer: Value = serde_json::Deserializer::from_reader(stream)
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{nic:?}: no answer to {method}"))
        .unwrap_or_else(|e| panic!("{nic:?}: {method}: {e}"));
    assert!(answer["error"].is_null(), "{method}: {answer}");
}

fn for_both(work: impl Fn(Nic) + Sync) {
    std::thread::scope(|scope| {
        for nic in NICS {
            let work = &work;
            scope.spawn(move || work(nic));
        }
    });
}

/// Both agents; when dropped they are without policies again, as every other test expects them.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// Configurations to put back.
    before: Vec<(Nic, String)>,
    digest: String,
}

impl Agents {
    /// The agents' configuration names the file, and they start anew.
    pub(super) fn switch_on(&mut self, items: &[Value]) {
        self.write(items);
        for nic in NICS {
            let path = file(nic, "nic-agent.toml");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            assert!(!text.contains("[policy]"), "{path} has policies already: {text}");
            let with = format!("{text}\n[policy]\nfile = \"/etc/nic-agent/policy.json\"\n");
            std::fs::write(&path, with).expect("the agent's configuration");
            self.before.push((nic, text));
        }
        for_both(|nic| {
            nic.daemon("agent", "restart");
            nic.settle();
        });
        self.wait();
    }

    fn write(&mut self, items: &[Value]) {
        let text = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        self.digest = digest(text.as_bytes());
        for nic in NICS {
            let path = file(nic, "policy.json");
            std::fs::write(format!("{path}.new"), &text).expect("policies");
            std::fs::rename(format!("{path}.new"), &path).expect("policies");
        }
    }

    /// Both agents read these, their tables follow, and the datapath follows these.
    pub(super) fn enforce(&mut self, items: &[Value]) {
        self.announce(items);
        self.wait();
    }

    /// Both agents are told to read these, and no more.
    pub(super) fn announce(&mut self, items: &[Value]) {
        self.write(items);
        for nic in NICS {
            kill(nic.pid("agent"), Signal::SIGHUP).expect("the agent runs");
        }
    }

    /// By uid, what this NIC's agent says of its pods under the newest policies: `None` is settled, else why not.
    pub(super) fn unsettled(&self, nic: Nic) -> Result<BTreeMap<String, Option<String>>, String> {
        let policy = policy_of(nic)?;
        if policy["source"] != self.digest {
            return Err(format!(
                "{nic:?}: the newest policies are not in the tables, but {}",
                policy["source"]
            ));
        }
        let pods = policy["pods"].as_array().ok_or_else(|| policy.to_string())?;
        let of = |pod: &Value| {
            let is_settled = pod["settled"] == true && pod.get("closed").is_none();
            let why = [&pod["closed"], &pod["unsettled"]].into_iter().find(|it| !it.is_null());
            let why = || why.map_or_else(|| "no reason is given".to_owned(), Value::to_string);
            Some((pod["uid"].as_str()?.to_owned(), (!is_settled).then(why)))
        };
        Ok(pods.iter().filter_map(of).collect())
    }

    fn wait(&self) {
        for_both(|nic| {
            until(&format!("{nic:?} follows {}", self.digest), PATIENCE, || {
                let policy = policy_of(nic)?;
                if policy["source"] == self.digest { Ok(()) } else { Err(policy.to_string()) }
            });
            revalidated(nic);
        });
    }

    pub(super) fn settle(&self, uids: &[&str]) {
        for_both(|nic| {
            until(&format!("{nic:?} has cut what it denies"), PATIENCE, || {
                let policy = policy_of(nic)?;
                let pods = policy["pods"].as_array().cloned().unwrap_or_default();
                let ours: Vec<&Value> = pods
                    .iter()
                    .filter(|it| it["uid"].as_str().is_some_and(|uid| uids.contains(&uid)))
                    .collect();
                let is_done = !ours.is_empty()
                    && ours.iter().all(|it| it["settled"] == true && it.get("closed").is_none());
                if policy["source"] == self.digest && is_done { Ok(()) } else { Err(policy.to_string()) }
            });
        });
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for (nic, text) in self.before.drain(..) {
            // In a test that fails there may be no agent to restart; its own message counts.
            let _ = std::fs::write(file(nic, "nic-agent.toml"), text);
            let _ = std::fs::remove_file(file(nic, "policy.json"));
            crate::vm(&["/lab/daemon", &nic.place(), "agent", "restart"]);
            let end = Instant::now() + patience(PATIENCE);
            while nic.ready().is_err() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}
