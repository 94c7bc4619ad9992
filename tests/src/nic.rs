//! A NIC of the lab, seen through OVS's and the kernel's own tools.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::unistd::Pid;
use serde_json::Value;

use crate::command::{Output, daemon, place, sh};
use crate::netns;
use crate::patience::patience;
use crate::wait::until;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nic(pub u8);

pub const NICS: [Nic; 2] = [Nic(1), Nic(2)];

impl Nic {
    pub fn place(self) -> String {
        format!("nic{}", self.0)
    }

    pub fn run(self, arguments: &[&str]) -> Output {
        place(&self.place(), arguments)
    }

    #[track_caller]
    pub fn vsctl(self, arguments: &[&str]) -> String {
        let mut all = vec!["ovs-vsctl", "--timeout=10"];
        all.extend(arguments);
        self.run(&all).ok()
    }

    pub fn daemon(self, name: &str, verb: &str) -> String {
        daemon(&self.place(), name, verb)
    }

    /// Of a daemon, by what supervises it.
    #[track_caller]
    pub fn pid(self, daemon: &str) -> Pid {
        let path = format!("/run/lab/sv/{}.{daemon}/supervise/pid", self.place());
        let pid = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Pid::from_raw(pid.trim().parse().unwrap_or_else(|e| panic!("{path}: {pid:?}: {e}")))
    }

    /// The flows of `br-edge`, without counters, sorted.
    #[track_caller]
    pub fn flows(self) -> BTreeSet<String> {
        self.run(&["ovs-ofctl", "-O", "OpenFlow15", "--no-stats", "--no-names", "dump-flows", "br-edge"])
            .ok()
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| line.contains("actions="))
            .collect()
    }

    /// Ports of all bridges: bridge -> ports.
    #[track_caller]
    pub fn ports(self) -> BTreeMap<String, BTreeSet<String>> {
        self.vsctl(&["list-br"])
            .lines()
            .map(|bridge| {
                let ports = self.vsctl(&["list-ports", bridge]).lines().map(str::to_owned).collect();
                (bridge.to_owned(), ports)
            })
            .collect()
    }

    /// name -> is it up, of the representors of the server's functions.
    #[track_caller]
    pub fn representors(self) -> BTreeMap<String, bool> {
        let links: Value = serde_json::from_str(&self.run(&["ip", "-j", "-d", "link"]).ok()).expect("ip -j");
        links
            .as_array()
            .expect("a list")
            .iter()
            .filter(|link| link["phys_port_name"].as_str().is_some_and(|name| name.contains("pf")))
            .map(|link| {
                let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == "UP"));
                (link["ifname"].as_str().expect("ifname").to_owned(), up)
            })
            .collect()
    }

    /// The ledger as it stands on disk.
    #[track_caller]
    pub fn ledger(self) -> Value {
        // Written with the first attachment.
        let text = sh(&self.place(), "cd /var/lib/nic-agent; [ ! -e ledger.json ] || cat ledger.json").ok();
        if text.is_empty() {
            return serde_json::json!({"attachments": []});
        }
        serde_json::from_str(&text).expect("the ledger is JSON")
    }

    /// What the agent answers to `GET` on its own listener. Asked often, and under emulation starting a program takes
    /// longer than the answer.
    pub fn ask(self, path: &str) -> Result<String, String> {
        let fetch = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)))?;
            stream.set_read_timeout(Some(patience(Duration::from_secs(10))))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = netns::within(&self.place(), fetch).map_err(|e| format!("{self:?} {path}: {e}"))?;
        let text = String::from_utf8_lossy(&answer);
        let (_, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{self:?} {path}: {text}"))?;
        Ok(body.to_owned())
    }

    /// `Err` is what is missing.
    pub fn ready(self) -> Result<(), String> {
        let said = self.ask("/readyz")?;
        if said.starts_with("ready") { Ok(()) } else { Err(said) }
    }

    #[track_caller]
    pub fn metrics(self) -> String {
        self.ask("/metrics").unwrap_or_else(|e| panic!("{e}"))
    }

    /// A value of `/metrics`: of one series, if `name` has its labels, else summed over them.
    #[track_caller]
    pub fn metric(self, name: &str) -> f64 {
        self.metrics()
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| {
                series.strip_prefix(name).is_some_and(|it| it.is_empty() || it.starts_with('{'))
            })
            .filter_map(|(_, value)| value.parse::<f64>().ok())
            .sum()
    }

    /// Ready, and a whole pass has found nothing to change.
    #[track_caller]
    pub fn settle(self) {
        until(&format!("{self:?} settles"), Duration::from_mins(1), || {
            self.ready()?;
            match self.metric("drawbridge_nic_agent_pending_steps") {
                steps if steps > 0.0 => Err(format!("{steps} steps in the last pass")),
                _ => Ok(()),
            }
        });
    }
}
