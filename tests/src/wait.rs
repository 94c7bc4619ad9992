//! Waiting for what must come true.

use std::time::{Duration, Instant};

use crate::patience::{late, patience};

/// Polls until `check` gives a value; panics, with what it said last, when it does not in time: within this, on the
/// reference machine.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    let end = began + patience(within);
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < end, "{}", late(what, began.elapsed(), last)),
        }
        // Looking costs the lab's processor, most of all where a program is run for it: the longer it takes, the rarer.
        std::thread::sleep(
            (began.elapsed() / 8).clamp(Duration::from_millis(100), Duration::from_millis(500)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::times;

    /// With what it panics.
    fn message_of<T>(work: impl FnOnce() -> T + std::panic::UnwindSafe) -> String {
        let Err(said) = std::panic::catch_unwind(work) else { panic!("it did not panic") };
        said.downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| (*said.downcast_ref::<&str>().unwrap()).to_owned())
    }

    #[test]
    fn who_waits_looks_again_until_it_is_so() {
        let mut looks = 0;
        let third = until("the third look", Duration::from_mins(1), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err("not yet".to_owned()) }
        });
        assert_eq!(third, 3);
    }

    #[test]
    fn who_waited_in_vain_is_late_and_says_for_what_and_what_was_seen() {
        let said = message_of(|| until("a miracle", Duration::ZERO, || Err::<(), _>("water".to_owned())));
        assert!(
            said.starts_with("late: a miracle, after ") && said.ends_with("s; last seen: water"),
            "{said}"
        );
        // What is wrong says so with its own words, in the midst of a wait, too.
        let said =
            message_of(|| until("a miracle", Duration::ZERO, || -> Result<(), _> { panic!("vinegar") }));
        assert_eq!(said, "vinegar");
    }

    #[test]
    fn a_number_from_one_on_is_taken_and_nothing_else() {
        assert_eq!(times(None), Ok(1.0));
        for (said, is) in [("1", 1.0), ("1.5", 1.5), ("6", 6.0)] {
            assert_eq!(times(Some(said)), Ok(is));
        }
        for said in ["", "0.9", "0", "-2", "NaN", "inf", "2 ", "two"] {
            assert!(times(Some(said)).is_err_and(|e| e.contains(&format!("{said:?}"))), "{said}");
        }
    }

    #[test]
    fn deadlines_are_so_many_times_longer() {
        // As this run was told.
        let told = times(std::env::var("DRAWBRIDGE_PATIENCE").ok().as_deref()).unwrap();
        assert_eq!(patience(Duration::from_secs(10)), Duration::from_secs_f64(10.0 * told));
        assert_eq!(patience(Duration::ZERO), Duration::ZERO);
    }
}
