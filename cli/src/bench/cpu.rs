//! Processor time from `/proc`: of this process, of watched processes by name, and of the whole machine.

use std::collections::BTreeMap;
use std::fs;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

/// Units of `/proc` times: `USER_HZ` is 100 on every Linux that Rust runs on (proc(5), `sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process whose processor time is recorded, as `NAME=PID`; processes of one name are added up.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    name: String,
    pid: u32,
}

impl FromStr for Watched {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, pid) = text.split_once('=').ok_or("expected NAME=PID")?;
        let pid = pid.parse().map_err(|_| "PID is not a number")?;
        Ok(Self {
            name: name.to_owned(),
            pid,
        })
    }
}

/// Processor seconds used so far.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    own: f64,
    watched: BTreeMap<String, f64>,
    machine: f64,
    stolen: f64,
}

/// Processor seconds used between two samples.
#[derive(Debug, Serialize)]
pub(super) struct Usage {
    /// Seconds by name; this process is `client`.
    pub(super) seconds: BTreeMap<String, f64>,
    /// Cores used by processes that are neither this one nor watched.
    pub(super) foreign_cores: f64,
    /// Cores that the hypervisor gave to other machines.
    pub(super) stolen_cores: f64,
}

impl Sample {
    /// Reads the counters.
    ///
    /// # Errors
    /// If a watched process has ended.
    pub(super) fn take(watched: &[Watched]) -> Result<Self> {
        let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
        for Watched { name, pid } in watched {
            let seconds = process_seconds(&pid.to_string())
                .with_context(|| format!("{name} (process {pid}) has ended"))?;
            *by_name.entry(name.clone()).or_default() += seconds;
        }
        let (machine, stolen) = machine_seconds()?;
        Ok(Self {
            at: Instant::now(),
            own: process_seconds("self")?,
            watched: by_name,
            machine,
            stolen,
        })
    }

    /// What has been used since an earlier sample of the same processes.
    pub(super) fn since(&self, earlier: &Self) -> Usage {
        let elapsed = (self.at - earlier.at).as_secs_f64().max(1e-9);
        let mut seconds: BTreeMap<String, f64> = self
            .watched
            .iter()
            .map(|(name, now)| {
                (
                    name.clone(),
                    now - earlier.watched.get(name).copied().unwrap_or_default(),
                )
            })
            .collect();
        seconds.insert("client".to_owned(), self.own - earlier.own);
        let ours: f64 = seconds.values().sum();
        let machine = self.machine - earlier.machine;
        Usage {
            seconds,
            foreign_cores: ((machine - ours) / elapsed).max(0.0),
            stolen_cores: (self.stolen - earlier.stolen) / elapsed,
        }
    }
}

/// User and system time of a process with all its threads, ended ones included.
fn process_seconds(pid: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    process_ticks(&text)
        .map(|ticks| ticks / TICKS_PER_SECOND)
        .with_context(|| format!("{path} cannot be parsed"))
}

/// Fields 14 and 15 of `/proc/<pid>/stat`; the second field is a name in brackets that may hold anything.
fn process_ticks(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Busy and stolen time of all processors together.
fn machine_seconds() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat cannot be read")?;
    let (busy, stolen) = machine_ticks(&text).context("/proc/stat cannot be parsed")?;
    Ok((busy / TICKS_PER_SECOND, stolen / TICKS_PER_SECOND))
}

/// Busy and stolen ticks of the line `cpu user nice system idle iowait irq softirq steal …`.
fn machine_ticks(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq, steal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 9 0 0 0 120 34 5 6 20 0 1 0 100 0 0";
        assert_eq!(process_ticks(stat), Some(154.0));
        assert_eq!(process_ticks("7 (cut"), None);
    }

    #[test]
    fn machine_times_leave_idle_and_stolen_out_of_busy() {
        let stat = "cpu  10 1 20 5000 300 2 3 40 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(machine_ticks(stat), Some((36.0, 40.0)));
    }

    #[test]
    fn two_processes_of_one_name_are_added_up() {
        let own: Watched = format!("worker={}", std::process::id()).parse().unwrap();
        let one = Sample::take(std::slice::from_ref(&own)).unwrap();
        let two = Sample::take(&[own.clone(), own]).unwrap();
        assert!(two.watched["worker"] >= 2.0 * one.watched["worker"]);
    }

    #[test]
    fn an_ended_process_is_an_error_that_names_it() {
        let nobody: Watched = "gateway=4194305".parse().unwrap(); // above the kernel's largest pid
        assert!(
            Sample::take(&[nobody])
                .unwrap_err()
                .to_string()
                .contains("gateway")
        );
    }
}
