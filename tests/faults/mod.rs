//! The faults, and how each is run: a load, the fault, its end, recovery, the verdict over every job, and leak checks.

mod broker;
mod jobs;
mod network;
mod programs;
mod redis;
mod stage;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use programs::Kind;
use selvage_tests::Settings;
use selvage_tests::history::Verdict;
use selvage_tests::load::{Load, Mix};
pub(crate) use stage::Stage;

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
    /// What the deployment is started with.
    settings: fn() -> Settings,
    /// What is sent meanwhile.
    mix: fn() -> Mix,
    /// Breaks things for the given time and mends them again.
    inject: Inject,
}

macro_rules! faults {
    ($($module:ident::$name:ident $(($argument:expr))? $text:literal $(short $short:literal)? $(with $settings:expr)? $(, load $mix:expr)?;)*) => {
        vec![$(Fault {
            name: $text,
            short: faults!(@short $($short)?),
            settings: faults!(@settings $($settings)?),
            mix: faults!(@mix $($mix)?),
            inject: |stage, duration| Box::pin($module::$name(stage, duration $(, $argument)?)),
        }),*]
    };
    (@short) => { false };
    (@short $short:literal) => { $short };
    (@mix) => { Mix::default };
    (@mix $mix:expr) => { $mix };
    (@settings) => { Settings::default };
    (@settings $settings:expr) => { $settings };
}

/// The whole matrix.
pub(crate) fn all() -> Vec<Fault> {
    faults! {
        programs::kill(Kind::Worker) "worker-kill" short true;
        programs::crash "worker-crash-after-claim" short true with || failpoint("after_claim");
        programs::crash "worker-crash-after-inference" with || failpoint("after_inference");
        programs::crash "worker-crash-after-store" with || failpoint("after_store");
        programs::crash "worker-crash-before-ack" short true with || failpoint("before_ack");
        programs::pause_worker "worker-pause";
        programs::rolling_restart(Kind::Worker) "worker-rolling-restart" short true;
        programs::kill(Kind::Gateway) "gateway-kill" short true;
        programs::rolling_restart(Kind::Gateway) "gateway-rolling-restart" short true;
        broker::kill "broker-kill" short true;
        broker::stop "broker-stop";
        broker::pause "broker-pause" short true;
        broker::memory_alarm "broker-memory-alarm" short true;
        broker::disk_alarm "broker-disk-alarm";
        broker::queue_deleted "broker-queue-deleted" short true;
        broker::connections_closed "broker-connections-closed";
        network::broker_cut_in_mid_frame "broker-cut-in-mid-frame" short true;
        network::broker_latency "broker-latency";
        network::broker_blackhole "broker-blackhole" short true;
        network::broker_mute "broker-confirm-lost" short true;
        network::redis_latency "redis-latency";
        network::redis_blackhole "redis-blackhole" short true;
        redis::kill "redis-kill" short true;
        redis::pause "redis-pause" short true;
        redis::flush "redis-flushall" short true, load || Mix { jobs: false, ..Mix::default() };
        redis::script_flush "redis-script-flush";
        redis::full "redis-full" short true;
        redis::read_only "redis-read-only";
        jobs::poison "poison" short true with jobs::poisonous;
    }
}

/// A fleet whose workers crash at this point with each image whose hash begins with 0: with one in sixteen.
fn failpoint(name: &str) -> Settings {
    Settings::default().with("SELVAGE_FAILPOINT", format!("{name}@0"))
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

/// Runs one fault from start to verdict.
pub(crate) async fn run(fault: Fault, duration: Duration) -> Row {
    let stage = Arc::new(Stage::set((fault.settings)()).await);
    let load = Load::start(stage.gateways(), (fault.mix)());
    stage.wait_until_work_flows(&load.history()).await;
    (fault.inject)(Arc::clone(&stage), duration).await;
    let mended = Instant::now();
    stage.wait_until_served().await;
    let recovered = mended.elapsed();
    let history = load.finish(SETTLE_LIMIT).await;
    let mut problems = history.problems();
    problems.extend(
        history
            .unfinished()
            .into_iter()
            .map(|id| format!("lost: {id}")),
    );
    problems.extend(stage.leaks().await);
    if !problems.is_empty() {
        problems.push(stage.logs());
    }
    Row {
        name: fault.name,
        verdict: history.verdict(),
        recovered,
        problems,
    }
}

/// The table of `docs/RELIABILITY.md`.
pub(crate) fn table(rows: &[Row], duration: Duration) -> String {
    let head = format!(
        "Each fault lasted {} s under 20 requests/s of all kinds.\n\n\
         | fault | accepted | finished | refused | lost | twice | wrong | p99 of waits, ms | serving again after, s |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        duration.as_secs()
    );
    let line = |row: &Row| {
        let v = &row.verdict;
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} |\n",
            row.name,
            v.accepted,
            v.finished,
            v.refused,
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
