//! The register on disk: `marks.json`, and `marks-reserved.json` with how far numbers may have been given.
//!
//! Both are written before a flow bears what they say. Failure: what cannot be written is not used, and tried again with
//! the next pass; a file that is lost costs the names of old marks, both of them cost marks at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offload::policy::{Origin, PodPolicy, RuleMark};
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use super::register::{Name, Register, Remembered};
use super::{Marks, Table, admitting};
use crate::durable::{self, Disk, DurableError};
use crate::enforcement::Known;

const VERSION: u32 = 1;
/// Reserved at a time: what the loss of the names costs in numbers, at most.
const STEP: u32 = 4096;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// Up to here all numbers are given.
    given: u32,
    rules: Vec<(RuleMark, Remembered)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reserved {
    version: u32,
    /// No number above was ever given.
    reserved: u32,
}

/// The register's one owner.
pub struct Keeper {
    disk: Arc<dyn Disk>,
    names_path: PathBuf,
    reserved_path: PathBuf,
    register: Register,
    /// As on disk.
    reserved: u32,
    /// Numbers up to here have their names on disk.
    saved: u32,
    is_saved: bool,
    /// Why nobody gets a mark.
    lost: Option<String>,
    current: Marks,
    /// What the register was last told.
    told: Option<Told>,
}

struct Told {
    /// By address, each once.
    policies: Vec<Arc<PodPolicy>>,
    source: Option<Arc<Known>>,
}

impl Keeper {
    pub fn load(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        let (names_path, reserved_path) =
            (state_dir.join("marks.json"), state_dir.join("marks-reserved.json"));
        let names = durable::read_json::<Stored>(&*disk, &names_path, VERSION);
        let reserved = durable::read_json::<Reserved>(&*disk, &reserved_path, VERSION);
        let readable = reserved.as_ref().ok().and_then(|it| it.as_ref()).map(|it| it.reserved);
        if let Err(e) = &reserved {
            warn!(error = %e, "written anew with the next mark");
        }
        let mut lost = None;
        let register = match (names, &reserved) {
            (Ok(Some(stored)), _) => Register::restored(stored.rules, stored.given),
            // The first start.
            (Ok(None), Ok(None)) => Register::default(),
            (names, _) => {
                let why = names.err().map_or_else(|| "marks.json is gone".to_owned(), |e| e.to_string());
                error!(error = why, "the marks of older connections name no rule any more");
                if readable.is_none() {
                    lost = Some(format!("{why}, and how far numbers were given is not known either"));
                }
                Register::restored([], readable.unwrap_or(RuleMark::MASK))
            }
        };
        let mut keeper = Self {
            disk,
            names_path,
            reserved_path,
            saved: register.given(),
            register,
            reserved: readable.unwrap_or(0),
            is_saved: true,
            lost,
            current: Marks::default(),
            told: None,
        };
        keeper.publish();
        keeper
    }

    /// What flows may bear, and what is known of marks.
    pub fn current(&self) -> &Marks {
        &self.current
    }

    /// Why rules go without a mark.
    pub fn trouble(&self) -> Option<String> {
        let rules = self.register.unnamed();
        if rules == 0 {
            return None;
        }
        let why = match &self.lost {
            Some(why) => why.clone(),
            None => format!("all {} numbers are given", RuleMark::MAX),
        };
        Some(format!("connections admitted by {rules} rules do not say so in their mark: {why}"))
    }

    /// These policies are in force, and the source says this. `Err`: what is new cannot be kept, and has no mark yet.
    pub fn name(
        &mut self,
        mut policies: Vec<Arc<PodPolicy>>,
        said: Option<Arc<Known>>,
    ) -> Result<(), DurableError> {
        policies.sort_by_key(|it| Arc::as_ptr(it).addr());
        policies.dedup_by(|a, b| Arc::ptr_eq(a, b));
        if !self.is_told(&policies, said.as_ref()) {
            let origins: BTreeSet<Origin> = policies.iter().flat_map(|it| admitting(it)).collect();
            let named = origins.into_iter().map(|origin| {
                let rule = said.as_ref().and_then(|known| known.rule(origin));
                (origin, rule.map(|rule| Name::new(&rule.uid, &rule.wording)))
            });
            if self.register.put_in_force(named) {
                self.is_saved = false;
            }
            self.told = Some(Told { policies, source: said });
        }
        if self.is_saved {
            return Ok(());
        }
        let outcome = self.save();
        self.publish();
        outcome
    }

    fn is_told(&self, policies: &[Arc<PodPolicy>], said: Option<&Arc<Known>>) -> bool {
        let Some(told) = &self.told else { return false };
        let same_source = match (&told.source, said) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            _ => false,
        };
        same_source
            && told.policies.len() == policies.len()
            && told.policies.iter().zip(policies).all(|(before, now)| Arc::ptr_eq(before, now))
    }

    fn save(&mut self) -> Result<(), DurableError> {
        let given = self.register.given();
        if self.lost.is_none() {
            if given > self.reserved {
                let reserved = given.saturating_add(STEP).min(RuleMark::MASK);
                durable::write_json(
                    &*self.disk,
                    &self.reserved_path,
                    &Reserved { version: VERSION, reserved },
                )?;
                self.reserved = reserved;
            }
            let rules = self.register.rules().iter().map(|(mark, it)| (*mark, (**it).clone())).collect();
            durable::write_json(&*self.disk, &self.names_path, &Stored { version: VERSION, given, rules })?;
        }
        (self.saved, self.is_saved) = (given, true);
        Ok(())
    }

    fn publish(&mut self) {
        let saved = self.saved;
        let names = self.register.rules().iter().filter(|(mark, _)| mark.get() <= saved);
        self.current = Marks(Arc::new(Table {
            in_force: self.register.by_origin().filter(|(_, mark)| mark.get() <= saved).collect(),
            names: names.map(|(mark, it)| (*mark, it.clone())).collect(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::durable::SystemDisk;
    use crate::enforcement::feed::Feed;
    use crate::metrics::Metrics;
    use crate::policy::{Settings, Snapshot};

    fn port(port: u16) -> Value {
        json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": port}]})
    }

    /// What a source says of a cluster with one pod and this policy of ingress.
    fn known(uid: &str, rules: &[Value]) -> Arc<Known> {
        let items = json!({"items": [
            {"kind": "Namespace", "metadata": {"name": "default"}},
            {"kind": "Pod", "metadata": {"namespace": "default", "name": "a", "uid": "u-a"},
             "spec": {"nodeName": "n", "containers": []},
             "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}},
            {"kind": "NetworkPolicy", "metadata": {"namespace": "default", "name": "web", "uid": uid},
             "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules}},
        ]});
        let settings = Settings {
            node: "n".into(),
            zone: "".into(),
            node_addresses: offload::policy::PrefixSet::default(),
            budget: crate::policy::Budget::default(),
        };
        let mut feed = Feed::of_file(settings, Metrics::new());
        for change in Snapshot::parse(Path::new("-"), items.to_string().as_bytes()).unwrap().into_changes() {
            feed.put(change);
        }
        feed.settle(String::new());
        feed.known()
    }

    fn policies(known: &Known) -> Vec<Arc<PodPolicy>> {
        known.pods.values().cloned().collect()
    }

    fn enforce(keeper: &mut Keeper, known: &Arc<Known>) {
        keeper.name(policies(known), Some(known.clone())).unwrap();
    }

    /// Port and mark of each rule, as flows would have them.
    fn marks(keeper: &Keeper, known: &Known) -> Vec<Option<u32>> {
        let rules = &known.pods["u-a"].ingress.tiers[0].rules;
        rules.iter().map(|rule| keeper.current().of(rule.origin).map(RuleMark::get)).collect()
    }

    fn text(keeper: &Keeper, mark: u32) -> Option<String> {
        keeper.current().text(mark | 0x0500_0000)
    }

    #[test]
    fn a_mark_goes_with_what_the_rule_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::load(Arc::new(SystemDisk), dir.path());
        let first = known("u", &[port(80), port(81)]);
        enforce(&mut keeper, &first);
        let [Some(a), Some(b)] = marks(&keeper, &first)[..] else { panic!("{:?}", marks(&keeper, &first)) };
        assert_eq!(text(&keeper, a).unwrap(), "default/web ingress from 192.0.2.0/24: TCP 80");
        assert_eq!(text(&keeper, 0), None);

        let above = known("u", &[port(79), port(81), port(80)]);
        enforce(&mut keeper, &above);
        let [Some(c), Some(b_now), Some(a_now)] = marks(&keeper, &above)[..] else { panic!("{above:?}") };
        assert_eq!((a_now, b_now), (a, b));
        assert!(c > a.max(b));

        // The same addresses and ports, in other words.
        let halves = json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/25"}}, {"ipBlock": {"cidr": "192.0.2.128/25"}}],
            "ports": [{"port": 80}]});
        let reworded = known("u", &[halves]);
        let rules = |known: &Known| known.pods["u-a"].ingress.tiers[0].rules.clone();
        assert_eq!(rules(&reworded)[0].peers, rules(&first)[0].peers);
        enforce(&mut keeper, &reworded);
        let [Some(d)] = marks(&keeper, &reworded)[..] else { panic!("{reworded:?}") };
        assert!(d > c);
        assert_eq!(
            text(&keeper, a).unwrap(),
            "default/web ingress from 192.0.2.0/24: TCP 80",
            "gone, not forgotten"
        );

        let made_anew = known("another", &[port(80)]);
        enforce(&mut keeper, &made_anew);
        assert!(marks(&keeper, &made_anew)[0].unwrap() > d);
    }

    #[test]
    fn a_restart_changes_no_mark_also_before_the_source_has_spoken() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::load(Arc::new(SystemDisk), dir.path());
        let said = known("u", &[port(80), port(81)]);
        enforce(&mut keeper, &said);
        let before = marks(&keeper, &said);

        let mut keeper = Keeper::load(Arc::new(SystemDisk), dir.path());
        assert_eq!(marks(&keeper, &said), before);
        keeper.name(policies(&said), None).unwrap();
        assert_eq!(marks(&keeper, &said), before);
        enforce(&mut keeper, &said);
        assert_eq!(marks(&keeper, &said), before);
        let shown = serde_json::to_value(keeper.current()).unwrap();
        let rule = "default/web ingress from 192.0.2.0/24: TCP 80";
        assert_eq!(shown[before[0].unwrap().to_string()], json!({"rule": rule, "inForce": true}));
    }

    /// An old mark is then nobody's, and never another rule's.
    #[test]
    fn names_that_are_lost_are_not_given_to_others() {
        for damage in [None, Some("{"), Some("{\"version\": 2}")] {
            let dir = tempfile::tempdir().unwrap();
            let said = known("u", &[port(80), port(81)]);
            let mut keeper = Keeper::load(Arc::new(SystemDisk), dir.path());
            enforce(&mut keeper, &said);
            let old = marks(&keeper, &said);
            let path = dir.path().join("marks.json");
            match damage {
                None => fs::remove_file(&path).unwrap(),
                Some(text) => fs::write(&path, text).unwrap(),
            }
            let mut keeper = Keeper::load(Arc::new(SystemDisk), dir.path());
            assert!(old.iter().flatten().all(|mark| text(&keeper, *mark).is_none()));
            let other = known("v", &[port(82), port(80)]);
            enforce(&mut keeper, &other);
            assert!(
                marks(&keeper, &other)
                    .iter()
                    .all(|mark| mark.unwrap() > old[1].unwrap().max(old[0].unwrap()))
            );
            assert!(old.iter().flatten().all(|mark| text(&keeper, *mark).is_none()));
            assert_eq!(keeper.trouble(), None);

            // Neither file says anything: no marks, and it is said.
            fs::write(&path, "{").unwrap();
            fs::write(dir.path().join("marks-reserved.json"), "{").unwrap();
            let mut keeper = Keeper::load(Arc::new(SystemDisk), dir.path());
            enforce(&mut keeper, &other);
            assert_eq!(marks(&keeper, &other), [None, None]);
            assert!(keeper.trouble().unwrap().contains("2 rules"), "{:?}", keeper.trouble());
            assert_eq!(fs::read_to_string(&path).unwrap(), "{", "left for who may still read it");
        }
    }

    #[test]
    fn a_mark_that_cannot_be_kept_is_not_used_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut keeper = Keeper::load(Arc::new(SystemDisk), &state);
        let first = known("u", &[port(80)]);
        enforce(&mut keeper, &first);
        let mark = marks(&keeper, &first)[0].unwrap();

        let away = dir.path().join("away");
        fs::rename(&state, &away).unwrap();
        let second = known("u", &[port(81), port(80)]);
        assert!(keeper.name(policies(&second), Some(second.clone())).is_err());
        assert_eq!(marks(&keeper, &second), [None, Some(mark)]);
        assert_eq!(text(&keeper, mark + 1), None);
        fs::rename(&away, &state).unwrap();
        enforce(&mut keeper, &second);
        assert_eq!(marks(&keeper, &second), [Some(mark + 1), Some(mark)]);
        assert_eq!(marks(&Keeper::load(Arc::new(SystemDisk), &state), &second), [Some(mark + 1), Some(mark)]);
    }
}
