//! police: a token bucket in front of what follows. (`linux/pkt_cls.h` `struct tc_police`, `net/sched/act_police.c`)
//!
//! Not part of [`crate::flower::Actions`]: policy has no rates. Steering and QoS use it.

use std::num::NonZeroU64;

use super::{TCA_ACT_KIND, TCA_ACT_OPTIONS, Verdict};
use crate::netlink::wire::{Attributes, Malformed, Writer, array, u32_at};

pub const KIND: &str = "police";

const TCA_POLICE_TBF: u16 = 1;
const TCA_POLICE_RATE: u16 = 2;
const TCA_POLICE_RESULT: u16 = 5;
const TCA_POLICE_RATE64: u16 = 8;
const TCA_POLICE_PKTRATE64: u16 = 10;
const TCA_POLICE_PKTBURST64: u16 = 11;

/// The kernel measures a burst by how long it takes at the rate, in ticks of 64 ns (`PSCHED_SHIFT`).
const TICKS_PER_SECOND: u128 = 1_000_000_000 / 64;
/// `TC_RTAB_SIZE` in entries.
const TABLE: usize = 256;
const CELL_LOG: u8 = 3;
const LINKLAYER_ETHERNET: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Bytes { per_second: NonZeroU64, burst: u32 },
    Packets { per_second: NonZeroU64, burst: u32 },
}

/// What is within the rate goes on as `conform` says, the rest as `exceed` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Police {
    pub rate: Rate,
    pub conform: Verdict,
    pub exceed: Verdict,
}

impl Police {
    /// Drops what is above the rate.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, conform: Verdict::Pipe, exceed: Verdict::Drop }
    }

    /// Writes one entry of `TCA_FLOWER_ACT` at `position`, from 1.
    pub fn write(&self, w: &mut Writer, position: u16) {
        w.nest(position, |w| {
            w.put_text(TCA_ACT_KIND, KIND).nest(TCA_ACT_OPTIONS, |w| self.options(w));
        });
    }

    fn options(&self, w: &mut Writer) {
        let mut tbf = Vec::with_capacity(56);
        let mut words = |words: &[u32]| words.iter().for_each(|word| tbf.extend(word.to_ne_bytes()));
        // index, action, limit
        words(&[0, self.exceed.to_kernel().cast_unsigned(), 0]);
        match self.rate {
            Rate::Bytes { per_second, burst } => {
                let burst = u32::try_from(ticks(burst.into(), per_second)).unwrap_or(u32::MAX);
                // burst, mtu: of any size, or else packets above 2040 bytes always exceed
                words(&[burst, u32::MAX]);
                let rate = u32::try_from(per_second.get()).unwrap_or(u32::MAX);
                // struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate
                let [align, _] = (-1i16).to_ne_bytes();
                tbf.extend([CELL_LOG, LINKLAYER_ETHERNET, 0, 0, align, align, 0, 0]);
                tbf.extend(rate.to_ne_bytes());
            }
            Rate::Packets { .. } => {
                words(&[0, u32::MAX]);
                tbf.extend([0; 12]);
            }
        }
        // peakrate, refcnt, bindcnt, capab
        tbf.extend([0; 24]);
        w.put(TCA_POLICE_TBF, &tbf);
        match self.rate {
            Rate::Bytes { per_second, .. } => {
                // Only looked at to guess a link layer that we name; but without it there is no rate.
                let cell =
                    |n: u128| u32::try_from(ticks((n + 1) << CELL_LOG, per_second)).unwrap_or(u32::MAX);
                let table: Vec<u8> = (0..TABLE as u128).flat_map(|n| cell(n).to_ne_bytes()).collect();
                w.put(TCA_POLICE_RATE, &table);
                if per_second.get() > u32::MAX.into() {
                    w.put_u64(TCA_POLICE_RATE64, per_second.get());
                }
            }
            Rate::Packets { per_second, burst } => {
                let burst = u64::try_from(ticks(burst.into(), per_second)).unwrap_or(u64::MAX);
                w.put_u64(TCA_POLICE_PKTRATE64, per_second.get()).put_u64(TCA_POLICE_PKTBURST64, burst);
            }
        }
        w.put_u32(TCA_POLICE_RESULT, self.conform.to_kernel().cast_unsigned());
    }

    /// From the options of an action that is there. `None` if it has another shape: two rates, none at all. The burst comes
    /// back rounded to a tick.
    pub fn decode(options: Attributes<'_>) -> Result<Option<Self>, Malformed> {
        let (mut tbf, mut rate64, mut packets, mut packet_burst, mut conform) = (None, None, None, None, 0);
        for attribute in options {
            let attribute = attribute?;
            let number = || array(attribute.value, 0).map(u64::from_ne_bytes);
            match attribute.kind {
                TCA_POLICE_TBF => tbf = Some(attribute.value),
                TCA_POLICE_RATE64 => rate64 = Some(number()?),
                TCA_POLICE_PKTRATE64 => packets = Some(number()?),
                TCA_POLICE_PKTBURST64 => packet_burst = Some(number()?),
                TCA_POLICE_RESULT => conform = attribute.i32()?,
                _ => {}
            }
        }
        let Some(tbf) = tbf else { return Ok(None) };
        let exceed = Verdict::from_kernel(u32_at(tbf, 4)?.cast_signed());
        let (burst, rate, peak) = (u32_at(tbf, 12)?, u32_at(tbf, 28)?, u32_at(tbf, 40)?);
        let bytes = NonZeroU64::new(rate64.unwrap_or_else(|| rate.into()));
        let rate = match (bytes, packets.and_then(NonZeroU64::new), packet_burst) {
            (Some(per_second), None, _) if peak == 0 => {
                Rate::Bytes { per_second, burst: units(burst.into(), per_second) }
            }
            (None, Some(per_second), Some(burst)) => {
                Rate::Packets { per_second, burst: units(burst, per_second) }
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { rate, conform: Verdict::from_kernel(conform), exceed }))
    }
}

/// The time that so many bytes or packets take at the rate, rounded up.
fn ticks(units: u128, per_second: NonZeroU64) -> u128 {
    (units * TICKS_PER_SECOND).div_ceil(per_second.get().into())
}

fn units(ticks: u64, per_second: NonZeroU64) -> u32 {
    let units = u128::from(ticks) * u128::from(per_second.get()) / TICKS_PER_SECOND;
    u32::try_from(units).unwrap_or(u32::MAX)
}

pub(super) fn verdict(options: Attributes<'_>) -> Result<Option<Verdict>, Malformed> {
    let tbf = options.find(TCA_POLICE_TBF)?;
    tbf.map(|tbf| u32_at(tbf.value, 4).map(|number| Verdict::from_kernel(number.cast_signed()))).transpose()
}
