//! The standard process metrics of Prometheus clients, read from `/proc` at each
//! scrape. CPU time comes from the process clock, because the collector of the library
//! counts whole seconds, which is too coarse for a mostly idle daemon. A value that
//! cannot be read stays as it was.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, Gauge, IntGauge, Registry};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::catalogue as names;
use crate::core::metrics::collectors;

#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds_total: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    virtual_memory_bytes: IntGauge,
    resident_memory_bytes: IntGauge,
    threads: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        let start: Gauge = collectors::float_gauge(r, &names::PROCESS_START_TIME_SECONDS);
        // The metrics are created right after the start of the process.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        start.set(since.unwrap_or_default().as_secs_f64());
        Self {
            cpu_seconds_total: collectors::float_counter(r, &names::PROCESS_CPU_SECONDS_TOTAL),
            open_fds: collectors::gauge(r, &names::PROCESS_OPEN_FDS),
            max_fds: collectors::gauge(r, &names::PROCESS_MAX_FDS),
            virtual_memory_bytes: collectors::gauge(r, &names::PROCESS_VIRTUAL_MEMORY_BYTES),
            resident_memory_bytes: collectors::gauge(r, &names::PROCESS_RESIDENT_MEMORY_BYTES),
            threads: collectors::gauge(r, &names::PROCESS_THREADS),
        }
    }

    pub(super) fn refresh(&self) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        self.cpu_seconds_total
            .inc_by((cpu - self.cpu_seconds_total.get()).max(0.0));
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            self.max_fds.set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        if let Some(open) = entries("/proc/self/fd") {
            // Minus the descriptor of the folder that is being read.
            self.open_fds.set(open - 1);
        }
        if let Some(threads) = entries("/proc/self/task") {
            self.threads.set(threads);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (field, gauge) in [
            ("VmSize:", &self.virtual_memory_bytes),
            ("VmRSS:", &self.resident_memory_bytes),
        ] {
            if let Some(bytes) = bytes_of(&status, field) {
                gauge.set(bytes);
            }
        }
    }
}

fn entries(folder: &str) -> Option<i64> {
    let found = fs::read_dir(folder).ok()?.count();
    i64::try_from(found).ok()
}

/// A size from `/proc/self/status`, which has kB.
fn bytes_of(status: &str, field: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read_from_proc() {
        let registry = Registry::new();
        let process = ProcessMetrics::new(&registry);
        process.refresh();
        assert!(process.cpu_seconds_total.get() > 0.0);
        assert!(process.open_fds.get() >= 3);
        assert!(process.max_fds.get() > process.open_fds.get());
        assert!(process.resident_memory_bytes.get() > 1 << 20);
        assert!(process.virtual_memory_bytes.get() > process.resident_memory_bytes.get());
        assert!(process.threads.get() >= 1);
        let before = process.cpu_seconds_total.get();
        process.refresh();
        assert!(process.cpu_seconds_total.get() >= before);
    }
}
