//! A pod has as many connections as it may, and begins as many in a second, however many it tries through one flow of the
//! datapath; its neighbours do not notice. Seen with `ovs-ofctl`, `ovs-appctl`, `conntrack` and `tcpdump`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::nic::Nic;
use tests::policy_lab::policy_of;
use tests::traffic::{Beginning, Beginnings, Begins, Client, Echo, End};
use tests::{Capture, Pod, Wish, netns, until};

const FILE: &str = "/etc/nic-agent/nic-agent.toml";
const NIC: Nic = Nic(1);
const LIMIT: usize = 300;
/// In a second.
const RATE: usize = 60;
/// The least that may be configured, and less than any machine begins.
const SLOWEST: usize = 10;
/// From the connection that fills the zone to the tables that say so: one look, one pass, on a slow machine.
const REACTION: usize = 10;
/// Connections that are begun: each by one datagram, all to one port.
const BEGUN: u64 = 3000;
const PATIENCE: Duration = Duration::from_mins(1);
const FLOODED: u16 = 4000;
const SERVED: u16 = 4001;

fn configure(edit: &str) {
    let pid = NIC.daemon("agent", "pid");
    NIC.run(&["sh", "-c", &format!("{edit}; kill -HUP {pid}")]).ok();
}

/// Puts the file back as it was, whatever became of the test.
struct Limited;

impl Limited {
    fn start() -> Self {
        NIC.run(&["cp", FILE, "/tmp/unlimited.toml"]).ok();
        configure(&format!(
            "sed -i 's/^\\[edge\\]$/&\\npod-connections = {LIMIT}\\npod-connection-rate = {RATE}/' {FILE}"
        ));
        Self
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        configure(&format!("cp /tmp/unlimited.toml {FILE}"));
    }
}

/// As it stands in the ledger.
fn attachment(pod: &Pod) -> Value {
    let ledger = pod.nic().ledger();
    let uid = format!("\"{}\"", pod.uid);
    let mut all = ledger["attachments"].as_array().unwrap().iter();
    all.find(|it| it.to_string().contains(&uid)).unwrap().clone()
}

fn zone(pod: &Pod) -> u64 {
    attachment(pod)["zone"].as_u64().unwrap()
}

/// Rates of the meters of `br-edge`, with what they dropped, by the ports that they are for.
fn meters(nic: Nic) -> BTreeMap<u32, (usize, u64)> {
    let ask = |what| nic.run(&["ovs-ofctl", "-O", "OpenFlow15", what, "br-edge"]).ok();
    let (rates, counts) = (ask("dump-meters"), ask("meter-stats"));
    let number = |text: &str, name: &str| -> Option<u64> {
        text.split([' ', ':', ',', '\n']).skip_while(|it| *it != name).nth(1)?.parse().ok()
    };
    let of = |text: &str, name: &str| -> BTreeMap<u32, u64> {
        let blocks = text.split("meter=").flat_map(|it| it.split("meter:")).skip(1);
        blocks
            .filter_map(|it| {
                let id = it.split([' ', '\n']).next()?.parse().ok()?;
                let tail = it.replace('=', " ");
                Some((id, number(&tail, name)?))
            })
            .collect()
    };
    let dropped = of(&counts, "packet_count");
    of(&rates, "rate")
        .into_iter()
        .map(|(id, rate)| (id, (usize::try_from(rate).unwrap(), dropped.get(&id).copied().unwrap_or(0))))
        .collect()
}

/// The number of the representor's port on `br-edge`, which is its meter's.
fn port(pod: &Pod) -> u32 {
    let name = format!("pf0vf{}", attachment(pod)["claim"]["vf"]["vf"]);
    pod.nic().vsctl(&["get", "Interface", &name, "ofport"]).trim().parse().unwrap()
}

fn is_limited_to(pod: &Pod, wanted: usize) {
    let port = port(pod);
    until(&format!("{}: {wanted} connections a second", pod.ip), PATIENCE, || {
        let meters = meters(pod.nic());
        if meters.get(&port).is_some_and(|it| it.0 == wanted) {
            Ok(())
        } else {
            Err(format!("{port}: {meters:?}"))
        }
    });
}

/// Entries of the zone, by conntrack-tools.
fn listed(nic: Nic, zone: u64) -> usize {
    let list = nic.run(&["conntrack", "-L", "-w", &zone.to_string()]).ok();
    list.lines().filter(|line| line.contains(&format!("zone={zone}"))).count()
}

fn end(pod: &Pod) -> End {
    End { mac: pod.mac.clone(), ip: pod.ip.parse().unwrap() }
}

/// A new connection that is answered.
fn reaches(from: &Pod, to: &Pod, port: u16) -> bool {
    let (address, place) = (to.ip.clone(), from.place());
    netns::within(&place, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((address.as_str(), port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        (0..5).any(|_| socket.send(b"x").is_ok() && socket.recv(&mut [0; 8]).is_ok())
    })
}

/// Flows of the datapath that commit connections of this zone, and how many packets met them.
fn committing(zone: u64) -> Vec<(String, u64)> {
    let said = NIC.run(&["ovs-appctl", "dpctl/dump-flows", "-m"]).ok();
    let commits = format!("ct(commit,zone={zone},");
    let lines = said.lines().filter(|it| it.contains(&commits) && it.contains("eth_type(0x0800)"));
    let packets =
        |line: &str| line.split(", ").find_map(|it| it.strip_prefix("packets:")).unwrap().parse().unwrap();
    lines.map(|line| (line.to_owned(), packets(line))).collect()
}

/// What `/policy` says of its connections.
fn said(pod: &Pod) -> Result<Value, String> {
    let said = policy_of(pod.nic())?;
    let of = said["pods"].as_array().unwrap().iter().find(|it| it["uid"] == pod.uid.as_str());
    Ok(of.ok_or("not known")?["connections"].clone())
}

/// With room for all, and a rate that any machine exceeds.
fn refused_by_rate(flooding: &Pod, far: &Pod) {
    let port = port(flooding);
    configure(&format!(
        "sed -i 's/^pod-connections = .*/pod-connections = 60000/; s/^pod-connection-rate = .*/pod-connection-rate = {SLOWEST}/' {FILE}"
    ));
    is_limited_to(flooding, SLOWEST);
    let list = vec![Beginning::new(Begins::Udp(FLOODED), &end(flooding), &end(far))];
    let flood = Beginnings::start(&flooding.place(), list, Some(Duration::from_millis(2)));
    until("the meter drops some", PATIENCE, || {
        let meters = meters(NIC);
        if meters[&port].1 > 0 { Ok(()) } else { Err(format!("{port}: {meters:?}, sent {}", flood.sent())) }
    });
    flood.stop();
    let dropped = meters(NIC)[&port].1;
    println!("at {SLOWEST} a second {dropped} were too many");
    until("the agent tells what the rate refused", PATIENCE, || {
        let said = said(flooding)?;
        if said["refusedByRate"].as_u64() >= Some(dropped) {
            Ok(())
        } else {
            Err(format!("{said}, not {dropped}"))
        }
    });
}

#[test]
fn thousands_through_one_flow_are_as_many_as_the_limit() {
    let limited = Limited::start();
    let pod = |name: &'static str, host: &'static str, vf| Pod::add(&Wish { name, host, vf, options: &[] });
    let (flooding, neighbour) = (pod("flooding", "host1", 24), pod("neighbour", "host1", 25));
    let far = pod("far", "host2", 24);
    is_limited_to(&flooding, RATE);
    is_limited_to(&neighbour, RATE);
    // The other NIC has its own configuration: the default.
    is_limited_to(&far, 4000);
    let (zone, port) = (zone(&flooding), port(&flooding));
    let _echo = Echo::start(&far, SERVED);
    // Takes what arrives, and never answers: connections of one direction, until they are forgotten.
    let _silent = netns::within(&far.place(), || UdpSocket::bind(("0.0.0.0", FLOODED)).unwrap());
    let standing = Client::start(&flooding, &far.ip, SERVED, Duration::from_millis(200));
    until("a connection of the pod stands", PATIENCE, || {
        if standing.answered() > 5 { Ok(()) } else { Err(standing.answered().to_string()) }
    });

    let capture = Capture::start(&far.place(), "eth0", &format!("udp dst port {FLOODED}"));
    let list = vec![Beginning::new(Begins::Udp(FLOODED), &end(&flooding), &end(&far))];
    let began = Instant::now();
    let flood = Beginnings::start(&flooding.place(), list, Some(Duration::from_millis(2)));
    // The flows that commit are TC's: else those of OVN behind them would cost an upcall each.
    until("packets meet a flow that commits, and TC has it", PATIENCE, || {
        let flows = committing(zone);
        let met: u64 = flows.iter().map(|(_, packets)| packets).sum();
        let are_tcs = flows.iter().all(|(flow, _)| flow.contains("dp:tc") && flow.contains("meter("));
        if are_tcs && met > 0 { Ok(()) } else { Err(format!("{met} packets met {flows:#?}")) }
    });
    until("the pod is full", PATIENCE, || {
        let said = said(&flooding)?;
        if said["limited"] == true && said["limit"] == LIMIT { Ok(()) } else { Err(said.to_string()) }
    });
    until("many connections are begun", PATIENCE * 3, || {
        if flood.sent() >= BEGUN { Ok(()) } else { Err(flood.sent().to_string()) }
    });
    let there = listed(NIC, zone);
    let most = LIMIT + RATE * REACTION;
    println!("full after {:.1?}: conntrack has {there}, at most {most}", began.elapsed());
    assert!(there <= most && there > LIMIT / 2, "conntrack has {there}, not at most {most}");
    // What stands goes on, and neighbours begin what they like.
    let before = standing.answered();
    for _ in 0..10 {
        assert!(reaches(&neighbour, &far, SERVED), "the neighbour's new connections");
    }
    until("what stood before goes on", PATIENCE, || {
        if standing.answered() > before + 3 { Ok(()) } else { Err(standing.answered().to_string()) }
    });
    assert_eq!(said(&neighbour).unwrap()["limited"], false);
    assert!(NIC.metric("drawbridge_nic_agent_limited_pods") > 0.0);
    let (sent, lasted) = (flood.stop(), began.elapsed());
    let ports: BTreeSet<String> = capture
        .stop()
        .iter()
        .filter_map(|line| {
            let source = format!("{}.", flooding.ip);
            line.split_whitespace().find(|it| it.starts_with(&source)).map(str::to_owned)
        })
        .collect();
    let dropped = meters(NIC)[&port].1;
    println!("{sent} begun in {lasted:.1?}, {} arrived, {dropped} were too many for a second", ports.len());
    // A second's worth at once, then that much each second; and never more than there is room for.
    let by_rate = RATE * (usize::try_from(lasted.as_secs()).unwrap() + 2);
    assert!(ports.len() <= by_rate && ports.len() > LIMIT / 4, "{} arrived, {by_rate} may", ports.len());
    // On a slow machine a pod is full before it has begun more in a second than it may; then the meter has seen nothing.
    refused_by_rate(&flooding, &far);
    standing.stop();

    // A larger limit is in force at once, for pods that are there.
    drop(limited);
    is_limited_to(&flooding, 4000);
    until("new connections pass again", PATIENCE, || {
        if reaches(&flooding, &far, SERVED) { Ok(()) } else { Err("not answered".to_owned()) }
    });
    // A pod that is gone has no meter.
    flooding.delete();
    until("the meter goes with the pod", PATIENCE, || {
        let meters = meters(NIC);
        if meters.contains_key(&port) { Err(format!("{meters:?}")) } else { Ok(()) }
    });
}
