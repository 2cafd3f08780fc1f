//! The faults, and how each is run: a load, the fault, its end, recovery, the verdict over every job, and leak checks.

mod broker;
mod gateways;
mod jobs;
mod network;
mod redis;
mod stage;
mod workers;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    ($($module:ident::$name:ident $text:literal $(short $short:literal)? $(with $settings:expr)? $(, load $mix:expr)?;)*) => {
        vec![$(Fault {
            name: $text,
            short: faults!(@short $($short)?),
            settings: faults!(@settings $($settings)?),
            mix: faults!(@mix $($mix)?),
            inject: |stage, duration| Box::pin($module::$name(stage, duration)),
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
        workers::kill "worker-kill" short true;
        workers::crash_after_claim "worker-crash-after-claim" short true with || failpoint("after_claim:20");
        workers::crash_after_inference "worker-crash-after-inference" with || failpoint("after_inference:20");
        workers::crash_after_store "worker-crash-after-store" with || failpoint("after_store:20");
        workers::crash_before_ack "worker-crash-before-ack" short true with || failpoint("before_ack:20");
        workers::pause "worker-pause";
        workers::rolling_restart "worker-rolling-restart" short true;
        gateways::kill "gateway-kill" short true;
        gateways::crash_after_record "gateway-crash-after-record" with || failpoint("after_record:20");
        gateways::crash_after_publish "gateway-crash-after-publish" with || failpoint("after_publish:20");
        gateways::crash_after_confirm "gateway-crash-after-confirm" short true with || failpoint("after_confirm:20");
        gateways::rolling_restart "gateway-rolling-restart" short true;
        broker::kill "broker-kill" short true;
        broker::stop "broker-stop";
        broker::pause "broker-pause" short true;
        broker::memory_alarm "broker-memory-alarm" short true;
        broker::disk_alarm "broker-disk-alarm";
        broker::queue_deleted "broker-queue-deleted" short true;
        broker::queue_full "broker-queue-full" short true with broker::tiny_lanes;
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

/// A deployment whose programs crash when they pass a named point for the twentieth time.
fn failpoint(name: &'static str) -> Settings {
    Settings::default().with("SELVAGE_FAILPOINT", name)
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
