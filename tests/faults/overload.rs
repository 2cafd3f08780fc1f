//! Ten times as much work as can be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use selvage_tests::load::Mix;
use selvage_tests::usage::{memory_kib, peak_memory_kib};
use selvage_tests::{Answer, Client, Settings, eventually, pictures};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Stage;

/// Places of each gateway: what one worker does well within a wait, on a debug build and a busy machine too. At a third of
/// a second for a picture, 16 places of each of two gateways were a wait of ten seconds, and half of what was accepted late.
const PLACES: usize = 6;
/// How long each request waits.
const WAIT: Duration = Duration::from_secs(10);
/// Requests under way at the knee: enough that the worker is never idle, far fewer than there are places.
const AT_THE_KNEE: usize = 4;
/// How many times the peak is offered.
const TIMES: f64 = 10.0;
/// Least part of the peak that must be kept. Clients, gateways and broker share the cores with the worker.
const KEPT: f64 = 0.75;
/// Most a process may grow in an overload, in KiB.
const MAY_GROW_KIB: u64 = 256 * 1024;
/// Longest time until nothing is left of it.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// One worker, and places for what it does in some seconds.
pub(super) fn few_places() -> Settings {
    Settings::default()
        .workers(1)
        .with("SELVAGE_MAX_IN_FLIGHT", PLACES)
}

/// What runs beside it, to be judged as in any fault.
pub(super) fn beside() -> Mix {
    Mix {
        per_second: 4.0,
        ..Mix::default()
    }
}

/// Measures the peak, offers ten times as much, and compares.
pub(super) async fn tenfold(stage: Arc<Stage>, duration: Duration) {
    let clients: Vec<Client> = stage.gateways().iter().map(|at| Client::new(*at)).collect();
    let picture = Arc::new(pictures::laborious());
    let peak = at_the_knee(&clients, &picture, duration).await;
    let before = memory(&stage, memory_kib);
    let seen = overloaded(&clients, &picture, peak * TIMES, duration).await;
    println!("overload: peak {peak:.1}/s; {seen}");
    for ((name, before), after) in before.into_iter().zip(memory(&stage, peak_memory_kib)) {
        println!(
            "overload: {name}: {} MiB before, {} MiB at most",
            before / 1024,
            after.1 / 1024
        );
        assert!(
            after.1 < before + MAY_GROW_KIB,
            "{name} grows without bound"
        );
    }
    for client in clients {
        eventually("nothing is in flight", IDLE_LIMIT, || async {
            let left = client.metric("selvage_gateway_in_flight", "").await.ok()?;
            (left <= 2.0).then_some(())
        })
        .await;
    }
    assert!(seen.refused > seen.accepted, "that was no overload: {seen}");
    assert_eq!(seen.late, 0, "accepted work outlives its wait: {seen}");
    assert!(seen.p99 < WAIT, "accepted work waits too long: {seen}");
    assert!(
        seen.per_second >= peak * KEPT,
        "throughput collapses from {peak:.1}/s: {seen}"
    );
}

/// What an overload looked like from outside.
struct Seen {
    offered: f64,
    accepted: usize,
    refused: usize,
    late: usize,
    per_second: f64,
    p99: Duration,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "offered {:.0}/s: {} answered ({:.1}/s, p99 {:?}), {} too late, {} refused with 429",
            self.offered, self.accepted, self.per_second, self.p99, self.late, self.refused
        )
    }
}

/// Answers per second when always a few requests are under way.
async fn at_the_knee(clients: &[Client], picture: &Arc<Vec<u8>>, duration: Duration) -> f64 {
    let began = Instant::now();
    let mut loops = JoinSet::new();
    for client in clients.iter().cycle().take(AT_THE_KNEE) {
        let (client, picture) = (client.clone(), Arc::clone(picture));
        loops.spawn(async move {
            let mut answered = 0;
            while began.elapsed() < duration {
                post(&client, &picture).await.expect(200);
                answered += 1;
            }
            answered
        });
    }
    let answered: u32 = loops.join_all().await.into_iter().sum();
    f64::from(answered) / began.elapsed().as_secs_f64()
}

/// Offers so many requests per second, whether the ones before are answered or not.
async fn overloaded(
    clients: &[Client],
    picture: &Arc<Vec<u8>>,
    per_second: f64,
    duration: Duration,
) -> Seen {
    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for client in clients.iter().cycle() {
        if began.elapsed() >= duration {
            break;
        }
        ticks.tick().await;
        let (client, picture) = (client.clone(), Arc::clone(picture));
        requests.spawn(async move {
            let began = Instant::now();
            (post(&client, &picture).await, began.elapsed())
        });
    }
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    let mut took = Vec::new();
    for (answer, elapsed) in requests.join_all().await {
        *counts.entry(answer.status).or_default() += 1;
        match answer.status {
            200 => took.push(elapsed),
            // Its wait ran out: accepted, and too late.
            202 => {}
            _ => drop(answer.expect_problem(429, "queue_full")),
        }
    }
    took.sort();
    let p99 = took.get(took.len().saturating_sub(1) * 99 / 100);
    Seen {
        offered: counts.values().sum::<usize>() as f64 / duration.as_secs_f64(),
        accepted: took.len(),
        refused: counts.get(&429).copied().unwrap_or_default(),
        late: counts.get(&202).copied().unwrap_or_default(),
        per_second: took.len() as f64 / began.elapsed().as_secs_f64(),
        p99: p99.copied().unwrap_or_default(),
    }
}

async fn post(client: &Client, picture: &[u8]) -> Answer {
    let path = format!("/predict?wait={}", WAIT.as_secs());
    let answer = client.post_image(&path, pictures::renewed(picture)).await;
    answer.expect("an overloaded gateway answers")
}

/// Memory of each program.
fn memory(stage: &Stage, read: fn(u32) -> u64) -> Vec<(String, u64)> {
    let of = |name: &str, pids: Vec<u32>| {
        let each = |(n, pid): (usize, u32)| (format!("{name} {n}"), read(pid));
        pids.into_iter().enumerate().map(each).collect::<Vec<_>>()
    };
    let pids = |programs: &mut Vec<selvage_tests::program::Program>| {
        programs
            .iter()
            .map(|program| program.pid())
            .collect::<Vec<_>>()
    };
    let mut all = of("gateway", stage.fleet.with_gateways(pids));
    all.extend(of("worker", stage.fleet.with_workers(pids)));
    all
}
