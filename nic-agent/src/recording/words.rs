//! What has no JSON of its own, as a recording has it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload::openflow::{InstalledFlow, Message, Xid};
use offload::policy::{Origin, PodPolicy};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::attachment::AttachmentId;
use crate::audit::{Held, PodProgress, Progress, Stage};
use crate::claim::{Claim, SandboxKey};
use crate::directory::{Directory, PodRecord};
use crate::enforcement::{Known, Policies, RuleName};
use crate::openflow;

/// What a step took of the server's requests.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Taken {
    pub asked: Vec<Asked>,
    /// Nobody waits for these any more.
    pub given_up: Vec<SandboxKey>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Asked {
    Attach(Claim),
    Detach(SandboxKey),
    Report(SandboxKey, Option<String>),
}

/// `Err`: why no pod is known.
pub type DirectoryWord = Result<BTreeMap<String, PodRecord>, String>;

pub fn directory(of: &Directory) -> Result<&BTreeMap<String, PodRecord>, &str> {
    match of {
        Directory::Unknown { why } => Err(why),
        Directory::Known(pods) => Ok(pods),
    }
}

pub fn directory_of(word: DirectoryWord) -> Directory {
    match word {
        Ok(pods) => Directory::Known(Arc::new(pods)),
        Err(why) => Directory::Unknown { why },
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub enum PoliciesWord {
    Off,
    Unknown(String),
    Known(KnownWord),
}

/// Each policy once, however many pods have it.
#[derive(Debug, Serialize, Deserialize)]
pub struct KnownWord {
    source: String,
    policies: Vec<PodPolicy>,
    /// By uid: which of them.
    pods: Vec<(String, usize)>,
    reports: Vec<String>,
    rules: Vec<(Origin, RuleName)>,
}

impl From<&Policies> for PoliciesWord {
    fn from(policies: &Policies) -> Self {
        match policies {
            Policies::Off => Self::Off,
            Policies::Unknown { why } => Self::Unknown(why.clone()),
            Policies::Known(known) => Self::Known(KnownWord::from(&**known)),
        }
    }
}

impl From<&Known> for KnownWord {
    fn from(known: &Known) -> Self {
        let mut places: BTreeMap<&Arc<PodPolicy>, usize> = BTreeMap::new();
        let mut policies = Vec::new();
        let mut pods = Vec::new();
        for (uid, policy) in &known.pods {
            let place = *places.entry(policy).or_insert_with(|| {
                policies.push(PodPolicy::clone(policy));
                policies.len() - 1
            });
            pods.push((uid.to_string(), place));
        }
        let rules = known.rules().into_iter().collect();
        Self { source: known.source.clone(), policies, pods, reports: known.reports.to_vec(), rules }
    }
}

impl From<PoliciesWord> for Policies {
    fn from(word: PoliciesWord) -> Self {
        match word {
            PoliciesWord::Off => Self::Off,
            PoliciesWord::Unknown(why) => Self::Unknown { why },
            PoliciesWord::Known(known) => Self::Known(Arc::new(known.into())),
        }
    }
}

impl From<KnownWord> for Known {
    fn from(KnownWord { source, policies, pods, reports, rules }: KnownWord) -> Self {
        let policies: Vec<_> = policies.into_iter().map(Arc::new).collect();
        let of = |(uid, place): (String, usize)| Some((Arc::from(uid), policies.get(place)?.clone()));
        Self {
            source,
            pods: pods.into_iter().filter_map(of).collect(),
            reports: reports.into(),
            told: Arc::new(rules.into_iter().collect()),
            ..Self::default()
        }
    }
}

/// Times are nanoseconds since the recording began.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProgressWord {
    of: AttachmentId,
    version: u64,
    stage: Stage,
    since: u64,
    cut: usize,
    held: Option<(usize, u64)>,
}

pub fn progress(all: &Progress, offset: impl Fn(Instant) -> u64) -> Vec<ProgressWord> {
    let of = |(id, it): (&AttachmentId, &PodProgress)| ProgressWord {
        of: id.clone(),
        version: it.version,
        stage: it.stage,
        since: offset(it.since),
        cut: it.cut,
        held: it.held.map(|held| (held.entries, offset(held.since))),
    };
    all.iter().map(of).collect()
}

pub fn progress_of(words: Vec<ProgressWord>, began: Instant) -> Progress {
    let at = |nanos| began + Duration::from_nanos(nanos);
    let of = |it: ProgressWord| {
        let held = it.held.map(|(entries, since)| Held { entries, since: at(since) });
        let progress =
            PodProgress { version: it.version, stage: it.stage, since: at(it.since), cut: it.cut, held };
        (it.of, progress)
    };
    words.into_iter().map(of).collect()
}

/// A file's failure.
#[derive(Debug, Serialize, Deserialize)]
pub struct DiskFailure {
    text: String,
    not_found: bool,
}

impl From<&io::Error> for DiskFailure {
    fn from(error: &io::Error) -> Self {
        Self { text: error.to_string(), not_found: error.kind() == io::ErrorKind::NotFound }
    }
}

impl From<DiskFailure> for io::Error {
    fn from(DiskFailure { text, not_found }: DiskFailure) -> Self {
        let kind = if not_found { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
        Self::new(kind, text)
    }
}

/// A file's contents follow from what the loop knows: enough to tell whether they are the same.
#[derive(Debug, Serialize)]
pub struct FileWord {
    path: String,
    bytes: usize,
    sha256: String,
}

impl FileWord {
    pub fn new(path: &std::path::Path, contents: &[u8]) -> Self {
        let sha256 = hex(digest(&SHA256, contents).as_ref());
        Self { path: path.display().to_string(), bytes: contents.len(), sha256 }
    }
}

/// The switch's failure.
#[derive(Debug, Serialize, Deserialize)]
pub struct SwitchFailure {
    text: String,
    refused: bool,
}

impl From<&openflow::Error> for SwitchFailure {
    fn from(error: &openflow::Error) -> Self {
        Self { text: error.to_string(), refused: error.is_refusal() }
    }
}

impl From<SwitchFailure> for openflow::Error {
    fn from(SwitchFailure { text, refused }: SwitchFailure) -> Self {
        Self::Recorded { text, refused }
    }
}

/// Each as OpenFlow has it, in hex, but for what it has counted, of which the loop makes nothing.
pub fn flows(all: &[InstalledFlow]) -> Result<Vec<String>, SwitchFailure> {
    let of = |it: &InstalledFlow| {
        let flow = InstalledFlow { packets: 0, bytes: 0, duration: Duration::ZERO, ..it.clone() };
        let message = Message::FlowStatsReply { flows: vec![flow], more: false };
        message.encode(Xid(0)).map(|bytes| hex(&bytes))
    };
    let all: Result<Vec<String>, _> = all.iter().map(of).collect();
    let mut all = all.map_err(|e| SwitchFailure { text: e.to_string(), refused: false })?;
    // A switch has no order of its own.
    all.sort_unstable();
    Ok(all)
}

/// `Err`: it is no flow.
pub fn flows_of(words: &[String]) -> Result<Vec<InstalledFlow>, String> {
    let mut all = Vec::new();
    for word in words {
        let bytes = unhex(word).ok_or_else(|| format!("{word:?} is no hex"))?;
        match Message::decode(&bytes) {
            Ok((_, Message::FlowStatsReply { mut flows, .. })) => all.append(&mut flows),
            Ok(_) => return Err(format!("{word:?} is no flow")),
            Err(e) => return Err(format!("{word:?}: {e}")),
        }
    }
    Ok(all)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes whatever is written.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use imbl::OrdMap;
    use offload::openflow::{Action, Cookie, Flow, Match, Port, TableId};

    use super::*;
    use crate::enforcement;

    fn again<T: Serialize, A: serde::de::DeserializeOwned>(word: &T) -> A {
        serde_json::from_str(&serde_json::to_string(word).unwrap()).unwrap()
    }

    #[test]
    fn policies_and_the_names_of_their_rules_survive() {
        let rule = RuleName { uid: "u".to_owned(), wording: "default/web ingress".to_owned() };
        let (closed, open) = (Arc::new(enforcement::closed()), Arc::new(PodPolicy::default()));
        let pods = [("a", closed.clone()), ("b", open), ("c", closed)];
        let known = Known {
            source: "sha".to_owned(),
            pods: pods.map(|(uid, policy)| (Arc::from(uid), policy)).into_iter().collect::<OrdMap<_, _>>(),
            reports: ["report".to_owned()].into(),
            told: Arc::new([(Origin(7), rule.clone())].into()),
            ..Known::default()
        };
        let word = PoliciesWord::from(&Policies::Known(Arc::new(known.clone())));
        let PoliciesWord::Known(KnownWord { policies, .. }) = &word else { panic!("{word:?}") };
        assert_eq!(policies.len(), 2, "each once");
        let Policies::Known(read) = again::<_, PoliciesWord>(&word).into() else { panic!() };
        assert_eq!((&read.source, &read.pods, &read.reports), (&known.source, &known.pods, &known.reports));
        assert_eq!(read.rule(Origin(7)), Some(rule));
        assert!(Arc::ptr_eq(&read.pods["a"], &read.pods["c"]));
    }

    #[test]
    fn flows_survive_and_what_they_counted_does_not() {
        let flow = Flow {
            table: TableId(4),
            priority: 7,
            cookie: Cookie(0xdb00_0000_0000_0001),
            matches: Match::default(),
            actions: vec![Action::Output(Port::Local)],
        };
        let fresh = InstalledFlow { idle_timeout: 5, ..InstalledFlow::fresh(flow) };
        let counted = InstalledFlow { packets: 3, duration: Duration::from_secs(4), ..fresh.clone() };
        assert_eq!(flows_of(&flows(&[counted]).unwrap()).unwrap(), [fresh]);
        for wrong in ["0", "zz", "0615", ""] {
            assert!(flows_of(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn progress_is_as_old_as_it_was() {
        let (then, now) = (Instant::now(), Instant::now() + Duration::from_hours(1));
        let at = |began: Instant| {
            let held = Some(Held { entries: 2, since: began + Duration::from_secs(3) });
            let since = began + Duration::from_secs(2);
            PodProgress { version: 1, stage: Stage::Draining, since, cut: 4, held }
        };
        let progress = Progress::from([(AttachmentId::Host, at(then))]);
        let offset = |it: Instant| u64::try_from(it.duration_since(then).as_nanos()).unwrap();
        let words: Vec<ProgressWord> = again(&super::progress(&progress, offset));
        assert_eq!(progress_of(words, now), Progress::from([(AttachmentId::Host, at(now))]));
    }
}
