//! Gateways and workers that die, stop and restart.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use selvage_tests::program::Program;
use tokio::time::{Instant, sleep};

use super::Stage;

/// Longest time a program may take to end when it is asked to.
const END_LIMIT: Duration = Duration::from_secs(40);

/// One kind of program of a fleet; there are two of each.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Gateway,
    Worker,
}

impl Kind {
    fn with(self, stage: &Stage, act: impl FnOnce(&mut Vec<Program>)) {
        match self {
            Self::Gateway => stage.fleet.with_gateways(act),
            Self::Worker => stage.fleet.with_workers(act),
        }
    }

    fn revive(self, stage: &Stage) -> usize {
        match self {
            Self::Gateway => stage.fleet.revive_gateways(),
            Self::Worker => stage.fleet.revive_workers(),
        }
    }

    /// Ends all of them and starts others, with the settings of now.
    fn replace(self, stage: &Stage) {
        tokio::task::block_in_place(|| {
            self.with(stage, |programs| programs.iter_mut().for_each(end_now));
        });
        self.revive(stage);
    }

    async fn wait_until_back(self, stage: &Stage, number: usize) {
        match self {
            Self::Gateway => stage.fleet.wait_until_ready(number).await,
            Self::Worker => stage.fleet.wait_for_workers(2).await,
        }
    }
}

/// Kills one or the other every one to three seconds, with work in its hands, and starts another in its place.
pub(super) async fn kill(stage: Arc<Stage>, duration: Duration, kind: Kind) {
    kill_every(&stage, duration, kind, 1000..3000).await;
}

/// Kills one of these programs after each pause of so many milliseconds, and starts another in its place.
pub(super) async fn kill_every(
    stage: &Stage,
    duration: Duration,
    kind: Kind,
    pauses_ms: Range<u64>,
) {
    let end = Instant::now() + duration;
    let mut choice = stage.choices();
    while Instant::now() < end {
        kind.with(stage, |programs| {
            programs[choice.random_range(0..programs.len())].signal("KILL");
        });
        sleep(Duration::from_millis(
            choice.random_range(pauses_ms.clone()),
        ))
        .await;
        kind.revive(stage);
    }
}

/// Asks one after the other to stop, and starts another in its place.
pub(super) async fn rolling_restart(stage: Arc<Stage>, duration: Duration, kind: Kind) {
    let end = Instant::now() + duration;
    for turn in 0.. {
        tokio::task::block_in_place(|| {
            kind.with(&stage, |programs| {
                let program = &mut programs[turn % 2];
                program.signal("TERM");
                let status = program.wait_for_end(END_LIMIT);
                assert!(
                    status.success(),
                    "a program that is asked to stop ends with 0: {status}"
                );
            });
        });
        kind.revive(&stage);
        kind.wait_until_back(&stage, turn % 2).await;
        if turn > 0 && Instant::now() > end {
            return;
        }
    }
}

/// Programs that crash by themselves at a point, with each image whose hash begins with 0 (one in sixteen), are followed by
/// others; at last by ones without it.
pub(super) async fn crash(stage: Arc<Stage>, duration: Duration, kind: Kind, point: &str) {
    let end = Instant::now() + duration;
    stage.fleet.set("SELVAGE_FAILPOINT", format!("{point}@0"));
    kind.replace(&stage);
    let mut crashes = 0;
    // A point that a short run did not reach is waited for: without a crash it would prove nothing.
    while Instant::now() < end || (crashes == 0 && Instant::now() < end + END_LIMIT) {
        crashes += kind.revive(&stage);
        sleep(Duration::from_millis(200)).await;
    }
    assert!(
        crashes > 0,
        "no program crashed at its failpoint: this run proved nothing"
    );
    stage.fleet.forget("SELVAGE_FAILPOINT");
    kind.replace(&stage);
}

fn end_now(program: &mut Program) {
    if program.is_alive() {
        program.signal("KILL");
    }
    program.wait_for_end(END_LIMIT);
}

/// Stops a worker's clock, long enough for the broker to give up on it, then lets it go on.
pub(super) async fn pause_worker(stage: Arc<Stage>, duration: Duration) {
    stage
        .fleet
        .with_workers(|workers| workers[0].signal("STOP"));
    sleep(duration.max(Duration::from_secs(35))).await;
    stage
        .fleet
        .with_workers(|workers| workers[0].signal("CONT"));
}
