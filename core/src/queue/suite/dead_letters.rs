//! Guarantees about dead-lettered messages.

use super::fixture::take;
use super::{Fixture, alone, eventually, submitted};
use crate::dead_letters::Reason;
use crate::job::Priority;
use crate::queue::dead_letters::Arrival;

async fn next(fixture: &Fixture) -> Option<Arrival> {
    let next = fixture.dead_letters.next().await;
    next.expect("a queue that is up can be asked")
}

async fn count(fixture: &Fixture, expected: u64) {
    eventually("so many dead letters", || async {
        fixture.dead_letters.count().await.ok() == Some(expected)
    })
    .await;
}

/// A dead-lettered message comes with its job and its reason, again and again, until it is acked.
pub async fn a_dead_letter_arrives_until_it_is_acked(fixture: &mut Fixture) {
    assert!(next(fixture).await.is_none());
    let jobs = [submitted(fixture.job(1)), alone(submitted(fixture.job(2)))];
    fixture.publish_each(&jobs).await;
    let mut consumer = fixture.consumer(Priority::Batch, 1).await;
    let mut dead = 0;
    while dead < jobs.len() {
        let delivery = take(&mut consumer).await;
        dead += delivery.jobs.len();
        delivery.settle.dead_letter();
    }
    count(fixture, 2).await;
    for _ in 0..2 {
        let arrival = next(fixture).await.expect("it is still there");
        assert_eq!(arrival.dead_letters[0].job(), Some(&jobs[0]));
        drop(arrival);
        count(fixture, 2).await;
    }
    for (job, attempts) in jobs.iter().zip([1, 2]) {
        let arrival = next(fixture).await.expect("one for each job");
        assert_eq!(arrival.dead_letters.len(), 1, "one job, one dead letter");
        let dead_letter = &arrival.dead_letters[0];
        assert_eq!((dead_letter.id, dead_letter.job()), (job.id, Some(job)));
        assert_eq!(
            (dead_letter.reason, dead_letter.attempts),
            (Reason::Rejected, attempts)
        );
        arrival.ack();
    }
    count(fixture, 0).await;
    assert!(next(fixture).await.is_none());
}
