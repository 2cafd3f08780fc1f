//! Splits an envelope that came back, so that one poison job cannot take its neighbours along.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{Delivery, PublishError, Queue};
use crate::job::Job;
use crate::program::Backoff;

/// How long a full or missing queue is waited for before the envelope goes back as it was. Far below the broker's limit
/// on unsettled deliveries, and long enough that [`super::DELIVERY_LIMIT`] returns are not used up by a short jam.
const PATIENCE: Duration = Duration::from_secs(10);

/// Publishes each job of a delivery in a message of its own, then settles the delivery.
///
/// A job's `earlier_attempts` grows by what the delivery has seen, so a new message does not make it look fresh, and it
/// travels alone from now on. It keeps its id, its reply address and its deadline. Where a job cannot be published, the
/// whole delivery goes back.
///
/// Then jobs that were published before travel twice, as they do when the process ends before the delivery is settled.
/// That costs a computation and nothing else: an answer is a pure function of the job's key, of two reports about one
/// id the first counts, and a record's first terminal state stays.
pub async fn split(queue: &dyn Queue, delivery: Delivery) {
    let Delivery {
        mut jobs,
        earlier_deliveries,
        settle,
    } = delivery;
    for job in &mut jobs {
        job.earlier_attempts = job.earlier_attempts.saturating_add(earlier_deliveries);
    }
    let give_up = Instant::now() + PATIENCE;
    let mut backoff = Backoff::for_broker();
    loop {
        let (left, may_pass) = publish_all(queue, jobs).await;
        if left.is_empty() {
            return settle.ack();
        }
        let pause = backoff.pause();
        if !may_pass || Instant::now() + pause > give_up {
            return settle.give_back();
        }
        sleep(pause).await;
        jobs = left;
    }
}

/// The jobs that were not taken, and whether retrying may help.
async fn publish_all(queue: &dyn Queue, jobs: Vec<Job>) -> (Vec<Job>, bool) {
    let verdicts = join_all(jobs.iter().map(|job| queue.publish(job.clone()))).await;
    let may_pass = !verdicts
        .iter()
        .any(|verdict| matches!(verdict, Err(PublishError::TooLarge)));
    let left = jobs
        .into_iter()
        .zip(verdicts)
        .filter_map(|(job, verdict)| verdict.is_err().then_some(job))
        .collect();
    (left, may_pass)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::job::{JobId, ModelName, Priority, ReplyAddress};
    use crate::outcome::Report;
    use crate::queue::suite::job;
    use crate::queue::{Consumer, Health, QueueError, Settle, Settlement};

    /// Refuses jobs with what it is given, then takes them.
    #[derive(Debug, Default)]
    struct Refusing {
        answers: Mutex<Vec<PublishError>>,
        taken: Mutex<Vec<(JobId, u32)>>,
    }

    #[async_trait]
    impl Queue for Refusing {
        async fn publish(&self, job: Job) -> Result<(), PublishError> {
            if let Some(answer) = self.answers.lock().unwrap().pop() {
                return Err(answer);
            }
            let taken = (job.id, job.earlier_attempts);
            self.taken.lock().unwrap().push(taken);
            Ok(())
        }

        async fn consume(
            &self,
            _: &ModelName,
            _: Priority,
            _: u16,
            _: CancellationToken,
        ) -> Result<Box<dyn Consumer>, QueueError> {
            Err(QueueError::Refused("publishing only".to_owned()))
        }

        fn reply_address(&self) -> Option<ReplyAddress> {
            None
        }

        async fn reply(&self, _: &ReplyAddress, _: Vec<Report>) -> Result<(), QueueError> {
            Ok(())
        }

        async fn depth(&self, _: &ModelName, _: Priority) -> Result<u64, QueueError> {
            Ok(0)
        }

        fn health(&self) -> Health {
            Health::Up
        }

        async fn close(&self) {}
    }

    #[derive(Debug)]
    struct Settled(std::sync::Arc<Mutex<Option<Settlement>>>);

    impl Settle for Settled {
        fn settle(self: Box<Self>, settlement: Settlement) {
            *self.0.lock().unwrap() = Some(settlement);
        }
    }

    /// Splits three jobs, the last of which was started twice before; what was taken, and what became of the delivery.
    async fn split_three(answers: Vec<PublishError>) -> (Vec<u32>, Settlement) {
        let model = "first".parse().unwrap();
        let mut jobs: Vec<_> = (0..3).map(|n| job(&model, n)).collect();
        jobs[2].earlier_attempts = 2;
        let queue = Refusing {
            answers: answers.into(),
            ..Refusing::default()
        };
        let settled = std::sync::Arc::default();
        let delivery = Delivery {
            jobs,
            earlier_deliveries: 1,
            settle: Box::new(Settled(std::sync::Arc::clone(&settled))),
        };
        split(&queue, delivery).await;
        let taken = queue.taken.into_inner().unwrap();
        let mut attempts: Vec<_> = taken.into_iter().map(|(_, attempts)| attempts).collect();
        attempts.sort_unstable();
        let settled = settled.lock().unwrap().take();
        (attempts, settled.unwrap())
    }

    #[tokio::test]
    async fn each_job_is_published_with_what_it_has_seen() {
        assert_eq!(split_three(vec![]).await, (vec![1, 1, 3], Settlement::Ack));
    }

    #[tokio::test]
    async fn a_short_jam_is_waited_for_and_no_job_is_sent_twice() {
        let jam = vec![PublishError::Full, PublishError::Full];
        assert_eq!(split_three(jam).await, (vec![1, 1, 3], Settlement::Ack));
    }

    #[tokio::test]
    async fn what_cannot_be_published_goes_back() {
        let (taken, settled) = split_three(vec![PublishError::TooLarge]).await;
        assert_eq!((taken.len(), settled), (2, Settlement::GiveBack));
    }
}
