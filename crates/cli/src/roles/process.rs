//! What the process costs in time and memory, under the names that Prometheus's own libraries give it. On Linux only:
//! elsewhere nothing is shown.
//!
//! Called by `admin`. Read off `/proc` when somebody scrapes. Descriptors are in `descriptors`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Adds the metrics of this process.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    #[cfg(target_os = "linux")]
    fn encode(&self, out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // Without `/proc` there is nothing to tell, and the other metrics count all the same.
        linux::read().map_or(Ok(()), |read| linux::show(&read, out))
    }

    #[cfg(not(target_os = "linux"))]
    fn encode(&self, _: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;

    use procfs::process::Process;
    use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
    use prometheus_client::metrics::counter::ConstCounter;
    use prometheus_client::metrics::gauge::ConstGauge;
    use prometheus_client::registry::Unit;

    pub(super) struct Read {
        cpu_seconds: f64,
        start_seconds: f64,
        resident_bytes: u64,
        virtual_bytes: u64,
    }

    pub(super) fn read() -> Option<Read> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        Some(Read {
            cpu_seconds: seconds(stat.utime + stat.stime),
            start_seconds: procfs::boot_time_secs().ok()? as f64 + seconds(stat.starttime),
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
        })
    }

    pub(super) fn show(read: &Read, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Processor time used, by the process and by the system for it.";
        let cpu = ConstCounter::new(read.cpu_seconds);
        cpu.encode(out.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), cpu.metric_type())?)?;
        let start = read.start_seconds;
        let (resident, mapped) = (read.resident_bytes as f64, read.virtual_bytes as f64);
        for (name, help, unit, value) in [
            (
                "process_start_time",
                "When the process started, since the Unix epoch.",
                Some(Unit::Seconds),
                start,
            ),
            ("process_resident_memory", "Memory held.", Some(Unit::Bytes), resident),
            ("process_virtual_memory", "Address space mapped.", Some(Unit::Bytes), mapped),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(out.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        Ok(())
    }
}
