//! Changes to filters: many at a time, each with an outcome of its own.
//!
//! Messages go to the kernel many per system call. It executes them in order and goes on after an error; errors it always
//! answers, success only where `NLM_F_ACK` asks for it. The reason why hardware refused a filter that software took is the
//! text of a *successful* acknowledgement (`netlink_rcv_skb`), so with the acknowledgement of the last message alone those
//! of the others are lost: [`Reasons`] chooses.

use std::fmt;
use std::num::NonZeroU32;

use super::filter::info;
use super::key::protocol;
use super::unwritable::Unwritable;
use super::{
    PARENT_INGRESS_FILTERS, RTM_DELTFILTER, RTM_NEWTFILTER, TCA_CHAIN, TCA_KIND, TCA_OPTIONS, flower, tcmsg,
};
use crate::flower::{ChainIndex, NextChain, Pref, Rule, Skip};
use crate::ids::IfIndex;
use crate::netlink::batch::Batch;
use crate::netlink::error::{Errno, Result};
use crate::netlink::frame::Frames;
use crate::netlink::request::{Request, flags};
use crate::netlink::socket::{NetlinkSocket, Outcome};
use crate::netlink::wire::Malformed;

/// The number of a filter within its (chain, pref). We choose it, so that a filter can be named later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(NonZeroU32);

impl Handle {
    /// `INT_MAX`: the last that flower would choose itself.
    pub const MAX: u32 = 0x7fff_ffff;

    /// `None` for 0, for which the kernel would choose one, and above [`Self::MAX`].
    pub const fn new(handle: u32) -> Option<Self> {
        match NonZeroU32::new(handle) {
            Some(number) if handle <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Where a filter stands, on the ingress side of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub ifindex: IfIndex,
    pub chain: ChainIndex,
    pub pref: Pref,
    pub handle: Handle,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ifindex, chain, pref, handle } = self;
        write!(f, "filter chain {chain} pref {pref} handle {handle} of network device {ifindex}")
    }
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Fails if there is a filter.
    Add {
        place: Place,
        rule: &'a Rule,
    },
    /// In one step, where there is a filter; else it is added. No packet sees neither. The mask of the keys must stay the
    /// same. The counters begin anew.
    Replace {
        place: Place,
        rule: &'a Rule,
    },
    Delete {
        place: Place,
    },
    /// Every filter of a chain, whoever made it. Not of chain 0, where OVS's stand. It is no error if there is no such chain.
    Flush {
        ifindex: IfIndex,
        chain: NextChain,
    },
}

impl Change<'_> {
    fn verb(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add",
            Self::Replace { .. } => "replace",
            Self::Delete { .. } => "delete",
            Self::Flush { .. } => "flush",
        }
    }

    fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Add { rule, .. } | Self::Replace { rule, .. } => Some(rule),
            Self::Delete { .. } | Self::Flush { .. } => None,
        }
    }

    fn target(&self) -> Target {
        match *self {
            Self::Add { place, .. } | Self::Replace { place, .. } | Self::Delete { place } => {
                Target::Filter(place)
            }
            Self::Flush { ifindex, chain } => Target::Chain { ifindex, chain: chain.index() },
        }
    }

    /// Its message, for whoever sends it himself.
    ///
    /// # Errors
    /// If it has no form on the wire.
    pub fn request(&self) -> std::result::Result<Request, Unwritable> {
        let mut batch = Batch::default();
        self.push(&mut batch, Reasons::Skip)?;
        let bytes = batch.seal(0, 0);
        let frame = Frames::new(bytes).next().and_then(std::result::Result::ok).ok_or(Unwritable::TooLong)?;
        Ok(Request::new(frame.kind, frame.flags & !(flags::REQUEST | flags::ACK), frame.payload.to_vec()))
    }

    fn push(&self, batch: &mut Batch, reasons: Reasons) -> std::result::Result<(), Unwritable> {
        let too_long = |_: Malformed| Unwritable::TooLong;
        match *self {
            Self::Add { place, rule } | Self::Replace { place, rule } => {
                flower::check(rule)?;
                let exclusive = if matches!(self, Self::Add { .. }) { flags::EXCL } else { 0 };
                let header = header(place, protocol(&rule.key));
                let ask = reasons == Reasons::Ask && rule.skip == Skip::None;
                batch
                    .push(RTM_NEWTFILTER, flags::CREATE | exclusive, ask, &header, |w| {
                        w.put_text(TCA_KIND, flower::KIND).put_u32(TCA_CHAIN, place.chain.0);
                        w.nest(TCA_OPTIONS, |w| flower::write(rule, w));
                    })
                    .map_err(too_long)
            }
            // Protocol 0 stands for whichever the (chain, pref) has.
            Self::Delete { place } => batch
                .push(RTM_DELTFILTER, 0, false, &header(place, 0), |w| {
                    w.put_text(TCA_KIND, flower::KIND).put_u32(TCA_CHAIN, place.chain.0);
                })
                .map_err(too_long),
            Self::Flush { ifindex, chain } => {
                let header = tcmsg(ifindex, 0, PARENT_INGRESS_FILTERS, 0);
                batch
                    .push(RTM_DELTFILTER, 0, false, &header, |w| {
                        w.put_u32(TCA_CHAIN, chain.get());
                    })
                    .map_err(too_long)
            }
        }
    }
}

fn header(place: Place, protocol: u16) -> [u8; super::TCMSG] {
    tcmsg(place.ifindex, place.handle.get(), PARENT_INGRESS_FILTERS, info(place.pref.0.get(), protocol))
}

/// Whether to ask why hardware left a filter to software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reasons {
    /// Each filter that the hardware is offered and may refuse ([`Skip::None`]) is acknowledged for itself.
    Ask,
    /// Only the last message of a datagram is: a dump shows which filters are `not_in_hw`, but not why.
    Skip,
}

/// A change that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Why the hardware left it to software.
    pub warning: Option<String>,
}

/// What a change was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Filter(Place),
    Chain { ifindex: IfIndex, chain: ChainIndex },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(place) => place.fmt(f),
            Self::Chain { ifindex, chain } => write!(f, "chain {chain} of network device {ifindex}"),
        }
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("{0}")]
    Unwritable(#[from] Unwritable),
    /// `EEXIST`: under this handle, or the same key and mask under another one of this chain and pref.
    #[error("the handle is taken, or another filter of this chain and pref has the same key")]
    Exists,
    #[error("a filter's mask cannot be changed in place: delete it, then add")]
    MaskChanged,
    #[error("this chain and pref hold filters of another protocol or kind")]
    OtherProtocol,
    #[error("it is not there")]
    Missing,
    #[error("the device has no ingress hook")]
    NoHook,
    #[error("the network device is gone")]
    NoDevice,
    /// Of a rule that must not run in software.
    #[error("the hardware does not take it")]
    Hardware,
    #[error("the kernel refuses it")]
    Other,
}

/// A change that was refused. The others of the batch stand for themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{verb} {target}: {reason}{}{}", .errno.map(|errno| format!(": {errno}")).unwrap_or_default(), .extack.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct Refusal {
    pub verb: &'static str,
    pub target: Target,
    /// What should have been written.
    pub rule: Option<Rule>,
    pub reason: Reason,
    /// `None` if it was not even sent.
    pub errno: Option<Errno>,
    pub extack: Option<String>,
}

impl Refusal {
    /// Whether what was to be deleted is gone already, with its chain or its device.
    pub fn is_gone(&self) -> bool {
        matches!(self.reason, Reason::Missing | Reason::NoDevice | Reason::NoHook)
    }

    fn new(change: &Change<'_>, reason: Reason, errno: Option<Errno>, extack: Option<String>) -> Self {
        let (verb, target, rule) = (change.verb(), change.target(), change.rule().cloned());
        Self { verb, target, rule, reason, errno, extack }
    }
}

/// The kernel's words, which have no number (`net/sched/cls_api.c`, `sch_api.c`).
fn reason(change: &Change<'_>, errno: Errno, extack: Option<&str>) -> Reason {
    let says = |words: &str| extack.is_some_and(|text| text.contains(words));
    let adding = change.rule().is_some();
    match errno {
        Errno::ENODEV => Reason::NoDevice,
        _ if says("Parent Qdisc doesn't exist") || says("Qdisc not classful") => Reason::NoHook,
        Errno::EEXIST => Reason::Exists,
        Errno::ENOENT if !adding => Reason::Missing,
        Errno::EINVAL if says("priority/protocol not found") || says("kind does not match") => {
            Reason::OtherProtocol
        }
        Errno::EINVAL if extack.is_none() && matches!(change, Change::Replace { .. }) => Reason::MaskChanged,
        _ if change.rule().is_some_and(|rule| rule.skip == Skip::Software) => Reason::Hardware,
        _ => Reason::Other,
    }
}

/// Makes the changes in order; one outcome each, in the same order. A change that cannot be written is not sent, and the
/// others go on.
///
/// # Errors
/// If the session itself fails it is unknown which changes were made: dump and compare.
pub fn apply(
    socket: &mut NetlinkSocket,
    changes: &[Change<'_>],
    reasons: Reasons,
) -> Result<Vec<std::result::Result<Done, Box<Refusal>>>> {
    let operation = format_args!("change {} TC filters", changes.len());
    let mut batch = Batch::default();
    let (mut outcomes, mut unwritable) = (Vec::with_capacity(changes.len()), Vec::new());
    for (position, change) in changes.iter().enumerate() {
        match change.push(&mut batch, reasons) {
            Ok(()) if batch.is_full() => socket.exchange(operation, &mut batch, &mut outcomes)?,
            Ok(()) => {}
            Err(reason) => unwritable.push((position, reason)),
        }
    }
    socket.exchange(operation, &mut batch, &mut outcomes)?;
    let mut unwritable = unwritable.into_iter().peekable();
    let mut outcomes = outcomes.into_iter();
    let judged = changes.iter().enumerate().map(|(position, change)| {
        if let Some((_, reason)) = unwritable.next_if(|(at, _)| *at == position) {
            return Err(Box::new(Refusal::new(change, reason.into(), None, None)));
        }
        match outcomes.next() {
            Some(Outcome::Refused { errno, extack }) => {
                let reason = reason(change, errno, extack.as_deref());
                Err(Box::new(Refusal::new(change, reason, Some(errno), extack)))
            }
            Some(Outcome::Done { warning }) => Ok(Done { warning }),
            None => Ok(Done::default()),
        }
    });
    Ok(judged.collect())
}
