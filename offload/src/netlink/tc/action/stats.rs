//! What an action counted, in software and in hardware. (`linux/gen_stats.h`, `net/core/gen_stats.c`)

use crate::netlink::wire::{Attribute, Malformed, array, u32_at};

const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_BASIC_HW: u16 = 7;
const TCA_STATS_PKT64: u16 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
}

impl Counters {
    /// `struct gnet_stats_basic`: 64 bits of bytes, 32 of packets.
    fn decode(attribute: Attribute<'_>) -> Result<Self, Malformed> {
        let bytes = array(attribute.value, 0).map(u64::from_ne_bytes)?;
        Ok(Self { bytes, packets: u32_at(attribute.value, 8)?.into() })
    }
}

/// `TCA_ACT_STATS`. A filter that is replaced starts at zero again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    pub total: Counters,
    /// What the hardware did of it, as the driver last told.
    pub hardware: Counters,
    pub drops: u32,
    pub overlimits: u32,
}

impl Statistics {
    /// What came by the processor.
    pub fn software(&self) -> Counters {
        // Both were read at one moment; a driver that counts back must not wrap us around.
        Counters {
            packets: self.total.packets.saturating_sub(self.hardware.packets),
            bytes: self.total.bytes.saturating_sub(self.hardware.bytes),
        }
    }

    pub(in crate::netlink::tc) fn decode(nest: Attribute<'_>) -> Result<Self, Malformed> {
        let mut statistics = Self::default();
        let mut in_hardware = false;
        for attribute in nest.nested() {
            let attribute = attribute?;
            match attribute.kind {
                TCA_STATS_BASIC => {
                    statistics.total = Counters::decode(attribute)?;
                    in_hardware = false;
                }
                TCA_STATS_BASIC_HW => {
                    statistics.hardware = Counters::decode(attribute)?;
                    in_hardware = true;
                }
                // Follows the counters whose 32 bits of packets are not enough.
                TCA_STATS_PKT64 => {
                    let packets = array(attribute.value, 0).map(u64::from_ne_bytes)?;
                    let counters = if in_hardware { &mut statistics.hardware } else { &mut statistics.total };
                    counters.packets = packets;
                }
                // struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits.
                TCA_STATS_QUEUE => {
                    statistics.drops = u32_at(attribute.value, 8)?;
                    statistics.overlimits = u32_at(attribute.value, 16)?;
                }
                _ => {}
            }
        }
        Ok(statistics)
    }
}

/// `TCA_ACT_USED_HW_STATS`: how the hardware's counters reach the kernel. Neither means that it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HardwareStats {
    /// Asked for when they are read.
    pub immediate: bool,
    /// Polled: mlx5 does so once a second.
    pub delayed: bool,
}

impl HardwareStats {
    const IMMEDIATE: u32 = 1;
    const DELAYED: u32 = 2;

    /// `struct nla_bitfield32`: value, selector.
    pub(super) fn decode(attribute: Attribute<'_>) -> Result<Self, Malformed> {
        let value = u32_at(attribute.value, 0)?;
        Ok(Self { immediate: value & Self::IMMEDIATE != 0, delayed: value & Self::DELAYED != 0 })
    }
}
