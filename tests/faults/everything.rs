//! Every fault at once: kills, pauses, alarms and full queues, while clients time out and repeat, cancel, wait, stream and
//! take webhooks. What the clients do and how their jobs are judged is in `clients.rs`.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use selvage_tests::private::Service;
use selvage_tests::program::Program;
use selvage_tests::{Settings, keys};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Stage;
use super::broker::ctl;
use super::clients::Clients;

/// Longer than the services are away in any run: a job that expires without a start is a fault of ours.
const JOB_DEADLINE: Duration = Duration::from_secs(600);

/// Three workers, webhooks to this machine, and jobs that outlive every pause.
pub(super) fn settings() -> Settings {
    Settings::default()
        .workers(3)
        .with("SELVAGE_JOB_DEADLINE", JOB_DEADLINE.as_secs())
        .with("SELVAGE_WEBHOOK_SECRET", keys::WEBHOOK_SECRET)
        .with("SELVAGE_WEBHOOK_ALLOW_PRIVATE", true)
        .with("SELVAGE_WEBHOOK_RETRY", 1)
}

/// Breaks programs and services side by side until the time is over, mends everything, and judges the clients' jobs.
pub(super) async fn everything(stage: Arc<Stage>, duration: Duration) {
    let end = Instant::now() + duration;
    let clients = Clients::start(&stage).await;
    let mut breaking = JoinSet::new();
    let stopped = CancellationToken::new();
    breaking.spawn(break_programs(
        Arc::clone(&stage),
        stage.choices(),
        stopped.clone(),
    ));
    breaking.spawn(break_services(Arc::clone(&stage), stage.choices(), end));
    while Instant::now() < end {
        sleep(Duration::from_secs(60).min(end.saturating_duration_since(Instant::now()))).await;
        println!("{}", clients.summary());
    }
    stopped.cancel();
    while let Some(ended) = breaking.join_next().await {
        ended.expect("the faults themselves do not break off");
    }
    stage.fleet.revive_gateways();
    stage.fleet.revive_workers();
    stage.wait_until_served().await;
    clients.finish().await;
}

/// Kills a gateway or a worker every half to three seconds, or stops its clock for one to forty.
async fn break_programs(stage: Arc<Stage>, mut choice: StdRng, stopped: CancellationToken) {
    let mut paused: Vec<(u32, Instant)> = Vec::new();
    while !stopped.is_cancelled() {
        let pause = Duration::from_millis(choice.random_range(500..3000));
        stopped.run_until_cancelled(sleep(pause)).await;
        resume(&stage, &mut paused, Instant::now());
        let (number, stop) = (choice.random_range(0..16_usize), choice.random_bool(0.2));
        let length = Duration::from_secs(choice.random_range(1..=40));
        let act = |programs: &mut Vec<Program>| {
            let victim = number % programs.len();
            let victim = &mut programs[victim];
            if !victim.is_alive() {
                return None;
            }
            victim.signal(if stop { "STOP" } else { "KILL" });
            stop.then(|| (victim.pid(), Instant::now() + length))
        };
        // Of five programs three are workers. One clock at a time stands still, so that somebody serves.
        if stop && !paused.is_empty() {
            continue;
        }
        paused.extend(if number < 6 {
            stage.fleet.with_gateways(act)
        } else {
            stage.fleet.with_workers(act)
        });
        tokio::task::block_in_place(|| {
            stage.fleet.revive_gateways();
            stage.fleet.revive_workers();
        });
    }
    resume(
        &stage,
        &mut paused,
        Instant::now() + Duration::from_secs(60),
    );
}

/// Lets those programs go on whose pause is over by then.
fn resume(stage: &Stage, paused: &mut Vec<(u32, Instant)>, by: Instant) {
    paused.retain(|(pid, until)| {
        if *until > by {
            return true;
        }
        let go_on = |programs: &mut Vec<Program>| {
            for program in programs.iter_mut().filter(|program| program.pid() == *pid) {
                if program.is_alive() {
                    program.signal("CONT");
                }
            }
        };
        stage.fleet.with_gateways(go_on);
        stage.fleet.with_workers(go_on);
        false
    });
}

/// Kills, pauses, fills and alarms the broker and Redis, one after the other, with half to three seconds between.
async fn break_services(stage: Arc<Stage>, mut choice: StdRng, end: Instant) {
    while Instant::now() < end {
        sleep(Duration::from_millis(choice.random_range(500..3000))).await;
        let short = Duration::from_millis(choice.random_range(500..3000));
        let long = Duration::from_secs(choice.random_range(1..=40));
        match choice.random_range(0..8) {
            0 | 1 => outage(&stage, Service::Broker, ["kill", "start"], short).await,
            2 | 3 => outage(&stage, Service::Redis, ["kill", "start"], short).await,
            4 => outage(&stage, Service::Broker, ["pause", "resume"], long).await,
            5 => outage(&stage, Service::Redis, ["pause", "resume"], long).await,
            6 => {
                ctl(&stage, &["set_vm_memory_high_watermark", "0.00001"]);
                sleep(short).await;
                ctl(&stage, &["set_vm_memory_high_watermark", "0.6"]);
            }
            _ => {
                let queues = r"\.(interactive|batch)$";
                let full = [
                    "set_policy",
                    "--apply-to",
                    "queues",
                    "full",
                    queues,
                    r#"{"max-length":1}"#,
                ];
                ctl(&stage, &full);
                sleep(short).await;
                ctl(&stage, &["clear_policy", "full"]);
            }
        }
        // Otherwise the broker would be away nearly all the time, and nothing would be accepted.
        sleep(Duration::from_secs(choice.random_range(2..8))).await;
    }
}

async fn outage(
    stage: &Stage,
    service: Service,
    [begin, mend]: [&'static str; 2],
    length: Duration,
) {
    stage.control(service, begin);
    sleep(length).await;
    stage.control(service, mend);
}
