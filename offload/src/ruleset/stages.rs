//! Tiers as stages: as few as may be, because each costs a look-up.

use crate::policy::{Action, Origin, Rule, Rules};

/// One or more tiers in a row. The first rule that matches decides; to pass is to go on to the next stage.
pub struct Stage<'a> {
    pub rules: Vec<&'a Rule>,
    pub otherwise: (Action, Origin),
}

/// A tier that hands on whatever its rules do not decide, and has no rule that passes, may as well be the beginning of
/// the next one. There is always a last stage, so that what comes to an end is said in a flow, also without any tier.
pub fn stages(rules: &Rules) -> Vec<Stage<'_>> {
    let open = || Stage { rules: Vec::new(), otherwise: (Action::Pass, Origin::default()) };
    let mut stages = Vec::new();
    let mut stage: Option<Stage<'_>> = None;
    for tier in &rules.tiers {
        let mut joined = stage.take().unwrap_or_else(open);
        joined.rules.extend(&tier.rules);
        joined.otherwise = (tier.otherwise, tier.origin);
        let hands_on = tier.otherwise == Action::Pass;
        if hands_on && tier.rules.iter().all(|rule| rule.action != Action::Pass) {
            stage = Some(joined);
        } else {
            stages.push(joined);
        }
    }
    stages.extend(stage);
    if stages.is_empty() {
        stages.push(open());
    }
    stages
}
