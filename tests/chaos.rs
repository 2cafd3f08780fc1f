//! Breaks things under load, one fault after another, and judges the history of every job. `make chaos`; a short set is
//! part of `make test`. The faults are in `faults/`.
//!
//! Environment: `FAULT=name` runs one, `DURATION=20` is how long each lasts in seconds, `CHAOS=full` runs the whole matrix,
//! `CHAOS_TABLE=file` writes the table there.

mod faults;

use std::env;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faults::{Fault, Row};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

/// How long a fault of the short set lasts.
const SHORT: Duration = Duration::from_secs(5);
/// How long a fault of the whole matrix lasts.
const FULL: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Faults are measured one at a time: two at once would judge each other.
    arguments.test_threads = Some(1);
    let full = env::var("CHAOS").is_ok_and(|set| set == "full");
    let only = env::var("FAULT").ok();
    let duration = match env::var("DURATION")
        .ok()
        .map(|text| text.trim_end_matches('s').parse())
    {
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        Some(Err(_)) => {
            eprintln!("DURATION must be seconds");
            return ExitCode::from(64);
        }
        None if full => FULL,
        None => SHORT,
    };
    let faults: Vec<Fault> = faults::all()
        .into_iter()
        .filter(|fault| {
            only.as_ref()
                .map_or(full || fault.short, |name| fault.name == name)
        })
        .collect();
    if faults.is_empty() {
        eprintln!("FAULT={}: no such fault", only.unwrap_or_default());
        return ExitCode::from(64);
    }
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    let rows = Arc::new(Mutex::new(Vec::new()));
    let trials = faults
        .into_iter()
        .map(|fault| trial(fault, duration, &runtime, &rows))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Ok(path) = env::var("CHAOS_TABLE") {
        let table = faults::table(&rows.lock().unwrap(), duration);
        if let Err(error) = std::fs::write(&path, table) {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

fn trial(
    fault: Fault,
    duration: Duration,
    runtime: &Arc<Runtime>,
    rows: &Arc<Mutex<Vec<Row>>>,
) -> Trial {
    let (runtime, rows) = (Arc::clone(runtime), Arc::clone(rows));
    Trial::test(fault.name, move || {
        let row = runtime.block_on(faults::run(fault, duration));
        println!("{row}");
        let problems = row.problems.join("\n");
        let clean = row.verdict.is_clean() && row.problems.is_empty();
        rows.lock().unwrap().push(row);
        if clean {
            Ok(())
        } else {
            Err(Failed::from(problems))
        }
    })
}
