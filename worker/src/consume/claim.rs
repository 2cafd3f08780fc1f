//! What a delivery's jobs become: pure rules, no calls.

use selvage_core::cache::Cached;
use selvage_core::catalog::Model;
use selvage_core::clock::UnixMillis;
use selvage_core::job::Job;
use selvage_core::outcome::{Failure, FailureCode, Outcome};
use selvage_core::store::{Claim, MAX_ATTEMPTS};

use crate::engine::End;

/// Times a job whose model file no worker is known to hold is given back before it is given up: a roll-out is under way, and the
/// worker that holds the file may be the next.
const GIVEN_BACK: u32 = 5;

/// Where a delivery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Its jobs are run here. So many starts of them may have been seen before.
    Run {
        /// Starts seen by this message and by earlier ones.
        starts: u32,
    },
    /// Each job gets a message of its own: one of them may have taken a worker down, or some are for another worker.
    Split,
    /// Back at once: some jobs are for another worker. When it comes again it is split.
    GiveBack,
    /// On to the worker that holds the file, or back after a pause: it is not here.
    Hold,
    /// The same, but where nobody is known to hold the file the job ends.
    Gone,
}

/// Decides where a delivery of a model's queue goes.
pub(crate) fn route(jobs: &[Job], earlier_deliveries: u32, model: &Model) -> Route {
    let ours =
        |job: &Job| job.key.model == model.digest && job.key.preprocessing == model.preprocessing;
    let foreign = jobs.iter().filter(|job| !ours(job)).count();
    let again = earlier_deliveries > 0;
    match jobs {
        [] => Route::Run { starts: 0 },
        [_, _, ..] if again => Route::Split,
        [_, _, ..] if foreign == jobs.len() => Route::Hold,
        [_, _, ..] if foreign > 0 => Route::GiveBack,
        [_] if foreign > 0 && earlier_deliveries > GIVEN_BACK => Route::Gone,
        [_] if foreign > 0 => Route::Hold,
        [first, ..] => Route::Run {
            starts: first.earlier_attempts.saturating_add(earlier_deliveries),
        },
    }
}

/// What becomes of one job.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is run; this is the given start, counted from 1.
    Run(u32),
    /// It ends without being run.
    End(End),
    /// It has ended before, or nobody waits for it: its message is acknowledged.
    Settled(Why),
}

/// Why a job needs nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its record has an end.
    Finished,
    /// Its deadline passed, and nobody waits any longer.
    Late,
    /// It was started too often for what is known of it.
    AttemptsExhausted,
}

/// What becomes of an asynchronous job, by its record and the cache.
pub(crate) fn submitted(claim: Claim, cached: Option<Cached>) -> Verdict {
    match (claim, cached) {
        (Claim::Finished, _) => Verdict::Settled(Why::Finished),
        (Claim::CancelRequested, _) => Verdict::End(End::Outcome(Outcome::Canceled)),
        (_, Some(cached)) => Verdict::End(End::Cached(Outcome::Succeeded(cached.scores))),
        (Claim::Run(start), None) => Verdict::Run(start),
        (Claim::Overdue, None) => Verdict::End(End::Outcome(Outcome::Expired)),
        (Claim::Exhausted, None) => {
            let detail = "the job took its worker down each time it was started";
            let failure = Failure::new(FailureCode::Poison, detail);
            Verdict::End(End::Outcome(Outcome::Failed(failure)))
        }
    }
}

/// What becomes of a job somebody waits for.
///
/// Its starts are known by the broker's count alone, and the broker counts whatever was unacked by a worker when it died,
/// run or not. So a job whose attempts seem exhausted may be the innocent neighbour of another. It is not called poison, but
/// dropped: its client's request becomes an asynchronous job, whose record counts starts exactly.
pub(crate) fn waited_for(
    job: &Job,
    starts: u32,
    now: UnixMillis,
    cached: Option<Cached>,
) -> Verdict {
    if now > job.deadline {
        return Verdict::Settled(Why::Late);
    }
    match cached {
        Some(cached) => Verdict::End(End::Cached(Outcome::Succeeded(cached.scores))),
        None if starts >= MAX_ATTEMPTS => Verdict::Settled(Why::AttemptsExhausted),
        None => Verdict::Run(starts + 1),
    }
}

/// The end of a job whose model nobody holds.
pub(crate) fn gone() -> End {
    let detail = "no worker holds the model file this job was accepted for";
    End::Outcome(Outcome::Failed(Failure::new(
        FailureCode::ModelGone,
        detail,
    )))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use selvage_core::catalog::{Channels, Input, Output, Task};
    use selvage_core::job::{CachePolicy, JobId};
    use selvage_core::key::{Digest, PredictionKey};
    use selvage_core::outcome::Scores;

    use super::*;

    fn model() -> Model {
        Model {
            name: "tiny".parse().unwrap(),
            version: "1".to_owned(),
            description: String::new(),
            folder: "tiny".into(),
            file: "tiny.onnx".into(),
            external: Vec::new(),
            digest: Digest::of(b"model"),
            task: Task::Classify,
            labels: vec!["a".to_owned()].into(),
            max_batch: 1,
            device: None,
            device_strict: false,
            input: Input::new(1, 1, Channels::Gray),
            output: Output::default(),
            preprocessing: 7,
        }
    }

    fn job(model: &[u8], preprocessing: u64) -> Job {
        Job {
            id: JobId::new(),
            model: "tiny".parse().unwrap(),
            key: PredictionKey {
                model: Digest::of(model),
                preprocessing,
                image: Digest::of(b"image"),
            },
            created_at: UnixMillis(0),
            deadline: UnixMillis(1_000),
            cache: CachePolicy::default(),
            earlier_attempts: 0,
            reply_to: None,
            request_id: None,
            traceparent: None,
            submission: None,
            image: bytes::Bytes::new(),
        }
    }

    fn cached() -> Option<Cached> {
        Some(Cached {
            scores: Scores::new(vec![0.5]),
            ttl: Duration::from_secs(1),
            made_at: UnixMillis(0),
        })
    }

    #[test]
    fn fresh_deliveries_are_run_and_starts_are_added_up() {
        let ours = || job(b"model", 7);
        let attempts_exhausted = Job {
            earlier_attempts: 2,
            ..ours()
        };
        assert_eq!(
            route(&[ours(), ours()], 0, &model()),
            Route::Run { starts: 0 }
        );
        assert_eq!(route(&[ours()], 1, &model()), Route::Run { starts: 1 });
        assert_eq!(
            route(&[attempts_exhausted], 1, &model()),
            Route::Run { starts: 3 }
        );
    }

    #[test]
    fn groups_that_come_again_are_split() {
        let jobs = [job(b"model", 7), job(b"model", 7)];
        assert_eq!(route(&jobs, 1, &model()), Route::Split);
        assert_eq!(
            route(&[job(b"model", 7), job(b"other", 7)], 1, &model()),
            Route::Split
        );
    }

    #[test]
    fn jobs_of_other_models_or_preparations_are_passed_on_and_given_up_in_the_end() {
        for foreign in [job(b"other", 7), job(b"model", 8)] {
            let alone = std::slice::from_ref(&foreign);
            for deliveries in 0..=GIVEN_BACK {
                assert_eq!(route(alone, deliveries, &model()), Route::Hold);
            }
            assert_eq!(route(alone, GIVEN_BACK + 1, &model()), Route::Gone);
            let group = [foreign.clone(), foreign.clone()];
            assert_eq!(route(&group, 0, &model()), Route::Hold);
            assert_eq!(route(&group, 1, &model()), Route::Split);
            // On its first way a mixed group goes back whole: split now, its parts would look fresh and be grouped again.
            assert_eq!(
                route(&[job(b"model", 7), foreign], 0, &model()),
                Route::GiveBack
            );
        }
    }

    #[test]
    fn a_record_decides_what_becomes_of_a_asynchronous_job() {
        let end = |verdict| match verdict {
            Verdict::End(End::Outcome(outcome)) => outcome.as_str(),
            other => panic!("no end: {other:?}"),
        };
        assert_eq!(submitted(Claim::Run(2), None), Verdict::Run(2));
        assert_eq!(
            submitted(Claim::Finished, cached()),
            Verdict::Settled(Why::Finished)
        );
        assert_eq!(end(submitted(Claim::CancelRequested, cached())), "canceled");
        assert_eq!(end(submitted(Claim::Overdue, None)), "expired");
        let Verdict::End(End::Outcome(Outcome::Failed(failure))) =
            submitted(Claim::Exhausted, None)
        else {
            panic!("an exhausted job did not fail");
        };
        assert_eq!(failure.code, FailureCode::Poison);
    }

    #[test]
    fn an_answer_in_the_cache_ends_any_unfinished_submission() {
        for claim in [Claim::Run(1), Claim::Overdue, Claim::Exhausted] {
            let verdict = submitted(claim, cached());
            assert!(matches!(verdict, Verdict::End(End::Cached(_))), "{claim:?}");
        }
    }

    #[test]
    fn jobs_nobody_waits_for_are_let_go() {
        let job = job(b"model", 7);
        let (before, after) = (UnixMillis(1_000), UnixMillis(1_001));
        assert_eq!(waited_for(&job, 0, before, None), Verdict::Run(1));
        assert_eq!(waited_for(&job, 2, before, None), Verdict::Run(3));
        assert_eq!(
            waited_for(&job, 3, before, None),
            Verdict::Settled(Why::AttemptsExhausted)
        );
        assert_eq!(
            waited_for(&job, 0, after, cached()),
            Verdict::Settled(Why::Late)
        );
        assert!(matches!(
            waited_for(&job, 9, before, cached()),
            Verdict::End(End::Cached(_))
        ));
    }
}
