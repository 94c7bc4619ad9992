//! A NIC that is full, that refuses, and that loses its rules: what policy denies never passes, and the report says what
//! runs in software and why.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use offload::checker::{InSoftware, Why};
use offload::policy::{Origin, PodPolicy};
use offload::session::Report;

use crate::bench::tc_filters;
use crate::dice::Dice;
use crate::field::{Field, in_hardware};
use crate::load::{Denied, Stream};
use crate::policies::{DENIES_6001, ECHO, denied, sets};
use crate::stand::{inside, v4};

/// `FLOW_DISSECTOR_KEY_PORTS`: without it no filter that asks for a port is taken.
const KEY_PORTS: u64 = 1 << 4;
const EOPNOTSUPP: &str = "95";

struct Trial {
    field: Field,
    sets: [Vec<PodPolicy>; 2],
    turn: usize,
    forbidden: Option<Denied>,
    /// What runs in software without any fault, of each set.
    usual: [Vec<InSoftware>; 2],
}

impl Trial {
    /// The other set's turn.
    fn flip(&mut self) -> Report {
        self.turn = 1 - self.turn;
        self.again()
    }

    fn again(&mut self) -> Report {
        let report = self.field.sync(&self.sets[self.turn]);
        assert!(report.refusals.is_empty(), "{:?}", report.refusals);
        self.none_passed();
        report
    }

    fn none_passed(&self) {
        let arrived = self.forbidden.as_ref().unwrap().arrived();
        assert!(arrived.is_empty(), "{arrived:?}");
    }

    /// The fault is over: in a few calls all that can be is in hardware. By the kernel's word and by the NIC's own.
    fn recovers(&mut self) -> usize {
        for call in 1..=20 {
            let report = self.again();
            if report.mismatches.is_empty() {
                let whys =
                    |all: &[InSoftware]| all.iter().map(|it| (it.origin, it.why)).collect::<BTreeSet<_>>();
                assert_eq!(whys(&report.software), whys(&self.usual[self.turn]));
                assert_eq!(report.software.len(), self.usual[self.turn].len());
                let shown = |device: &String| {
                    tc_filters(device).iter().filter(|it| it["options"]["in_hw"] == true).count()
                };
                let by_tc: usize = self.field.stand.devices().iter().map(shown).sum();
                assert_eq!(by_tc as u64, self.field.stand.counted().rules);
                return call;
            }
        }
        panic!("it never comes back");
    }
}

/// The rules of which a filter was refused.
fn refused(report: &Report) -> BTreeSet<Origin> {
    report.software.iter().filter(|it| it.why == Why::Refused).filter_map(|it| it.origin).collect()
}

fn warned(report: &Report, text: &str) -> bool {
    report.warnings.iter().any(|(_, said)| said.contains(text))
}

#[test]
fn vm_a_faulty_nic_lets_nothing_by() {
    let mut field = Field::new();
    let sets = sets();
    field.prime(&denied());
    let usual = [1, 0].map(|set| {
        let (report, differences) = field.install(&sets[set]);
        assert_eq!(differences, []);
        report.software
    });
    let usual = {
        let [second, first] = usual;
        [first, second]
    };
    let forbidden = Some(Denied::start(&denied()));
    let streams = [false, true].map(|is_ipv6| Stream::start(0, 1, is_ipv6, ECHO, 50));
    let mut trial = Trial { field, sets, turn: 0, forbidden, usual };
    let all = in_hardware(&trial.field.session.observe().unwrap());
    let mut dice = Dice(7);

    // Full at some point, while policies change.
    let mut named = BTreeSet::new();
    for _ in 0..4 {
        let limit = dice.roll(all);
        trial.field.stand.knob("max_rules", &limit.to_string());
        let report = trial.flip();
        let origins = refused(&report);
        println!(
            "room for {limit} of {all}: {} filters in software, of them refused {}, of the rules {origins:?}",
            report.software.len(),
            report.software.iter().filter(|it| it.why == Why::Refused).count()
        );
        if !report.mismatches.is_empty() {
            assert!(warned(&report, "table full"), "{:?}", report.warnings);
            assert!(report.software.iter().any(|it| it.why == Why::Refused), "{report:?}");
        }
        named.extend(origins);
        trial.field.stand.knob("max_rules", &u32::MAX.to_string());
        let calls = trial.recovers();
        println!("room is back: all in hardware after {calls} calls");
    }
    assert!(!named.is_empty(), "no rule was ever refused for want of room");

    // So many refused, one after the other, whichever they are.
    for count in [1, 2, 5, 12] {
        trial.field.stand.knob("fail_errno", EOPNOTSUPP);
        trial.field.stand.knob("fail_count", &count.to_string());
        let report = trial.flip();
        assert!(warned(&report, "injected failure"), "{report:?}");
        trial.field.stand.knob("fail_count", "0");
        trial.recovers();
    }

    // A kind of rule is refused from now on: those with ports.
    if trial.turn == 0 {
        trial.flip();
    }
    let keys = format!("{:#x}", !KEY_PORTS);
    trial.field.stand.knob("keys", &keys);
    let report = trial.flip();
    assert!(warned(&report, "Unsupported key"), "{report:?}");
    assert!(refused(&report).contains(&DENIES_6001), "{:?}", report.software);
    // What stands under a rule that was refused is not in hardware either.
    assert!(
        report.software.iter().any(|it| it.why == Why::Below && it.origin.is_some()),
        "{:?}",
        report.software
    );
    for _ in 0..4 {
        trial.flip();
    }
    trial.field.stand.knob("keys", &format!("{:#x}", u64::MAX));
    trial.recovers();

    // All rules are lost, and nobody is told.
    for _ in 0..3 {
        trial.field.stand.forget();
        std::thread::sleep(Duration::from_millis(300));
        trial.none_passed();
        trial.flip();
        trial.flip();
    }
    assert!(trial.field.stand.forgotten() > 0);
    // What the hardware would have ended comes to software: nobody has this address, so its neighbours are asked for it.
    inside(0, || UdpSocket::bind((v4(0), 0)).unwrap().send_to(b"x", (v4(200), 9)).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert!(trial.again().lost);
    trial.recovers();
    assert_eq!(trial.field.stand.forgotten(), 0);
    assert!(!trial.again().lost);

    let carried = streams.map(Stream::finish);
    let (sent, arrived) = trial.forbidden.take().unwrap().finish();
    println!(
        "of {sent} denied datagrams {} arrived; of {} allowed ones {} were lost",
        arrived.len(),
        carried.iter().map(|it| it.sent).sum::<u64>(),
        carried.iter().map(|it| it.missing.len()).sum::<usize>()
    );
    assert!(arrived.is_empty(), "{arrived:?}");
    assert!(sent > 1000, "{sent}");
}
