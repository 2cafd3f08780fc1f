//! A long run of good and bad requests with one worker killed a minute; memory and descriptors are printed as it goes.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use selvage_tests::program::Program;
use tokio::time::{Instant, sleep};

use super::Stage;

/// How often a worker is killed.
const KILL_EVERY: Duration = Duration::from_secs(60);

/// Kills a worker each minute. The gateways live through it all: what they hold at the end is judged by the leak checks.
pub(super) async fn soak(stage: Arc<Stage>, duration: Duration) {
    let began = Instant::now();
    let mut choice = stage.choices();
    while began.elapsed() < duration {
        sleep(KILL_EVERY.min(duration.saturating_sub(began.elapsed()))).await;
        println!(
            "after {:>4} s: {}",
            began.elapsed().as_secs(),
            sizes(&stage)
        );
        let victim = choice.random_range(0..2);
        stage.fleet.with_workers(|workers| {
            workers[victim].signal("KILL");
            workers[victim].wait_for_end(Duration::from_secs(10));
        });
        stage.fleet.revive_workers();
    }
}

fn sizes(stage: &Stage) -> String {
    let of = |kind: &'static str| {
        move |programs: &mut Vec<Program>| -> Vec<String> {
            let one = |program: &Program| {
                let memory = program.resident_kib().unwrap_or_default() / 1024;
                format!(
                    "{kind} {memory} MiB, {} descriptors",
                    program.descriptors().unwrap_or_default()
                )
            };
            programs.iter().map(one).collect()
        }
    };
    let mut all = stage.fleet.with_gateways(of("gateway"));
    all.extend(stage.fleet.with_workers(of("worker")));
    all.join("; ")
}
