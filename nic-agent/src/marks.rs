//! Which rule a connection was admitted by: a number in the low 24 bits of its `ct_mark`, and the rule that it stands for.
//!
//! ```text
//!  policies in force ──► Keeper ── marks.json, then ──► Marks ──► flows of br-edge: ct(commit, mark)
//!                     (Register)                          └─────► /policy, whoever judges connections
//! ```
//!
//! A rule is told from others by its policy's name and uid, its direction, and what it says, never by where it stands: to
//! reorder rules, or to put one above, gives nobody another mark. It has a mark while it is in force on a pod of this NIC
//! and admits connections; coming back, it has the same one, as long as it is remembered.
//!
//! **A number is given once.** A connection may outlive its rule for as long as other rules allow it, and must then not
//! be read as another rule's. So numbers only grow, and names are written to disk before the first flow bears them. Which
//! numbers may have been given stands in a second file, too: when the one with the names is lost, numbering goes on
//! above, and old marks are nobody's. Rules go without a mark, and enforcement on as ever, while neither file says where
//! to go on, and when all 2^24 numbers are given; `/policy` reports it.
//!
//! A mark says "admitted by this rule, then". It does not say that the rule is in force, nor that it would admit the
//! connection now.

pub mod keeper;
mod register;

use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;
use offload::policy::{Action, Origin, PodPolicy, RuleMark, Rules};
use serde::{Serialize, Serializer};

use register::Remembered;

/// A snapshot, the same for flows and for people. A copy costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Marks(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Of the rules in force, by what they are called in cookies.
    in_force: HashMap<Origin, RuleMark>,
    names: OrdMap<RuleMark, Arc<Remembered>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    rule: &'a str,
    in_force: bool,
}

impl Marks {
    /// What this rule leaves in the connections that it admits.
    pub fn of(&self, origin: Origin) -> Option<RuleMark> {
        self.0.in_force.get(&origin).copied()
    }

    /// Of all rules and tiers, in order.
    pub fn of_rules(&self, rules: &Rules) -> Vec<Option<RuleMark>> {
        let of_tier = |tier: &offload::policy::Tier| {
            let origins = tier.rules.iter().map(|it| it.origin).chain([tier.origin]);
            origins.map(|it| self.of(it)).collect::<Vec<_>>()
        };
        rules.tiers.iter().flat_map(of_tier).collect()
    }

    /// The rule that admitted a connection with this `ct_mark`: `default/web ingress from pods app=client: TCP 80`. `None`:
    /// none did, or nobody knows any more.
    pub fn text(&self, ct_mark: u32) -> Option<String> {
        let mark = RuleMark::of_connection(ct_mark)?;
        self.0.names.get(&mark).map(|it| it.text.clone())
    }

    /// The very same, not only equal?
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// By number, as `conntrack -L` prints it.
impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let row = |(mark, it): (&RuleMark, &Arc<Remembered>)| (mark.to_string(), it.clone());
        let rows: Vec<(String, Arc<Remembered>)> = self.0.names.iter().map(row).collect();
        to.collect_map(
            rows.iter().map(|(mark, it)| (mark, Shown { rule: &it.text, in_force: it.left.is_none() })),
        )
    }
}

/// What of a policy can admit connections in its own name.
fn admitting(policy: &PodPolicy) -> impl Iterator<Item = Origin> {
    let tiers = [&policy.egress, &policy.ingress].into_iter().flat_map(|it| &it.tiers);
    tiers.flat_map(|tier| {
        let rules = tier.rules.iter().map(|it| (it.action, it.origin));
        let all = rules.chain([(tier.otherwise, tier.origin)]);
        all.filter(|(action, _)| *action == Action::Allow).map(|(_, origin)| origin)
    })
}
