//! A pool on another device than the CPU: threads that only decode, memory that is short, a device that fails.

use selvage_core::job::Priority;

use super::rig::*;
use crate::engine::{End, Policy};

fn on_a_device(sessions: usize, max_batch: usize) -> Bench {
    let policy = Policy {
        sessions,
        decoders: 3,
    };
    Bench::with(policy, max_batch)
}

#[tokio::test]
async fn every_job_gets_its_own_scores_where_others_decode() {
    let mut bench = on_a_device(2, 8);
    bench.push(0..200, Priority::Interactive);
    for (value, ended) in &bench.ends(200).await {
        assert_eq!(scores(ended), [f32::from(*value), 0.0]);
    }
    assert_eq!((bench.pool.counts().0, bench.pool.sessions()), (200, 2));
}

#[tokio::test]
async fn what_others_decode_meanwhile_is_one_whole_batch() {
    let mut bench = on_a_device(1, 8);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push(10..22, Priority::Interactive);
    while bench.pool.decoded_jobs() < 12 {
        tokio::task::yield_now().await;
    }
    // Only the session is busy; who decodes is none.
    assert_eq!(bench.pool.busy(), 1);
    bench.watched.open_gate();
    bench.ends(13).await;
    let sizes: Vec<usize> = bench.watched.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 8, 4]);
}

#[tokio::test]
async fn a_poisonous_image_costs_only_itself_on_a_device_too() {
    for poison in [PANICS, FAILS] {
        let mut bench = on_a_device(1, 8);
        bench.push([2, 3, poison, 4], Priority::Interactive);
        let ends = bench.ends(4).await;
        for innocent in [2, 3, 4] {
            assert_eq!(scores(&ends[&innocent])[0], f32::from(innocent));
        }
        failure(&ends[&poison]);
    }
}

#[tokio::test]
async fn a_closed_pool_still_runs_what_is_being_decoded() {
    let mut bench = on_a_device(1, 8);
    bench.watched.close_gate();
    bench.push([1], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push(2..6, Priority::Interactive);
    while bench.pool.decoded_jobs() < 4 {
        tokio::task::yield_now().await;
    }
    assert!(bench.pool.close().is_empty());
    bench.watched.open_gate();
    assert_eq!(bench.ends(5).await.len(), 5);
    bench.pool.stopped().await;
}

#[tokio::test]
async fn a_job_for_itself_is_run_by_itself_on_a_device_too() {
    let mut bench = on_a_device(2, 8);
    let mut lone = task(9, Priority::Interactive);
    let exclusive = bench.engine.exclusive().await;
    lone.isolation = crate::engine::Isolation::Exclusive(Box::new(exclusive));
    bench.push(1..5, Priority::Interactive);
    bench.pool.push(vec![lone]).unwrap();
    bench.ends(5).await;
    assert_eq!(bench.watched.batches()[0], [9]);
}

#[tokio::test]
async fn without_memory_for_a_batch_smaller_ones_follow() {
    for mut bench in [on_a_device(1, 8), Bench::new(1, 8)] {
        bench.watched.close_gate();
        bench.push([1], Priority::Interactive);
        bench.watched.until_batches(1).await;
        bench.push([LARGE, 2, 3, 4, 5, 6, 7, 8], Priority::Interactive);
        while bench.pool.waiting() < 8 {
            tokio::task::yield_now().await;
        }
        bench.watched.open_gate();
        let ends = bench.ends(9).await;
        // No attempt was used up, and no job was run alone.
        assert!(ends.values().all(|ended| ended.task.attempt == 1));
        assert_eq!(scores(&ends[&LARGE])[0], f32::from(LARGE));
        let halvings = bench.metrics.out_of_memory.get();
        assert!((1..=2).contains(&halvings), "{halvings}");
        bench.push(10..18, Priority::Interactive);
        bench.ends(8).await;
        let after = bench
            .watched
            .batches()
            .into_iter()
            .filter(|batch| batch.contains(&17));
        assert!(after.map(|batch| batch.len()).all(|images| images <= 4));
    }
}

#[tokio::test]
async fn a_device_that_fails_hands_its_jobs_back_and_gets_a_new_session() {
    let mut bench = on_a_device(1, 8);
    bench.push([BREAKS_DEVICE], Priority::Interactive);
    assert_eq!(bench.ends(1).await[&BREAKS_DEVICE].end, End::HandedBack);
    bench.push([3], Priority::Interactive);
    assert_eq!(scores(&bench.ends(1).await[&3])[0], 3.0);
    assert_eq!(*bench.watched.opened.lock().unwrap(), 2);
    assert_eq!(bench.metrics.device_failures.get(), 1);
    assert!(!bench.device_lost.is_cancelled());
}

#[tokio::test]
async fn a_device_that_is_gone_ends_the_worker_and_loses_no_job() {
    let mut bench = on_a_device(1, 8);
    bench.watched.close_gate();
    bench.push([BREAKS_DEVICE], Priority::Interactive);
    bench.watched.until_batches(1).await;
    bench.push([4, 5, 6], Priority::Interactive);
    while bench.pool.decoded_jobs() < 3 {
        tokio::task::yield_now().await;
    }
    *bench.watched.gone.lock().unwrap() = true;
    bench.watched.open_gate();
    assert_eq!(bench.ends(1).await[&BREAKS_DEVICE].end, End::HandedBack);
    bench.device_lost.cancelled().await;
    // What was decoded is not run by a device that is gone.
    assert_eq!(bench.pool.close().len(), 3);
    bench.pool.stopped().await;
    assert_eq!(bench.watched.batches().len(), 1);
}
