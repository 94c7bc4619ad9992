//! Policies that change under load.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::field::Field;
use crate::load::{Carried, Denied, Stream};
use crate::policies::{ECHO, denied, sets};

const FLIPS: usize = 24;

/// Both versions, 500 each second of each.
fn start() -> [Stream; 2] {
    [false, true].map(|is_ipv6| Stream::start(0, 1, is_ipv6, ECHO, 500))
}

fn finish(streams: [Stream; 2]) -> [Carried; 2] {
    streams.map(Stream::finish)
}

fn told(carried: &[Carried; 2]) -> String {
    let sum = |of: fn(&Carried) -> u64| carried.iter().map(of).sum::<u64>();
    format!(
        "{} datagrams of {} connections, {} lost, {} answers",
        sum(|it| it.sent),
        sum(|it| it.connections),
        sum(|it| it.missing.len() as u64),
        sum(|it| it.answered)
    )
}

#[test]
fn vm_a_flip_under_load_loses_nothing_and_lets_nothing_by() {
    let mut field = Field::new();
    let [first, second] = sets();
    field.prime(&denied());
    let (_, differences) = field.install(&first);
    assert_eq!(differences, []);

    let streams = start();
    sleep(Duration::from_secs(3));
    let baseline = finish(streams);
    println!("without a change of policies: {}", told(&baseline));

    let before = field.stand.counted();
    let forbidden = Denied::start(&denied());
    let (streams, begun) = (start(), Instant::now());
    sleep(Duration::from_millis(300));
    for flip in 0..FLIPS {
        let set = if flip % 2 == 0 { &second } else { &first };
        let report = field.sync(set);
        assert!(report.changes > 10 && report.refusals.is_empty(), "{report:?}");
        assert_eq!(report.mismatches, []);
        sleep(Duration::from_millis(100));
    }
    let took = begun.elapsed();
    let carried = finish(streams);
    let (sent, arrived) = forbidden.finish();
    let after = field.stand.counted();
    println!(
        "{FLIPS} changes of policies in {:.1} s: {}; of {sent} denied ones {} arrived; the eSwitch executed {} %",
        took.as_secs_f64(),
        told(&carried),
        arrived.len(),
        after.hardware_share(before)
    );
    assert!(arrived.is_empty(), "{arrived:?}");
    assert!(sent > 1000, "{sent}");
    for (now, quiet) in carried.iter().zip(&baseline) {
        assert!(now.sent > 500, "{now:?}");
        assert!(
            now.missing.is_empty() && now.answered == now.sent,
            "lost {:?}, {} of {} answered; without a change of policies lost {:?}, {} of {} answered",
            now.missing,
            now.answered,
            now.sent,
            quiet.missing,
            quiet.answered,
            quiet.sent
        );
    }
}
