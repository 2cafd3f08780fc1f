//! Breaks things under load, one fault after another, and judges the history of every job. `make chaos`; a short set is
//! part of `make test`. The faults are in `faults/`.
//!
//! Environment: `FAULT=name` runs one, `DURATION=20s` is how long each lasts, `SEED=7` repeats a run's choices, `CHAOS=full`
//! runs the whole matrix, `CHAOS_TABLE=file` writes the table there.

mod faults;

use std::env;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faults::{Fault, Row};
use libtest_mimic::{Arguments, Failed, Trial};
use selvage_tests::program::leaked_secrets;
use tokio::runtime::Runtime;

/// How long a fault of the short set lasts.
const SHORT: Duration = Duration::from_secs(5);
/// How long a fault of the whole matrix lasts.
const FULL: Duration = Duration::from_secs(20);
/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

/// What the environment asks for.
struct Run {
    full: bool,
    only: Option<String>,
    duration: Duration,
    seed: u64,
}

impl Run {
    fn from_environment() -> Result<Self, String> {
        let full = env::var("CHAOS").is_ok_and(|set| set == "full");
        let duration = match env::var("DURATION") {
            Ok(text) => humantime::parse_duration(&text)
                .map_err(|error| format!("DURATION={text}: {error}, for example 20s or 10m"))?,
            Err(_) if full => FULL,
            Err(_) => SHORT,
        };
        let seed = match env::var("SEED") {
            Ok(text) => text
                .parse()
                .map_err(|error| format!("SEED={text}: {error}"))?,
            Err(_) => rand::random::<u32>().into(),
        };
        Ok(Self {
            full,
            only: env::var("FAULT").ok().filter(|name| !name.is_empty()),
            duration,
            seed,
        })
    }

    fn faults(&self) -> Result<Vec<Fault>, String> {
        let wanted = |fault: &Fault| match &self.only {
            Some(name) => fault.name == name,
            None if self.full => fault.in_matrix,
            None => fault.short,
        };
        let faults: Vec<Fault> = faults::all().into_iter().filter(wanted).collect();
        if faults.is_empty() {
            let names: Vec<_> = faults::all().iter().map(|fault| fault.name).collect();
            return Err(format!("no such fault; there are {}", names.join(", ")));
        }
        Ok(faults)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let run = Run::from_environment().and_then(|run| Ok((run.faults()?, run)));
    let (faults, run) = match run {
        Ok(run) => run,
        Err(problem) => {
            eprintln!("chaos: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    // Faults of the matrix are measured, so they run one at a time. Those of the short set mostly wait.
    arguments.test_threads = Some(if run.full { 1 } else { 2 });
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    let rows = Arc::new(Mutex::new(Vec::new()));
    let trials = faults
        .into_iter()
        .map(|fault| trial(fault, (run.duration, run.seed), &runtime, &rows))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Ok(path) = env::var("CHAOS_TABLE") {
        let table = faults::table(&rows.lock().unwrap(), run.duration);
        if let Err(error) = std::fs::write(&path, table) {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

fn trial(
    fault: Fault,
    (duration, seed): (Duration, u64),
    runtime: &Arc<Runtime>,
    rows: &Arc<Mutex<Vec<Row>>>,
) -> Trial {
    let (runtime, rows) = (Arc::clone(runtime), Arc::clone(rows));
    Trial::test(fault.name, move || {
        println!("{}: SEED={seed}", fault.name);
        let mut row = runtime.block_on(faults::run(fault, duration, seed));
        println!("{row}");
        row.problems.extend(
            leaked_secrets()
                .into_iter()
                .map(|line| format!("a secret stood in a log: {line}")),
        );
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
