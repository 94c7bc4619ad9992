//! What is recorded of the loop on its fakes is replayed, and is the same.

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

use super::bench::{Bench, run};
use super::names::{claim, key, vf};
use crate::recording::End;
use crate::replay::replay;

/// A file, in memory.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// So many bytes it takes.
    room: Option<usize>,
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.bytes.lock().unwrap();
        if self.room.is_some_and(|room| file.len() + bytes.len() > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    pub fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

/// How it ends, and what it tells.
pub async fn replayed(text: impl Into<String>) -> (End, String) {
    let mut told = Vec::new();
    let end = replay(Cursor::new(text.into().into_bytes()), &mut told).await.unwrap();
    (end, String::from_utf8(told).unwrap())
}

/// A pod comes, another does not get its VF, Open vSwitch starts anew, and the pod goes.
async fn story() -> String {
    let mut bench = Bench::with(2, Some(Buffer::default)).await;
    bench.pod(1);
    bench.pod(2);
    bench.attach(claim(1, 1, 0));
    bench.turn().await;
    bench.attach(claim(2, 2, 0));
    assert!(bench.rest().await);
    assert_eq!(bench.refused.len(), 1);
    bench.policy(1, true);
    bench.world.lock().switch_ends(true);
    assert!(bench.rest().await);
    bench.world.lock().made_again(vf(0), true);
    assert!(bench.rest().await);
    bench.detach(key(1));
    assert!(bench.rest().await);
    bench.is_fine();
    bench.stop();
    bench.tapes[0].text()
}

#[test]
fn a_replay_does_the_same_and_tells_it() {
    run(async {
        let text = story().await;
        let (end, told) = replayed(text).await;
        assert!(matches!(end, End::Over), "{end}\n{told}");
        for part in [
            "believes s1/eth0 of ns/p1 on pf0vf0",
            "refuses s2/eth0: pf0vf0 is held by pod ns/p1",
            "opens representor r-pf0vf0",
            "closes representor r-pf0vf0",
            "adds port r-pf0vf0",
            "s1/eth0 waits: ",
            "s1/eth0 is ready",
            "lets go of s1/eth0: detached",
            "empties conntrack zone 61000",
            "all that was done is the same",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
    });
}

#[test]
fn an_answer_that_is_changed_shows_where_the_loop_does_something_else() {
    run(async {
        let text = story().await;
        // The pod's representor is open before it is seen to be taken: closed again.
        let lines: Vec<&str> = text.lines().collect();
        let opened = lines.iter().position(|it| it.contains(r#""Open""#)).unwrap();
        let seen = (opened..lines.len()).find(|at| lines[*at].contains(r#""of":"observe""#)).unwrap();
        let changed = lines[seen].replacen(r#""in_datapath":true"#, r#""in_datapath":false"#, 1);
        assert_ne!(changed, lines[seen]);
        let before = lines[..seen].join("\n");
        let text = format!("{before}\n{changed}\n{}\n", lines[seen + 1..].join("\n"));
        let (end, told) = replayed(text).await;
        let End::Differs(difference) = &end else { panic!("{end}\n{told}") };
        assert!(difference.line > seen + 1, "{difference}");
        assert_ne!(difference.recorded, difference.now);
        assert!(told.contains(&format!("line {}: now: ", difference.line)), "{told}");
    });
}

#[test]
fn what_is_cut_off_is_replayed_as_far_as_it_goes() {
    run(async {
        let text = story().await;
        let lines = text.lines().count();
        for part in [text.len() - 3, text.len() / 2] {
            let cut = &text[..part];
            let (end, told) = replayed(cut).await;
            let last = cut.lines().count();
            assert!(matches!(end, End::CutOff { line } if line == last), "{end} of {lines}");
            assert!(told.contains(&format!("line {last} is cut off")), "{told}");
        }
        // Between two lines: that is how it looks when the agent ended there.
        let whole = text.lines().take(lines / 2).collect::<Vec<_>>().join("\n") + "\n";
        assert!(matches!(replayed(whole).await.0, End::Over));
    });
}

#[test]
fn what_cannot_be_read_is_named() {
    run(async {
        let text = story().await;
        let (end, _) =
            replayed(text.replacen(r#""nic-agent-recording":1"#, r#""nic-agent-recording":2"#, 1)).await;
        assert!(matches!(end, End::Format { found: 2 }), "{end}");
        let mut lines: Vec<&str> = text.lines().collect();
        lines[30] = "{\"of\":\"pa";
        let (end, _) = replayed(lines.join("\n") + "\n").await;
        assert!(matches!(end, End::Damaged { line: 31, .. }), "{end}");
        assert!(end.to_string().starts_with("line 31 is damaged: "), "{end}");
        assert!(matches!(replayed("no recording\n").await.0, End::Damaged { line: 1, .. }));
        assert!(matches!(replayed("").await.0, End::Damaged { line: 1, .. }));
    });
}

#[test]
fn a_file_that_takes_no_more_stops_nothing() {
    run(async {
        let full = || Buffer { room: Some(20_000), ..Buffer::default() };
        let mut bench = Bench::with(2, Some(full)).await;
        bench.pod(1);
        bench.attach(claim(1, 1, 0));
        for _ in 0..20 {
            assert!(bench.rest().await);
        }
        bench.is_fine();
        assert!(bench.attached.contains_key(&key(1)));
        bench.stop();
        let text = bench.tapes[0].text();
        assert!(text.len() <= 20_000 && !text.contains("\"of\":\"lost\""), "{}", text.len());
        let (end, told) = replayed(text).await;
        assert!(matches!(end, End::Over | End::CutOff { .. }), "{end}\n{told}");
    });
}

/// Printed, for whoever wants to know.
#[test]
fn a_pass_at_rest_takes_little() {
    run(async {
        let mut bench = Bench::with(2, Some(Buffer::default)).await;
        for pod in [1, 2] {
            bench.pod(pod);
            bench.attach(claim(pod, pod, pod - 1));
        }
        assert!(bench.rest().await);
        for _ in 0..11 {
            bench.turn().await;
            bench.world.wait(std::time::Duration::from_secs(10));
        }
        bench.stop();
        let text = bench.tapes[0].text();
        let is_pass = |line: &&str| line.contains(r#":"pass"}"#);
        let passes = text.lines().filter(is_pass).count();
        let at_rest = text.lines().skip_while(|line| !is_pass(line));
        let mut passed = 0;
        let ten = at_rest.skip_while(|line| {
            passed += usize::from(is_pass(line));
            passed < passes - 10
        });
        let each = ten.map(|line| line.len() + 1).sum::<usize>() / 11;
        println!("{each} bytes for each pass at rest");
        assert!(each < 2000, "{each}");
    });
}
