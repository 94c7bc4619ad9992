//! What the process takes, under the names that client libraries of Prometheus have for it.

use std::fmt;

use nix::time::{ClockId, clock_gettime};
use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Adds the families `process_*` to a registry that has no prefix.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Own { started: started() }));
}

#[derive(Debug)]
struct Own {
    /// Seconds since the epoch. Taken once, as a clock that is set meanwhile must not look like a restart.
    started: Option<f64>,
}

/// By the clock: `/proc/stat`, which has the time of the boot, is hidden from a unit with `ProcSubset=pid`.
#[allow(clippy::cast_precision_loss)]
fn started() -> Option<f64> {
    let seconds = |clock| {
        let time = clock_gettime(clock).ok()?;
        Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
    };
    let booted = seconds(ClockId::CLOCK_REALTIME)? - seconds(ClockId::CLOCK_BOOTTIME)?;
    let ticks = Process::myself().ok()?.stat().ok()?.starttime;
    Some(booted + ticks as f64 / procfs::ticks_per_second() as f64)
}

#[allow(clippy::cast_precision_loss)]
fn number(of: u64) -> ConstGauge<f64> {
    ConstGauge::new(of as f64)
}

impl Collector for Own {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        if let Some(started) = self.started {
            let help = "Start time of the process since the epoch, in seconds";
            put("process_start_time_seconds", help, &ConstGauge::new(started))?;
        }
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            #[allow(clippy::cast_precision_loss)]
            let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
            let help = "User and system time of the process, in seconds";
            put("process_cpu_seconds", help, &ConstCounter::new(cpu))?;
            let resident = stat.rss.saturating_mul(procfs::page_size());
            put("process_resident_memory_bytes", "Resident memory, in bytes", &number(resident))?;
            put("process_virtual_memory_bytes", "Virtual memory, in bytes", &number(stat.vsize))?;
        }
        if let Ok(count) = process.fd_count() {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            put("process_open_fds", "File descriptors that are open", &number(count))?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            put("process_max_fds", "File descriptors that may be open", &number(most))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::{Format, encode};

    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse()
            .unwrap()
    }

    #[test]
    fn the_process_is_described() {
        let mut registry = Registry::default();
        register(&mut registry);
        let held = std::fs::File::open("/dev/null").unwrap();
        // Some time of a processor, so that it is not 0.
        let begun = std::time::Instant::now();
        while begun.elapsed().as_millis() < 50 {}
        let text = encode(&registry, Format::Text).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let started = value(&text, "process_start_time_seconds");
        assert!(started <= now + 1.0 && started > now - 3600.0, "{started} against {now}");
        assert!(value(&text, "process_cpu_seconds_total") > 0.0);
        let (resident, all) =
            (value(&text, "process_resident_memory_bytes"), value(&text, "process_virtual_memory_bytes"));
        assert!(resident > 100_000.0 && all >= resident, "{text}");
        let open = value(&text, "process_open_fds");
        assert!(open >= 4.0 && value(&text, "process_max_fds") >= open, "{text}");
        drop(held);
        assert!(text.contains("# TYPE process_cpu_seconds_total counter"), "{text}");
        let text = encode(&registry, Format::OpenMetrics).unwrap();
        assert!(text.contains("# TYPE process_cpu_seconds counter") && text.ends_with("# EOF\n"), "{text}");
    }
}
