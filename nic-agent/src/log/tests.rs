use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use log::kv::{Error, Key, Value, VisitSource};
use tracing::{debug, info, info_span, warn};

use super::*;
use crate::config::Config;

/// An entry as the journal would get it.
#[derive(Debug, Default, Clone, PartialEq)]
struct Entry {
    message: String,
    level: Option<log::Level>,
    target: String,
    fields: BTreeMap<String, String>,
}

impl<'a> VisitSource<'a> for Entry {
    fn visit_pair(&mut self, key: Key<'a>, value: Value<'a>) -> Result<(), Error> {
        let previous = self.fields.insert(key.to_string(), value.to_string());
        assert_eq!(previous, None, "{key} stands twice");
        Ok(())
    }
}

type Entries = Arc<Mutex<Vec<Entry>>>;

fn recorder() -> (JournalLayer<impl Fn(&log::Record<'_>)>, Entries) {
    let entries = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&entries);
    let layer = JournalLayer::new(move |from: &log::Record<'_>| {
        let mut entry = Entry {
            message: from.args().to_string(),
            level: Some(from.level()),
            target: from.target().to_owned(),
            ..Entry::default()
        };
        from.key_values().visit(&mut entry).unwrap();
        record.lock().unwrap().push(entry);
    });
    (layer, entries)
}

fn level(text: &str) -> LogLevel {
    LogLevel(text.to_owned())
}

fn fields<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[test]
fn facts_of_event_and_spans_are_fields() {
    let (layer, entries) = recorder();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let outer = info_span!("reconcile", generation = 7, late = tracing::field::Empty);
        outer.in_scope(|| {
            outer.record("late", "known now");
            let inner = info_span!("attach", pod = "default/web-0", port = "far");
            inner.in_scope(|| {
                let error = io::Error::other("no such device");
                warn!(port = "near", zone = 5_u16, mac = ?"x", error = &error as &dyn std::error::Error, "flow refused");
            });
        });
        info!("alone");
    });
    let entries = entries.lock().unwrap();
    let [refused, alone] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(refused.message, "flow refused");
    assert_eq!((refused.level, refused.target.as_str()), (Some(log::Level::Warn), "nic_agent::log::tests"));
    let expected = fields([
        ("GENERATION", "7"),
        ("LATE", "known now"),
        ("POD", "default/web-0"),
        ("PORT", "near"),
        ("ZONE", "5"),
        ("MAC", "\"x\""),
        ("ERROR", "no such device"),
        ("SPAN", "reconcile:attach"),
    ]);
    assert_eq!(refused.fields, expected);
    assert_eq!((alone.message.as_str(), &alone.fields), ("alone", &fields([])));
}

#[test]
fn reserved_names_are_renamed() {
    let (layer, entries) = recorder();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info!(
            priority = 9,
            unit = "mm",
            target = "x",
            code.line = 1,
            object_pid = 1,
            pod.name = "web",
            "shown"
        );
    });
    let entries = entries.lock().unwrap();
    let expected = fields([
        ("FIELD_PRIORITY", "9"),
        ("FIELD_UNIT", "mm"),
        ("FIELD_TARGET", "x"),
        ("FIELD_CODE_LINE", "1"),
        ("FIELD_OBJECT_PID", "1"),
        ("POD_NAME", "web"),
    ]);
    assert_eq!(entries[0].fields, expected);
}

#[test]
fn levels_change_under_way() {
    let (output, entries) = recorder();
    let (filter, handle) = reload::Layer::new(targets(&level("info")).unwrap());
    let logging = Logging { levels: handle, withheld: Withheld::default(), _detached: None };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(output), || {
        debug!("one");
        logging.set_level(&level("debug")).unwrap();
        debug!("two");
        logging.set_level(&level("warn,nic_agent::other=trace")).unwrap();
        info!("three");
        debug!(target: "nic_agent::other", "four");
        logging.set_level(&level("off")).unwrap();
        warn!("five");
    });
    let messages: Vec<_> = entries.lock().unwrap().iter().map(|entry| entry.message.clone()).collect();
    assert_eq!(messages, ["two", "four"]);
}

#[test]
fn a_detached_log_takes_levels_too() {
    Logging::detached().set_level(&level("debug")).unwrap();
}

/// Run by the test below in a process of its own, as the subscriber is the process'.
#[test]
#[ignore = "child of standard_error_has_text_or_json"]
fn child() {
    let format = if std::env::var_os("LOG_TEST_JSON").is_some() { "json" } else { "auto" };
    let example = include_str!("../../../packaging/nic-agent.example.toml");
    let config: Config = format!("{example}\nformat = \"{format}\"\n").parse().unwrap();
    Logging::install(&config.log).unwrap();
    assert!(matches!(Logging::install(&config.log), Err(LogError::Subscriber(_))));
    info_span!("reconcile", generation = 7).in_scope(|| info!(port = "pf0vf3", "port taken"));
    debug!("not shown");
    log::warn!(target: "rtnetlink", "from the log crate");
}

#[test]
fn standard_error_has_text_or_json() {
    let run = |json: bool| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "log::tests::child", "--ignored", "--nocapture"]).env_remove("JOURNAL_STREAM");
        if json {
            child.env("LOG_TEST_JSON", "1");
        }
        let output = child.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let text = run(false);
    let lines: Vec<_> = text.lines().collect();
    let [taken, crate_] = &lines[..] else { panic!("{text}") };
    assert!(
        taken.contains("INFO") && taken.contains("port taken") && taken.contains("port=\"pf0vf3\""),
        "{taken}"
    );
    assert!(crate_.contains("WARN rtnetlink") && crate_.contains("from the log crate"), "{crate_}");
    assert!(!text.contains('\u{1b}'), "no colours into a pipe");

    let json = run(true);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines[0]["message"].as_str(), lines[0]["port"].as_str()),
        (Some("port taken"), Some("pf0vf3"))
    );
    assert_eq!(lines[0]["spans"][0]["generation"], 7);
    assert_eq!(lines[1]["message"], "from the log crate");
}

#[test]
fn a_place_that_says_too_much_is_withheld_and_others_are_not() {
    let (layer, entries) = recorder();
    let withheld = Withheld::default();
    let rate = crate::bucket::Rate { burst: 10, period: std::time::Duration::from_hours(1) };
    let subscriber = tracing_subscriber::registry().with(Budget::of(rate, withheld.clone())).with(layer);
    tracing::subscriber::with_default(subscriber, || {
        for number in 0..25 {
            info!(number, "claim believed");
            debug!(number, "pass");
        }
        warn!("pass incomplete");
    });
    let entries = entries.lock().unwrap();
    let said = |message: &str| entries.iter().filter(|it| it.message == message).count();
    assert_eq!((said("claim believed"), said("pass"), said("pass incomplete")), (10, 25, 1));
    let counted = |level| withheld.get_or_create(&crate::metrics::LevelLabel { level }).get();
    assert_eq!((counted("info"), counted("warn")), (15, 0));
}
