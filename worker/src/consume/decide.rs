//! Jobs that have a record or were started before: asks record and cache, and follows what [`crate::consume::claim`] says of them.

use std::sync::Arc;

use selvage_core::cache::Cached;
use selvage_core::job::Job;
use selvage_core::outcome::Cost;
use selvage_core::store::{Claim, MAX_ATTEMPTS, Seed};
use tokio_util::sync::CancellationToken;

use crate::consume::claim::{self, Verdict, Why};
use crate::consume::finish::retry;
use crate::consume::intake::{Arrival, Intake};
use crate::engine::{End, Exclusive, Isolation, Task};

impl Intake {
    /// Jobs with a record, and jobs that were started before: record and cache say what becomes of them.
    pub(crate) async fn decide(self: Arc<Self>, arrival: Arrival, gone: bool) {
        let (cached, claims) = tokio::join!(
            self.cached(&arrival.jobs),
            self.claims(&arrival.jobs, &arrival.stop)
        );
        let Some(claims) = claims else {
            // Ends this queue's consumer; it is opened again when the store is back.
            arrival.stop.cancel();
            return self.give_back(&arrival.jobs, arrival.settle);
        };
        let verdicts = self.verdicts(&arrival, cached, claims);
        let exclusive = if verdicts.iter().any(is_last) && !gone {
            let right = self.engine.exclusive();
            match arrival.stop.run_until_cancelled(right).await {
                Some(right) => Some(right),
                None => return self.give_back(&arrival.jobs, arrival.settle),
            }
        } else {
            None
        };
        self.follow(arrival, verdicts, exclusive, gone).await;
    }

    /// What becomes of each job.
    fn verdicts(
        &self,
        arrival: &Arrival,
        cached: Vec<Option<Cached>>,
        claims: Vec<Claim>,
    ) -> Vec<Verdict> {
        let now = self.backends.clock.now();
        let mut claims = claims.into_iter();
        let verdict = |(job, cached): (&Job, _)| match job.submission {
            // A store that answers for fewer jobs than it was asked about is no reason to lose one.
            Some(_) => claims
                .next()
                .map_or(Verdict::End(End::HandedBack), |claim| {
                    claim::submitted(claim, cached)
                }),
            None => claim::waited_for(job, arrival.starts, now, cached),
        };
        arrival.jobs.iter().zip(cached).map(verdict).collect()
    }

    /// Per job what the cache has, if the job may look.
    async fn cached(&self, jobs: &[Job]) -> Vec<Option<Cached>> {
        let readers: Vec<_> = jobs
            .iter()
            .filter(|job| job.cache.read)
            .map(|job| job.key)
            .collect();
        if readers.is_empty() {
            return vec![None; jobs.len()];
        }
        let mut found = match self.backends.cache.get(&readers).await {
            Ok(found) => found.into_iter(),
            Err(error) => {
                self.metrics.cache_errors.inc();
                tracing::debug!(error = %error.0, "the cache was not asked");
                Vec::new().into_iter()
            }
        };
        let of = |job: &Job| {
            if job.cache.read {
                found.next().flatten()
            } else {
                None
            }
        };
        jobs.iter().map(of).collect()
    }

    /// Per asynchronous job what its record says. `None`: the store stays away.
    async fn claims(&self, jobs: &[Job], patience: &CancellationToken) -> Option<Vec<Claim>> {
        let seeds: Vec<Seed> = jobs.iter().filter_map(Seed::of).collect();
        if seeds.is_empty() {
            return Some(Vec::new());
        }
        let check = || self.backends.store.check(&seeds);
        retry(&self.metrics, patience, check).await
    }

    /// Sends each job where its verdict says. The right to be the only one that computes is its last start's.
    async fn follow(
        &self,
        arrival: Arrival,
        verdicts: Vec<Verdict>,
        mut exclusive: Option<Exclusive>,
        gone: bool,
    ) {
        let (starts, loaded) = (arrival.starts, Arc::clone(&arrival.loaded));
        let (mut run, mut ended) = (Vec::new(), Vec::new());
        for (mut task, verdict) in arrival.into_tasks().into_iter().zip(verdicts) {
            match verdict {
                Verdict::Run(_) if gone => ended.push(task.ends(claim::gone(), Cost::default())),
                Verdict::Run(start) => {
                    task.attempt = start;
                    task.isolation = match exclusive.take_if(|_| start >= MAX_ATTEMPTS) {
                        Some(right) => Isolation::Exclusive(Box::new(right)),
                        None if starts > 0 || start > 1 => Isolation::Alone,
                        None => Isolation::Together,
                    };
                    run.push(task);
                }
                Verdict::End(end) => ended.push(task.ends(end, Cost::default())),
                Verdict::Settled(why) => self.let_go(task, why),
            }
        }
        drop(exclusive);
        self.completions.send(ended).await;
        self.run(&loaded, run).await;
    }

    fn let_go(&self, task: Task, why: Why) {
        match why {
            Why::Finished => {}
            Why::Late => self.metrics.ended(&task.job.model, "expired"),
            Why::AttemptsExhausted => {
                tracing::warn!(job.id = %task.job.id, "a job was dropped: its attempts are exhausted");
                self.metrics.ended(&task.job.model, "dropped");
            }
        }
        task.delivery_guard.done();
    }
}

/// Whether the job gets its last start.
const fn is_last(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Run(start) if *start >= MAX_ATTEMPTS)
}
