//! A wrong key stops the start with a message that names key, value and remedy; a running agent keeps the last good file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use tests::command::sh;
use tests::{Nic, Pod, Wish, until};

const FILE: &str = "/etc/nic-agent/nic-agent.toml";

#[test]
fn each_wrong_key_stops_the_start_and_says_why() {
    let nic = Nic(1);
    let good = nic.run(&["cat", FILE]).ok();
    // Section, key, wrong value. The unit tests do this for every key there is; here the real binary shows its exit code.
    for (section, key, value) in [
        ("node", "name", "\"Not A Name\""),
        ("node", "hots-identity", "\"x\""),
        ("chassis", "ovn-remote", "\"http://10.0.0.1\""),
        ("chassis", "ovn-encap-ip", "\"10.0.0.999\""),
        ("chassis", "ct-zone-range", "\"9-1\""),
        ("edge", "ct-zones", "\"100-200\""),
        ("edge", "mtu", "70000"),
        ("server", "listen", "[\"nowhere\"]"),
        ("profile", "kind", "\"cilium\""),
        ("log", "format", "\"xml\""),
    ] {
        let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
        let header = format!("[{section}]");
        match lines.iter().position(|line| *line == header) {
            Some(at) => {
                if let Some(old) = lines
                    .iter()
                    .skip(at + 1)
                    .take_while(|l| !l.starts_with('['))
                    .position(|l| l.split('=').next().is_some_and(|k| k.trim() == key))
                {
                    lines.remove(at + 1 + old);
                }
                lines.insert(at + 1, format!("{key} = {value}"));
            }
            None => lines.extend([header, format!("{key} = {value}")]),
        }
        let bad = lines.join("\n");
        nic.run(&["sh", "-c", &format!("cat >/tmp/bad.toml <<'TOML'\n{bad}\nTOML")]).ok();
        for arguments in ["--check", ""] {
            let started =
                sh("nic1", &format!("timeout 10 /run/lab/bin/nic-agent --config /tmp/bad.toml {arguments}"));
            assert_eq!(started.code, Some(78), "{section}.{key}: {started:?}");
            let shown = value.trim_matches(['"', '[', ']']);
            assert!(started.stderr.contains(&format!("{section}.{key}")), "names the key: {started:?}");
            assert!(key == "hots-identity" || started.stderr.contains(shown), "names the value: {started:?}");
        }
    }
}

#[test]
fn a_running_agent_keeps_the_last_good_file() {
    let nic = Nic(1);
    let pod = Pod::add(&Wish { name: "cfg", host: "host1", vf: 15, options: &[] });
    nic.settle();
    let (flows, ports) = (nic.flows(), nic.ports());
    let rejected = nic.metric("drawbridge_nic_agent_config_rejected_total");
    let pid = nic.daemon("agent", "pid");
    nic.run(&["cp", FILE, "/tmp/good.toml"]).ok();
    nic.run(&["sh", "-c", &format!("echo 'nonsense = 1' >>{FILE}; kill -HUP {pid}")]).ok();
    until("the file is refused", Duration::from_secs(30), || {
        let now = nic.metric("drawbridge_nic_agent_config_rejected_total");
        if now > rejected { Ok(()) } else { Err(format!("{now}")) }
    });
    assert_eq!(nic.daemon("agent", "pid"), pid, "it runs on");
    assert_eq!((nic.flows(), nic.ports()), (flows, ports));
    assert!(pod.pings("10.244.0.1"));
    nic.run(&["cp", "/tmp/good.toml", FILE]).ok();

    // A good change is taken over without a restart: the pods' MTU.
    nic.run(&["sh", "-c", &format!("sed -i 's/^mtu = .*/mtu = 1300/' {FILE}; kill -HUP {pid}")]).ok();
    until("the representor's MTU follows", Duration::from_secs(30), || {
        let mtu = nic.run(&["cat", "/sys/class/net/pf0vf15/mtu"]).ok();
        if mtu.trim() == "1300" { Ok(()) } else { Err(mtu) }
    });
    nic.run(&["sh", "-c", &format!("cp /tmp/good.toml {FILE}; kill -HUP {pid}")]).ok();
    nic.settle();
}
