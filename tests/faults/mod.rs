//! How a fault is run: a load, the fault, its end, recovery, the verdict over every job, and leak checks. The faults
//! themselves are listed in `matrix.rs`.

mod broker;
mod clients;
mod everything;
mod jobs;
mod lines;
mod matrix;
mod overload;
mod programs;
mod redis;
mod secrets;
mod soak;
mod stage;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use matrix::all;
use selvage_tests::Settings;
use selvage_tests::history::Verdict;
use selvage_tests::load::{Load, Mix};
pub(crate) use stage::Stage;
use tokio::task::JoinSet;

type Inject = fn(Arc<Stage>, Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long unfinished jobs are waited for after a fault: above the longest deadline of a job in these runs.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// One fault.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// Its name on the command line and in the table.
    pub(crate) name: &'static str,
    /// Part of `make test`.
    pub(crate) short: bool,
    /// Part of the whole matrix.
    pub(crate) in_matrix: bool,
    /// Nobody's connection may end without an answer.
    gentle: bool,
    /// What the deployment is started with.
    settings: fn() -> Settings,
    /// What is sent meanwhile.
    mix: fn() -> Mix,
    /// Breaks things for the given time and mends them again.
    inject: Inject,
}

impl Fault {
    const fn new(name: &'static str, inject: Inject) -> Self {
        Self {
            name,
            short: false,
            in_matrix: true,
            gentle: false,
            settings: Settings::default,
            mix: Mix::default,
            inject,
        }
    }

    const fn short(mut self) -> Self {
        self.short = true;
        self
    }

    const fn by_itself(mut self) -> Self {
        self.in_matrix = false;
        self
    }

    const fn gentle(mut self) -> Self {
        self.gentle = true;
        self
    }

    const fn settings(mut self, settings: fn() -> Settings) -> Self {
        self.settings = settings;
        self
    }

    const fn mix(mut self, mix: fn() -> Mix) -> Self {
        self.mix = mix;
        self
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    /// The verdict over all jobs.
    pub(crate) verdict: Verdict,
    /// From the end of the fault until every gateway answered again.
    recovered: Duration,
    /// What must not have happened.
    pub(crate) problems: Vec<String>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}, recovered in {:.1} s",
            self.name,
            self.verdict,
            self.recovered.as_secs_f64()
        )
    }
}

/// Runs one fault from start to verdict. The same seed makes the same choices.
pub(crate) async fn run(fault: Fault, duration: Duration, seed: u64) -> Row {
    let stage = Arc::new(Stage::set((fault.settings)(), seed).await);
    let before = stage.descriptors();
    let load = Load::start(stage.gateways(), (fault.mix)());
    stage.wait_until_work_flows(&load.history()).await;
    // In a task of its own: where it breaks off, the logs are still read.
    let mut injection = JoinSet::new();
    injection.spawn((fault.inject)(Arc::clone(&stage), duration));
    let injected = injection.join_next().await.and_then(Result::err);
    let mended = Instant::now();
    stage.wait_until_served().await;
    let recovered = mended.elapsed();
    let history = load.finish(SETTLE_LIMIT).await;
    let verdict = history.verdict();
    let mut problems = history.problems();
    problems.extend(injected.map(|broken| format!("the fault broke off: {broken}")));
    let lost = history.unfinished().into_iter();
    problems.extend(lost.map(|id| format!("lost: {id}")));
    if fault.gentle && verdict.cut > 0 {
        problems.push(format!(
            "{} connections ended without an answer",
            verdict.cut
        ));
    }
    problems.extend(stage.leaks(&before).await);
    if !problems.is_empty() || !verdict.is_clean() {
        problems.push(stage.logs());
    }
    Row {
        name: fault.name,
        verdict,
        recovered,
        problems,
    }
}

/// The table of `docs/RELIABILITY.md`.
pub(crate) fn table(rows: &[Row], duration: Duration) -> String {
    let head = format!(
        "Each fault lasted {} under 20 requests/s of all kinds, one in eight of them a broken image.\n\n\
         | fault | accepted | finished | answered | refused | slowest refusal, ms | lost | twice | wrong | p99 of waits, ms | serving again after, s |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        humantime::format_duration(duration)
    );
    let line = |row: &Row| {
        let v = &row.verdict;
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} |\n",
            row.name,
            v.accepted,
            v.finished,
            v.answered,
            v.refused,
            v.slowest_refusal_ms,
            v.lost,
            v.twice,
            v.wrong,
            v.p99_ms,
            row.recovered.as_secs_f64()
        )
    };
    rows.iter()
        .map(line)
        .fold(head, |table, line| table + &line)
}
