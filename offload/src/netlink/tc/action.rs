//! TC actions: what a filter does. One module per kind, each with both directions.

mod ct;
mod gact;
mod mirred;
pub mod police;
mod stats;
mod vlan;

pub use police::Police;
pub use stats::{Counters, HardwareStats, Statistics};

use super::unwritable::Unwritable;
use crate::flower::{Actions, Cookie, End, Step};
use crate::netlink::wire::{Attribute, Attributes, Malformed, Writer, u32_at};

const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_STATS: u16 = 4;
const TCA_ACT_COOKIE: u16 = 6;
const TCA_ACT_USED_HW_STATS: u16 = 9;
const TCA_ACT_IN_HW_COUNT: u16 = 10;

/// `TCA_ACT_MAX_PRIO`. Older kernels overlook what is beyond it.
const MAX: usize = 32;

/// `tc_gen`, with which the parameters of most kinds begin: index, capab, action, refcnt, bindcnt.
const GENERIC: usize = 20;

/// `TC_ACT_*`: how a packet goes on after an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Drop,
    Pipe,
    /// What mirred says of a packet that it took away.
    Stolen,
    Trap,
    GotoChain(u32),
    Other(i32),
}

impl Verdict {
    const GOTO: u32 = 0x2000_0000;
    const OPERAND: u32 = 0x0fff_ffff;

    pub fn to_kernel(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Drop => 2,
            Self::Pipe => 3,
            Self::Stolen => 4,
            Self::Trap => 8,
            Self::GotoChain(chain) => (Self::GOTO | chain & Self::OPERAND).cast_signed(),
            Self::Other(number) => number,
        }
    }

    pub fn from_kernel(number: i32) -> Self {
        match number {
            0 => Self::Ok,
            2 => Self::Drop,
            3 => Self::Pipe,
            4 => Self::Stolen,
            8 => Self::Trap,
            _ if number.cast_unsigned() & !Self::OPERAND == Self::GOTO => {
                Self::GotoChain(number.cast_unsigned() & Self::OPERAND)
            }
            _ => Self::Other(number),
        }
    }

    /// `tc_gen` of a new action: the kernel picks its index.
    fn generic(self) -> [u8; GENERIC] {
        let mut bytes = [0; GENERIC];
        bytes.iter_mut().skip(8).zip(self.to_kernel().to_ne_bytes()).for_each(|(to, from)| *to = from);
        bytes
    }

    fn of_generic(parameters: Attribute<'_>) -> Result<Self, Malformed> {
        u32_at(parameters.value, 8).map(|number| Self::from_kernel(number.cast_signed()))
    }
}

/// `sizeof(ovs_u128)`: Open vSwitch marks the first action of each filter that it writes with the id of the flow.
pub(super) const OVS_FLOW_ID: usize = 16;

// === Writing ===

pub(super) fn check(actions: &Actions) -> Result<(), Unwritable> {
    let count = actions.steps.len() + 1;
    if count > MAX {
        return Err(Unwritable::Actions(count));
    }
    let tag = |step: &Step| match step {
        Step::VlanPush(tag) if tag.id > vlan::MAX_ID => Some(tag.id),
        _ => None,
    };
    actions.steps.iter().find_map(tag).map_or(Ok(()), |id| Err(Unwritable::VlanId(id)))
}

/// Writes the entries of `TCA_FLOWER_ACT`, from [`check`]ed actions.
pub(super) fn write(actions: &Actions, w: &mut Writer) {
    let mut cookie = actions.cookie;
    // An entry's type is its position, from 1.
    let mut position = 0;
    let mut next = || {
        position += 1;
        position
    };
    for step in &actions.steps {
        let mark = cookie.take();
        w.nest(next(), |w| match step {
            Step::Mirror(device) => entry(w, mirred::KIND, mark, |w| mirred::mirror(w, *device)),
            Step::VlanPush(tag) => entry(w, vlan::KIND, mark, |w| vlan::push(w, *tag)),
            Step::VlanPop => entry(w, vlan::KIND, mark, vlan::pop),
            Step::Ct(action) => entry(w, ct::KIND, mark, |w| ct::write(w, *action)),
            Step::CtClear => entry(w, ct::KIND, mark, ct::clear),
        });
    }
    let mark = cookie.take();
    w.nest(next(), |w| match actions.end {
        End::Drop => entry(w, gact::KIND, mark, |w| gact::write(w, Verdict::Drop)),
        End::Trap => entry(w, gact::KIND, mark, |w| gact::write(w, Verdict::Trap)),
        End::Goto(chain) => entry(w, gact::KIND, mark, |w| gact::write(w, Verdict::GotoChain(chain.get()))),
        End::Redirect(device) => entry(w, mirred::KIND, mark, |w| mirred::redirect(w, device)),
    });
}

fn entry(w: &mut Writer, kind: &str, cookie: Option<Cookie>, options: impl FnOnce(&mut Writer)) {
    w.put_text(TCA_ACT_KIND, kind).nest(TCA_ACT_OPTIONS, options);
    if let Some(cookie) = cookie {
        w.put(TCA_ACT_COOKIE, cookie.as_bytes());
    }
}

// === Reading ===

/// What an action is in the words of [`crate::flower`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Step(Step),
    End(End),
}

/// An action that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub kind: String,
    /// Of the kinds that we write, and police.
    pub verdict: Option<Verdict>,
    /// `None` for what no rule of ours does.
    pub meaning: Option<Meaning>,
    pub cookie: Option<Vec<u8>>,
    pub statistics: Statistics,
    /// Whence the hardware's part of the statistics comes; `None` if no driver was asked.
    pub hardware_stats: Option<HardwareStats>,
    /// How many drivers took it; only of actions that stand on their own.
    pub in_hw_count: Option<u32>,
}

impl Action {
    /// From one entry of `TCA_FLOWER_ACT`.
    pub(super) fn decode(nest: Attribute<'_>) -> Result<Self, Malformed> {
        let (mut kind, mut options) = (None, None);
        let mut action = Self {
            kind: String::new(),
            verdict: None,
            meaning: None,
            cookie: None,
            statistics: Statistics::default(),
            hardware_stats: None,
            in_hw_count: None,
        };
        for attribute in nest.nested() {
            let attribute = attribute?;
            match attribute.kind {
                TCA_ACT_KIND => kind = Some(attribute.text()),
                TCA_ACT_OPTIONS => options = Some(attribute.nested()),
                TCA_ACT_STATS => action.statistics = Statistics::decode(attribute)?,
                TCA_ACT_COOKIE => action.cookie = Some(attribute.value.to_vec()),
                TCA_ACT_USED_HW_STATS => action.hardware_stats = Some(HardwareStats::decode(attribute)?),
                TCA_ACT_IN_HW_COUNT => action.in_hw_count = Some(attribute.u32()?),
                _ => {}
            }
        }
        action.kind = kind.ok_or_else(|| Malformed::new("an action without a kind"))?;
        if let Some(options) = options {
            (action.verdict, action.meaning) = match action.kind.as_str() {
                gact::KIND => gact::decode(options)?,
                mirred::KIND => mirred::decode(options)?,
                vlan::KIND => vlan::decode(options)?,
                ct::KIND => ct::decode(options)?,
                police::KIND => (police::verdict(options)?, None),
                _ => (None, None),
            };
        }
        Ok(action)
    }

    pub fn bears(&self, mark: &Cookie) -> bool {
        self.cookie.as_deref() == Some(mark.as_bytes())
    }
}

/// What a kind's options say.
type Decoded = (Option<Verdict>, Option<Meaning>);

/// The parameters, and whether there is nothing but them and what is in `known` (times, padding).
fn parameters<'a>(
    options: Attributes<'a>,
    parameters: u16,
    known: &[u16],
) -> Result<(Option<Attribute<'a>>, bool), Malformed> {
    let (mut found, mut plain) = (None, true);
    for attribute in options {
        let attribute = attribute?;
        if attribute.kind == parameters {
            found = Some(attribute);
        } else {
            plain &= known.contains(&attribute.kind);
        }
    }
    Ok((found, plain))
}

/// [`Actions`] from a filter's actions, or why they are not such.
pub(super) fn actions(seen: &[Action]) -> Result<Actions, String> {
    let Some((last, first)) = seen.split_last() else { return Err("it has no action".to_owned()) };
    let foreign = |action: &Action| format!("its action {} does what we do not write", action.kind);
    let steps = first
        .iter()
        .map(|action| match action.meaning {
            Some(Meaning::Step(step)) => Ok(step),
            _ => Err(foreign(action)),
        })
        .collect::<Result<_, _>>()?;
    let Some(Meaning::End(end)) = last.meaning else { return Err(foreign(last)) };
    let mut cookie = None;
    for (position, bytes) in seen.iter().enumerate().filter_map(|(i, a)| a.cookie.as_ref().map(|c| (i, c))) {
        // Open vSwitch's id of the flow: whose the rule is, not what it does.
        if bytes.len() == OVS_FLOW_ID {
            continue;
        }
        cookie = Cookie::new(bytes).filter(|_| position == 0);
        if cookie.is_none() {
            return Err(format!("the mark of its action {} is no mark of ours: {bytes:02x?}", position + 1));
        }
    }
    Ok(Actions { steps, end, cookie })
}
