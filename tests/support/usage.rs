//! What a process uses, as the kernel counts it (proc(5)).

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Resident memory now, in KiB.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn memory_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

/// The highest resident memory so far, in KiB.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn peak_memory_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or_default()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or_else(|_| panic!("a live process {pid} has {field}"))
}

/// Processor time so far, of all threads.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    /// `USER_HZ`, the unit of these fields; it is 100 on every Linux that Rust runs on.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process has a stat");
    // The second field is a name in brackets and may hold anything; utime and stime are fields 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(|text| text.parse::<u32>().expect("ticks are a number"));
    TICK * ticks.sum::<u32>()
}

/// Open file descriptors.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    let listed = fs::read_dir(format!("/proc/{pid}/fd"));
    listed.expect("a live process has descriptors").count()
}

/// Raises this process's own limit of file descriptors, for tests that are thousands of clients.
///
/// # Panics
/// When the hard limit is lower.
pub fn allow_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .unwrap_or_else(|error| panic!("this test needs {wanted} file descriptors: {error}"));
}
