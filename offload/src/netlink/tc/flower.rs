//! The flower classifier: keys, flags, actions.

use netlink_packet_route::tc::{TcFilterFlowerOption, TcOption};

use super::action::{Action, ActionSpec};
use crate::netlink::wire::{Attribute, Malformed};

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

/// Where a filter may run; OVS calls it `tc-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Skip {
    /// In hardware if it will, and in software: `tc-policy=none`.
    #[default]
    None,
    Hardware,
    /// Refused unless the hardware takes it.
    Software,
}

/// A flower filter to be made. It matches every packet: keys come with the policy compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowerSpec {
    pub skip: Skip,
    pub actions: Vec<ActionSpec>,
}

impl FlowerSpec {
    pub(super) fn to_options(&self) -> Vec<TcOption> {
        let skip = match self.skip {
            Skip::None => 0,
            Skip::Hardware => SKIP_HW,
            Skip::Software => SKIP_SW,
        };
        let actions = (1..).zip(&self.actions).map(|(position, action)| action.to_nla(position)).collect();
        vec![
            TcOption::Flower(TcFilterFlowerOption::Actions(actions)),
            TcOption::Flower(TcFilterFlowerOption::Flags(skip | VERBOSE)),
        ]
    }
}

/// A flower filter that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flower {
    /// The types of the key attributes (`TCA_FLOWER_KEY_*` and masks); none means that every packet matches.
    pub keys: Vec<u16>,
    pub actions: Vec<Action>,
    /// Nothing is known of a filter that is neither: the kernel says so only where a driver was asked.
    pub in_hw: bool,
    pub not_in_hw: bool,
    pub skip_hw: bool,
    pub skip_sw: bool,
    /// How many drivers took it.
    pub in_hw_count: u32,
}

impl Flower {
    pub(super) fn decode(options: Attribute<'_>) -> Result<Self, Malformed> {
        let mut flower = Self::default();
        for attribute in options.nested() {
            let attribute = attribute?;
            match attribute.kind {
                TCA_FLOWER_ACT => {
                    flower.actions =
                        attribute.nested().map(|action| Action::decode(action?)).collect::<Result<_, _>>()?;
                }
                TCA_FLOWER_FLAGS => {
                    let flags = attribute.u32()?;
                    flower.in_hw = flags & IN_HW != 0;
                    flower.not_in_hw = flags & NOT_IN_HW != 0;
                    flower.skip_hw = flags & SKIP_HW != 0;
                    flower.skip_sw = flags & SKIP_SW != 0;
                }
                TCA_FLOWER_IN_HW_COUNT => flower.in_hw_count = attribute.u32()?,
                TCA_FLOWER_CLASSID => {}
                key => flower.keys.push(key),
            }
        }
        Ok(flower)
    }
}
