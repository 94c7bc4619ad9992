//! The classifier's options: keys, actions, flags.

use std::collections::BTreeSet;

use super::action::{self, Action, Meaning};
use super::beyond::Part;
use super::key;
use super::unwritable::Unwritable;
use crate::flower::{Key, Rule, Skip};
use crate::netlink::wire::{Attribute, Malformed, Writer};

pub const KIND: &str = "flower";

const TCA_FLOWER_CLASSID: u16 = 1;
const TCA_FLOWER_ACT: u16 = 3;
const TCA_FLOWER_FLAGS: u16 = 22;
const TCA_FLOWER_IN_HW_COUNT: u16 = 86;

const SKIP_HW: u32 = 1;
const SKIP_SW: u32 = 2;
const IN_HW: u32 = 4;
const NOT_IN_HW: u32 = 8;
/// Without it the kernel keeps the hardware's reason to itself.
const VERBOSE: u32 = 16;

pub(super) fn check(rule: &Rule) -> Result<(), Unwritable> {
    key::check(&rule.key)?;
    action::check(&rule.actions)
}

/// Writes what stands in `TCA_OPTIONS`, from a [`check`]ed rule.
pub(super) fn write(rule: &Rule, w: &mut Writer) {
    key::write(&rule.key, w);
    w.nest(TCA_FLOWER_ACT, |w| action::write(&rule.actions, w));
    let skip = match rule.skip {
        Skip::None => 0,
        Skip::Hardware => SKIP_HW,
        Skip::Software => SKIP_SW,
    };
    w.put_u32(TCA_FLOWER_FLAGS, skip | VERBOSE);
}

/// As much of a filter as our values can say, and the names of the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    pub key: Key,
    pub beyond: BTreeSet<Part>,
}

/// A flower filter that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flower {
    /// The filter as a value, or, in words, what of it our values cannot say.
    pub rule: Result<Rule, String>,
    /// Of a filter that is no value of ours. `None`, too, if it has a form that we do not know.
    pub partial: Option<Partial>,
    pub actions: Vec<Action>,
    /// Of a filter that is neither nothing is known: older kernels say so only where a driver was asked.
    pub in_hw: bool,
    pub not_in_hw: bool,
    pub skip_hw: bool,
    pub skip_sw: bool,
    /// How many drivers took it.
    pub in_hw_count: u32,
}

impl Flower {
    /// `protocol` is the one in `tcm_info`.
    pub(super) fn decode(options: Attribute<'_>, protocol: u16) -> Result<Self, Malformed> {
        let (mut fields, mut actions, mut flags, mut in_hw_count) = (Vec::new(), Vec::new(), 0, 0);
        let mut class = 0;
        for attribute in options.nested() {
            let attribute = attribute?;
            match attribute.kind {
                TCA_FLOWER_ACT => {
                    actions =
                        attribute.nested().map(|action| Action::decode(action?)).collect::<Result<_, _>>()?;
                }
                TCA_FLOWER_FLAGS => flags = attribute.u32()?,
                TCA_FLOWER_IN_HW_COUNT => in_hw_count = attribute.u32()?,
                TCA_FLOWER_CLASSID => class = attribute.u32()?,
                _ => fields.push(attribute),
            }
        }
        let skip = match flags & (SKIP_HW | SKIP_SW) {
            0 => Skip::None,
            SKIP_HW => Skip::Hardware,
            _ => Skip::Software,
        };
        let read = key::read::Fields::new(fields).key(protocol).map(|(key, mut beyond)| {
            beyond.extend(actions.iter().filter(|it| it.meaning.is_none()).map(Part::of_action));
            if actions.last().is_some_and(|last| matches!(last.meaning, Some(Meaning::Step(_)))) {
                beyond.insert(Part::Endless);
            }
            Partial { key, beyond }
        });
        let (rule, partial) = match read {
            Err(why) => (Err(why), None),
            Ok(_) if class != 0 => (Err(format!("it has class {class:#x}")), None),
            Ok(Partial { key, beyond }) if beyond.is_empty() => {
                (action::actions(&actions).map(|actions| Rule { key, actions, skip }), None)
            }
            Ok(partial) => {
                let parts: Vec<_> = partial.beyond.iter().map(ToString::to_string).collect();
                (Err(format!("beyond our rules: {}", parts.join(", "))), Some(partial))
            }
        };
        Ok(Self {
            rule,
            partial,
            actions,
            in_hw: flags & IN_HW != 0,
            not_in_hw: flags & NOT_IN_HW != 0,
            skip_hw: flags & SKIP_HW != 0,
            skip_sw: flags & SKIP_SW != 0,
            in_hw_count,
        })
    }

    /// What matched. The first action sees it all.
    pub fn statistics(&self) -> action::Statistics {
        self.actions.first().map(|action| action.statistics).unwrap_or_default()
    }

    /// Whether the first action bears the id of a flow of Open vSwitch.
    pub fn is_of_open_vswitch(&self) -> bool {
        let mark = self.actions.first().and_then(|action| action.cookie.as_ref());
        mark.is_some_and(|mark| mark.len() == action::OVS_FLOW_ID)
    }

    /// Whether the hardware runs all of it; without a driver nothing does.
    pub fn is_offloaded(&self) -> bool {
        self.in_hw && !self.not_in_hw
    }
}
