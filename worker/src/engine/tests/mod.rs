//! The engine on a predictor that behaves as its input says.

mod devices;
mod rig;

use std::time::Duration;

use std::sync::{Arc, Mutex};

use prometheus::Registry;
use selvage_core::clock::{Clock, UnixMillis};
use selvage_core::job::Priority;
use selvage_core::job_state::JobState;
use selvage_core::outcome::{FailureCode, Outcome, Scores};
use selvage_core::preview;
use selvage_core::store::{Cancel, Claim, JobStore as _, Seed, WorkerStore as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use rig::*;

use super::*;
use crate::consume::starts::Starts;
use crate::image::decode::Limits;
use crate::metrics::Metrics;
use crate::onnx::{ModelError, Predictor};

#[tokio::test]
async fn every_job_gets_its_own_images_scores() {
    let mut bench = Bench::new(3, 8);
    bench.push(0..200, Priority::Interactive);
    let ends = bench.ends(200).await;
    for (value, ended) in &ends {
        assert_eq!(scores(ended), [f32::from(*value), 0.0]);
        assert!((1..=8).contains(&ended.cost.batch_size));
    }
    assert_eq!(bench.pool.counts().0, 200);
}

#[tokio::test]
async fn what_came_in_while_a_thread_computed_becomes_its_next_batch() {
    let mut bench = Bench::new(1, 8);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push(10..22, Priority::Interactive);
    bench.watched.open_gate();
    bench.ends(13).await;
    let sizes: Vec<usize> = bench.watched.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 8, 4]);
}

#[tokio::test]
async fn queues_leave_by_their_own_exits_and_share_the_batches() {
    let mut bench = Bench::new(1, 8);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push(10..30, Priority::Interactive);
    bench.push(100..120, Priority::Batch);
    bench.watched.open_gate();
    bench.ends(21).await;
    let mut submitted = 0;
    while submitted < 20 {
        let ended = bench.batch.recv().await.unwrap();
        assert!(
            ended
                .iter()
                .all(|e| e.task.job.priority() == Priority::Batch)
        );
        submitted += ended.len();
    }
    // Where both wait, two of eight places are the batch queue's.
    let first = &bench.watched.batches()[1];
    assert_eq!(first.iter().filter(|v| **v >= 100).count(), 2, "{first:?}");
}

#[tokio::test]
async fn a_poisonous_batch_costs_only_the_poisonous_job() {
    for poison in [PANICS, FAILS] {
        let mut bench = Bench::new(1, 8);
        bench.watched.close_gate();
        bench.push([1], Priority::Interactive);
        bench.watched.until_batches(1).await;
        bench.push([2, 3, poison, 4], Priority::Interactive);
        bench.watched.open_gate();
        let ends = bench.ends(5).await;
        for innocent in [1, 2, 3, 4] {
            assert_eq!(scores(&ends[&innocent])[0], f32::from(innocent));
        }
        assert_eq!(failure(&ends[&poison]), FailureCode::InferenceFailed);
        assert_eq!((ends[&2].task.attempt, ends[&poison].task.attempt), (2, 3));
        // After the batch that failed everyone was tried alone, the poisonous one twice more.
        let batches = bench.watched.batches();
        assert!(batches[2..].iter().all(|batch| batch.len() == 1));
        assert_eq!(batches.iter().filter(|b| b.contains(&poison)).count(), 3);
        // A session that panicked is not used again, and the thread goes on with a new one.
        bench.push([9], Priority::Interactive);
        assert_eq!(scores(&bench.ends(1).await[&9])[0], 9.0);
        let opened = *bench.watched.opened.lock().unwrap();
        assert_eq!(opened, if poison == PANICS { 4 } else { 1 });
    }
}

#[tokio::test]
async fn scores_that_are_no_numbers_fail_their_own_image_only() {
    let mut bench = Bench::new(1, 8);
    bench.push([5, NO_NUMBER, 6], Priority::Interactive);
    let ends = bench.ends(3).await;
    assert_eq!(failure(&ends[&NO_NUMBER]), FailureCode::InferenceFailed);
    assert_eq!(ends[&NO_NUMBER].task.attempt, 1);
    assert_eq!((scores(&ends[&5])[0], scores(&ends[&6])[0]), (5.0, 6.0));
}

#[tokio::test]
async fn images_that_cannot_be_decoded_leave_at_once() {
    let mut bench = Bench::new(1, 8);
    let mut broken = task(7, Priority::Interactive);
    broken.job.image = broken.job.image.slice(..20);
    bench.pool.push(vec![broken]).unwrap();
    let ended = bench.interactive.recv().await.unwrap().pop().unwrap();
    assert_eq!(failure(&ended), FailureCode::InvalidImage);
    assert!(bench.watched.batches().is_empty());
}

#[tokio::test]
async fn jobs_past_their_deadline_drop_out_when_they_are_taken() {
    let mut bench = Bench::new(1, 8);
    let mut late = task(7, Priority::Interactive);
    late.job.deadline = UnixMillis(1);
    bench.pool.push(vec![late]).unwrap();
    let ended = bench.interactive.recv().await.unwrap().pop().unwrap();
    assert_eq!(ended.end, End::Outcome(Outcome::Expired));
    // A deadline that passes between decoding and inference counts too.
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push([2], Priority::Interactive);
    let far = UnixMillis::wall().after(std::time::Duration::from_secs(3_600));
    bench.clock.anchor(far);
    bench.watched.open_gate();
    let ends = bench.ends(2).await;
    assert_eq!(ends[&2].end, End::Outcome(Outcome::Expired));
    assert_eq!(bench.watched.batches(), [[1]]);
}

#[tokio::test]
async fn jobs_that_are_to_be_alone_share_no_batch() {
    let mut bench = Bench::new(2, 8);
    let mut tasks: Vec<Task> = (0..20).map(|v| task(v, Priority::Interactive)).collect();
    for value in [3, 4, 11] {
        tasks[value].isolation = Isolation::Alone;
    }
    bench.pool.push(tasks).unwrap();
    bench.ends(20).await;
    for batch in bench.watched.batches() {
        let suspects = batch.iter().filter(|v| [3, 4, 11].contains(*v)).count();
        assert!(suspects == 0 || batch.len() == 1, "{batch:?}");
    }
}

#[tokio::test]
async fn an_exclusive_job_runs_with_nothing_beside_it() {
    let mut bench = Bench::new(2, 4);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    let engine = bench.engine.clone();
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { engine.exclusive().await });
    // While the right is waited for nothing new begins, though a thread is free.
    while bench.pool.busy() > 1 || !bench.is_paused() {
        tokio::task::yield_now().await;
    }
    bench.push([2, 3], Priority::Interactive);
    assert!(waiting.try_join_next().is_none());
    bench.watched.open_gate();
    let exclusive = waiting.join_next().await.unwrap().unwrap();
    assert_eq!((bench.pool.busy(), bench.watched.batches().len()), (0, 1));
    let mut last = task(99, Priority::Interactive);
    last.isolation = Isolation::Exclusive(Box::new(exclusive));
    bench.pool.push(vec![last]).unwrap();
    bench.ends(4).await;
    let batches = bench.watched.batches();
    assert_eq!(batches[1], [99], "{batches:?}");
}

#[tokio::test]
async fn a_closed_pool_runs_what_it_began_returns_the_rest_and_ends() {
    let mut bench = Bench::new(1, 2);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push([2, 3, 4], Priority::Interactive);
    let unstarted = bench.pool.close();
    assert_eq!(unstarted.iter().map(value).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(bench.pool.push(unstarted).is_err());
    bench.watched.open_gate();
    bench.pool.stopped().await;
    assert_eq!(scores(&bench.ends(1).await[&1])[0], 1.0);
}

#[tokio::test]
async fn a_job_that_is_to_be_tried_again_goes_back_if_the_pool_has_closed() {
    let mut bench = Bench::new(1, 2);
    bench.watched.close_gate();
    bench.push([FAILS], Priority::Interactive);
    bench.watched.until_batches(1).await;
    assert!(bench.pool.close().is_empty());
    bench.watched.open_gate();
    assert_eq!(bench.ends(1).await[&FAILS].end, End::HandedBack);
}

#[tokio::test]
async fn one_session_that_cannot_be_opened_ends_the_start() {
    let turn = Mutex::new(0);
    let open = move || -> Result<Box<dyn Predictor>, ModelError> {
        *turn.lock().unwrap() += 1;
        match *turn.lock().unwrap() {
            2 => Err(ModelError::Runtime("asked to".to_owned())),
            _ => Ok(Box::new(Fake {
                watched: Arc::default(),
                max_batch: 1,
            })),
        }
    };
    let (exit, _keep) = mpsc::channel(1);
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let error = Pool::start(PoolSpec {
        metrics: metrics.of_model(&"fake".parse().unwrap()),
        model: Arc::new(model(1)),
        open: Arc::new(open),
        policy: Policy {
            sessions: 3,
            decoders: 2,
        },
        limits: Limits::with_pixels(1),
        clock: Clock::default(),
        starts: Arc::new(Starts::new(store())),
        completions: Completions {
            interactive: exit.clone(),
            batch: exit,
        },
        device_lost: CancellationToken::new(),
    });
    assert!(matches!(error, Err(ModelError::Runtime(text)) if text == "asked to"));
}

impl Bench {
    fn is_paused(&self) -> bool {
        self.pool.is_paused()
    }
}

#[tokio::test]
async fn an_inference_that_takes_too_long_is_broken_off_and_its_images_are_tried_alone() {
    let mut bench = Bench::new(1, 8);
    assert_eq!(bench.pool.oldest_step(), Duration::ZERO);
    assert_eq!(bench.pool.break_off(Duration::ZERO), 0, "nothing runs");
    bench.watched.close_gate();
    bench.push([7], Priority::Interactive);
    bench.watched.until_batches(1).await;
    assert!(bench.pool.oldest_step() > Duration::ZERO);
    assert_eq!(bench.pool.break_off(Duration::from_secs(3600)), 0, "young");
    assert_eq!(bench.pool.break_off(Duration::ZERO), 1);
    let ends = bench.ends(1).await;
    assert_eq!((scores(&ends[&7])[0], ends[&7].task.attempt), (7.0, 2));
}

#[tokio::test]
async fn a_step_that_never_ends_is_abandoned_and_costs_only_the_image_that_hangs() {
    let mut bench = Bench::new(1, 8);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push([2, HANGS, 3], Priority::Interactive);
    bench.watched.open_gate();
    bench.watched.until_batches(2).await;
    assert_eq!(
        bench.pool.abandon_steps(Duration::from_secs(3600)),
        0,
        "young"
    );
    assert_eq!(bench.pool.abandon_steps(Duration::ZERO), 1);
    // The others were in its batch and are run alone, whichever thread comes to it.
    while !bench.watched.batches().contains(&vec![HANGS]) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.pool.abandon_steps(Duration::ZERO), 2);
    let ends = bench.ends(4).await;
    assert_eq!(failure(&ends[&HANGS]), FailureCode::Poison);
    for innocent in [1, 2, 3] {
        assert_eq!(scores(&ends[&innocent])[0], f32::from(innocent));
    }
    // What the stuck threads come back with is nobody's any more, and they end.
    bench.watched.release();
    bench.push([4], Priority::Interactive);
    assert_eq!(scores(&bench.ends(1).await[&4])[0], 4.0);
    while bench.pool.abandon_steps(Duration::from_secs(3600)) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(
        bench.interactive.try_recv().is_err(),
        "an image ended twice"
    );
    assert!(bench.pool.close().is_empty());
    bench.pool.stopped().await;
}

#[tokio::test]
async fn a_pool_that_is_closed_while_a_thread_hangs_comes_to_its_end() {
    let bench = Bench::new(2, 8);
    bench.push([HANGS], Priority::Interactive);
    bench.watched.until_batches(1).await;
    assert!(bench.pool.close().is_empty());
    assert_eq!(bench.pool.abandon_steps(Duration::ZERO), 1);
    bench.pool.stopped().await;
    bench.watched.release();
}

#[tokio::test]
async fn a_preview_ends_with_its_pixels_and_without_inference() {
    let mut bench = Bench::new(1, 4);
    let mut asked = task(7, Priority::Interactive);
    asked.job.image = preview::ask(&bmp(7));
    bench.pool.push(vec![asked]).unwrap();
    let ended = bench.interactive.recv().await.unwrap().remove(0);
    let pixels = Scores::new(vec![7.0]);
    assert_eq!(ended.end, End::Outcome(Outcome::Succeeded(pixels)));
    assert_eq!(ended.cost.batch_size, 0);
    assert!(bench.watched.batches().is_empty());
}

#[tokio::test]
async fn a_preview_of_a_broken_image_is_refused_as_the_image_is() {
    let mut bench = Bench::new(1, 4);
    let mut asked = task(7, Priority::Interactive);
    asked.job.image = preview::ask(b"BM, and no more");
    bench.pool.push(vec![asked]).unwrap();
    let ended = bench.interactive.recv().await.unwrap().remove(0);
    let End::Outcome(Outcome::Failed(failure)) = ended.end else {
        panic!("not refused: {:?}", ended.end);
    };
    assert_eq!(failure.code, FailureCode::InvalidImage);
}

/// A kill charges what the worker's threads had begun, and nothing that waits for them.
#[tokio::test]
async fn only_a_job_that_a_thread_has_begun_is_charged() {
    let bench = Bench::new(1, 1);
    bench.watched.close_gate();
    let begun = task(1, Priority::Batch);
    let waiting = task(2, Priority::Batch);
    let ids = [begun.job.id, waiting.job.id];
    for task in [&begun, &waiting] {
        let seed = Seed::of(&task.job).unwrap();
        assert_eq!(bench.store.check(&[seed]).await.unwrap(), [Claim::Run(1)]);
    }
    bench.pool.push(vec![begun]).unwrap();
    bench.watched.until_batches(1).await;
    bench.pool.push(vec![waiting]).unwrap();
    let records = bench.store.get(&ids).await.unwrap();
    let seen = records.into_iter().map(Option::unwrap);
    let seen: Vec<_> = seen.map(|record| (record.state, record.attempts)).collect();
    assert_eq!(seen, [(JobState::Running, 1), (JobState::Queued, 0)]);
    bench.watched.open_gate();
}

/// A takeover publishes a job again, so a worker may hold several messages of it.
#[tokio::test]
async fn several_messages_of_one_job_are_one_attempt() {
    let mut bench = Bench::new(2, 4);
    let first = task(7, Priority::Batch);
    let id = first.job.id;
    let copies = (0..4).map(|_| Task {
        job: first.job.clone(),
        ..task(7, Priority::Batch)
    });
    let copies: Vec<Task> = copies.collect();
    bench.watched.close_gate();
    bench.pool.push(vec![first]).unwrap();
    bench.watched.until_batches(1).await;
    bench.pool.push(copies).unwrap();
    // The other thread comes to these, and to this one last.
    bench.push([8], Priority::Interactive);
    bench.watched.until_batches(2).await;
    bench.watched.open_gate();
    assert_eq!(bench.batch.recv().await.unwrap().len(), 1);
    bench.ends(1).await;
    assert_eq!(bench.watched.batches(), [vec![7], vec![8]]);
    let record = bench.store.get(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!(record.attempts, 1);
    assert!(bench.batch.try_recv().is_err(), "a copy was run");
}

/// A job that waits for a thread is canceled at once; the thread drops it.
#[tokio::test]
async fn a_job_that_was_canceled_while_it_waited_is_not_run() {
    let mut bench = Bench::new(1, 1);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    let canceled = task(2, Priority::Batch);
    let seed = Seed::of(&canceled.job).unwrap();
    bench
        .store
        .check(std::slice::from_ref(&seed))
        .await
        .unwrap();
    bench
        .pool
        .push(vec![canceled, task(3, Priority::Batch)])
        .unwrap();
    assert_eq!(bench.store.cancel(seed.id).await.unwrap(), Cancel::Canceled);
    bench.watched.open_gate();
    assert_eq!(value(&bench.batch.recv().await.unwrap()[0].task), 3);
    assert_eq!(bench.watched.batches(), [vec![1], vec![3]]);
}

/// Images whose batch failed are tried alone: one message, one attempt in the record.
#[tokio::test]
async fn a_job_whose_inference_is_tried_again_counts_one_attempt() {
    let mut bench = Bench::new(1, 8);
    let failing = task(FAILS, Priority::Batch);
    let id = failing.job.id;
    bench.pool.push(vec![failing]).unwrap();
    let ended = bench.batch.recv().await.unwrap().pop().unwrap();
    assert_eq!(failure(&ended), FailureCode::InferenceFailed);
    assert_eq!(bench.watched.batches().len(), 3);
    let record = bench.store.get(&[id]).await.unwrap().pop().flatten();
    assert_eq!(record.map(|record| record.attempts), Some(1));
}
