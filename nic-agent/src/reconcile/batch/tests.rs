use std::path::Path;

use offload::ids::{CtZone, VfId};

use super::*;
use crate::attachment::{OverlayPort, Port};
use crate::claim::PodRef;
use crate::config::ZoneRange;
use crate::durable::SystemDisk;
use crate::reconcile::intake::{self, Hold};

fn claim(sandbox: &str, pod: u16) -> Claim {
    Claim {
        key: SandboxKey { sandbox: sandbox.into(), interface: "eth0".into() },
        pod: PodRef { namespace: "default".into(), name: format!("web-{pod}"), uid: format!("u{pod}") },
        network: "drawbridge".into(),
        pci_address: String::new(),
        vf: VfId { pf: 0, vf: pod },
    }
}

/// Believes all; a pod's new sandbox supersedes its old one.
fn admit(claim: &Claim, ledger: &Ledger) -> Result<Admission, Refusal> {
    if ledger.of_sandbox(&claim.key).is_some() {
        return Ok(Admission::Known);
    }
    let zone = |it: u16| CtZone::new(it).unwrap();
    let zone = ledger
        .free_zone(ZoneRange::new(zone(61000), zone(61009)).unwrap())
        .ok_or(Refusal::NoZone { size: 10 })?;
    let attachment = Attachment::of_claim(
        claim,
        Port::Overlay(OverlayPort {
            zone,
            zone_dirty: true,
            logical_port: claim.pod.to_string(),
            binding: None,
        }),
    );
    let of_pod = ledger.pods().filter(|(_, it)| it.pod == claim.pod);
    let supersedes = of_pod.map(|(_, it)| it.key.clone()).collect();
    Ok(Admission::New { attachment: Box::new(attachment), supersedes })
}

struct Bench {
    ledger: Ledger,
    tickets: Tickets,
    writes: usize,
}

type Answer = oneshot::Receiver<Result<Ticket, Refusal>>;

fn attach(claim: Claim) -> (Command, Answer) {
    let (reply, answer) = oneshot::channel();
    (Command::Attach { claim, reply }, answer)
}

fn detach(claim: &Claim) -> (Command, oneshot::Receiver<Result<bool, Refusal>>) {
    let (reply, answer) = oneshot::channel();
    (Command::Detach { key: claim.key.clone(), reply }, answer)
}

impl Bench {
    fn new() -> Self {
        let (_, intake) = intake::channel();
        Self { ledger: Ledger::default(), tickets: intake.tickets([].into()), writes: 0 }
    }

    fn settle(&mut self, commands: Vec<Command>, disk_is_full: bool) -> Settled {
        let writes = &mut self.writes;
        let save = |ledger: &mut Ledger| {
            *writes += 1;
            // A folder that is not there.
            if disk_is_full { ledger.save(&SystemDisk, Path::new("/proc/none/ledger.json")) } else { Ok(()) }
        };
        settle(commands, 7, &mut self.ledger, &mut self.tickets, admit, save)
    }

    /// Attached, and ready.
    fn put(&mut self, claim: &Claim) -> std::sync::Arc<Hold> {
        let (command, mut answer) = attach(claim.clone());
        self.settle(vec![command], false);
        self.tickets.set_ready(&claim.key.clone().into());
        answer.try_recv().unwrap().unwrap().hold
    }

    fn sandboxes(&self) -> Vec<&str> {
        self.ledger.pods().map(|(_, it)| it.key.sandbox.as_str()).collect()
    }
}

#[test]
fn many_requests_are_one_write() {
    let mut bench = Bench::new();
    let (commands, mut answers): (Vec<_>, Vec<_>) =
        (0..5).map(|it| attach(claim(&format!("s{it}"), it))).collect();
    let settled = bench.settle(commands, false);
    assert_eq!((settled.believed.len(), bench.writes), (5, 1));
    for answer in &mut answers {
        assert_eq!(answer.try_recv().unwrap().unwrap().passes, 7);
    }
    // Their tickets are gone by now.
    let settled = bench.settle(Vec::new(), false);
    assert!(settled.left.iter().all(|(_, why)| *why == Left::GivenUp));
    assert_eq!((settled.left.len(), bench.writes), (5, 2));
    bench.settle(Vec::new(), false);
    assert_eq!(bench.writes, 2, "nothing to write");
}

#[test]
fn that_one_is_over_which_never_was_is_on_the_disk_once() {
    let mut bench = Bench::new();
    let (commands, _answers): (Vec<_>, Vec<_>) =
        (0..3).map(|it| detach(&claim(&format!("s{it}"), it))).collect();
    bench.settle(commands, false);
    assert_eq!(bench.writes, 1);
    assert!(bench.ledger.is_detached(&claim("s2", 2).key));
    let (again, _answer) = detach(&claim("s1", 1));
    bench.settle(vec![again], false);
    assert_eq!(bench.writes, 1, "it is there");
}

/// A crash in between must not leave one who was told that it is there.
#[test]
fn nobody_is_answered_before_the_ledger_is_on_the_disk() {
    let mut bench = Bench::new();
    let (command, mut answer) = attach(claim("s1", 1));
    let save = |ledger: &mut Ledger| {
        assert!(ledger.of_sandbox(&claim("s1", 1).key).is_some());
        assert!(answer.try_recv().is_err(), "not yet");
        Ok(())
    };
    settle(vec![command], 7, &mut bench.ledger, &mut bench.tickets, admit, save);
    assert!(answer.try_recv().unwrap().is_ok());
}

#[test]
fn a_caller_that_does_not_hear_its_answer_leaves_nothing() {
    let mut bench = Bench::new();
    let (command, answer) = attach(claim("s1", 1));
    drop(answer);
    bench.settle(vec![command], false);
    bench.settle(Vec::new(), false);
    assert_eq!(bench.sandboxes(), [""; 0]);
    // Nor is what was ready before taken back by one that asks again and goes.
    drop(bench.put(&claim("s2", 2)));
    let (command, answer) = attach(claim("s2", 2));
    drop(answer);
    bench.settle(vec![command], false);
    bench.settle(Vec::new(), false);
    assert_eq!(bench.sandboxes(), ["s2"]);
}

#[test]
fn who_gave_up_may_ask_again_in_the_same_batch() {
    let mut bench = Bench::new();
    let (command, answer) = attach(claim("s1", 1));
    bench.settle(vec![command], false);
    drop(answer);
    let (command, mut answer) = attach(claim("s1", 1));
    let settled = bench.settle(vec![command], false);
    assert_eq!((settled.left.len(), settled.believed.len()), (1, 1));
    let ticket = answer.try_recv().unwrap().unwrap();
    assert_eq!(ticket.token, bench.tickets.token(&claim("s1", 1).key));
    bench.settle(Vec::new(), false);
    assert_eq!(bench.sandboxes(), ["s1"]);
}

#[test]
fn a_full_disk_believes_nobody_and_still_lets_go() {
    let mut bench = Bench::new();
    let holds = [1, 2, 3].map(|it| bench.put(&claim(&format!("s{it}"), it)));
    let (command, answer) = attach(claim("s5", 5));
    bench.settle(vec![command], false);
    drop((answer, holds));

    let (first, mut gone_before) = detach(&claim("s1", 1));
    let (new, mut refused) = attach(claim("s4", 4));
    let (newer, mut not_superseded) = attach(claim("s3b", 3));
    let (again, mut asks_again) = attach(claim("s2", 2));
    let (own, mut never_there) = detach(&claim("s4", 4));
    let (last, mut gone_after) = detach(&claim("s2", 2));
    let mut settled = bench.settle(vec![first, new, newer, own, last, again], true);
    assert!(settled.unsaved.is_some() && settled.believed.is_empty());
    assert_eq!(bench.sandboxes(), ["s3"]);
    let left: Vec<_> =
        settled.left.iter().map(|(it, _)| it.owner.sandbox().unwrap().key.sandbox.as_str()).collect();
    assert_eq!(left, ["s5", "s1", "s2"]);
    for (reply, existed) in settled.detached.drain(..) {
        reply.send(Ok(existed)).unwrap();
    }
    for (answer, existed) in [(&mut gone_before, true), (&mut never_there, true), (&mut gone_after, true)] {
        assert_eq!(answer.try_recv().unwrap(), Ok(existed));
    }
    for answer in [&mut refused, &mut not_superseded, &mut asks_again] {
        assert_eq!(answer.try_recv().unwrap().unwrap_err().reason(), "internal");
    }
}

#[test]
fn what_left_in_the_batch_in_which_it_came_is_not_promised() {
    let mut bench = Bench::new();
    let (first, mut superseded) = attach(claim("s1", 1));
    let (second, mut promised) = attach(claim("s1b", 1));
    let settled = bench.settle(vec![first, second], false);
    assert_eq!(settled.left.len(), 1);
    assert!(superseded.try_recv().unwrap().unwrap_err().to_string().contains("taken back"));
    assert!(promised.try_recv().unwrap().is_ok());
    assert_eq!(bench.sandboxes(), ["s1b"]);
}
