//! Promises about dead letters: they arrive until they are done, and what is filed stays until it is taken out.

use bytes::Bytes;
use futures_util::FutureExt;

use super::fixture::take;
use super::{Fixture, alone, eventually, promised};
use crate::clock::UnixMillis;
use crate::job::{Job, JobId, Lane};
use crate::queue::DELIVERY_LIMIT;
use crate::queue::dead_letters::{Arrival, Content, Count, Letter, Reason, Walk};

async fn next(fixture: &Fixture) -> Option<Arrival> {
    let next = fixture.dead_letters.next().await;
    next.expect("a queue that is up can be asked")
}

async fn count(fixture: &Fixture, arrived: u64, filed: u64) {
    let expected = Count { arrived, filed };
    eventually("so many dead letters", || async {
        fixture.dead_letters.count().await.ok() == Some(expected)
    })
    .await;
}

async fn walk(fixture: &Fixture) -> Box<dyn Walk> {
    let walk = fixture.dead_letters.walk().await;
    walk.expect("the letters can be walked over")
}

async fn rest(walk: &mut Box<dyn Walk>) -> Vec<Letter> {
    let mut letters = Vec::new();
    while let Some(letter) = walk.next().await.expect("the walk goes on") {
        letters.push(letter);
    }
    letters
}

async fn all(fixture: &Fixture) -> Vec<Letter> {
    let mut walk = walk(fixture).await;
    let letters = rest(&mut walk).await;
    assert_eq!(u64::try_from(letters.len()), Ok(walk.total()));
    walk.end().await;
    letters
}

fn letter(reason: Reason, content: Content) -> Letter {
    let id = match &content {
        Content::Job(job) => job.id,
        Content::Foreign(_) => JobId::new(),
    };
    Letter {
        id,
        reason,
        attempts: 3,
        queue: "somewhere".to_owned(),
        died_at: UnixMillis(1_700_000_000_123),
        content,
    }
}

fn of(job: Job) -> Letter {
    letter(Reason::Poison, Content::Job(Box::new(job)))
}

/// Files a letter for each number, one of them of bytes nobody can read.
async fn filed(fixture: &Fixture) -> Vec<Letter> {
    let junk = Content::Foreign(Bytes::from_static(b"junk"));
    let mut letters = vec![letter(Reason::Undecodable, junk)];
    letters.extend((0..4).map(|n| of(promised(fixture.job(n)))));
    for letter in &letters {
        let filing = fixture.dead_letters.file(letter).await;
        filing.expect("a queue that is up files letters");
    }
    letters
}

/// A message that was set aside comes with its job and its reason, again and again, until somebody is done with it.
pub async fn a_dead_letter_arrives_until_it_is_done(fixture: &mut Fixture) {
    assert!(next(fixture).await.is_none());
    let jobs = [promised(fixture.job(1)), alone(promised(fixture.job(2)))];
    fixture.publish_each(&jobs).await;
    let mut consumer = fixture.consumer(Lane::Batch, 1).await;
    let mut aside = 0;
    while aside < jobs.len() {
        let delivery = take(&mut consumer).await;
        aside += delivery.jobs.len();
        delivery.settle.dead_letter().await;
    }
    count(fixture, 2, 0).await;
    for _ in 0..2 {
        let arrival = next(fixture).await.expect("it is still there");
        assert_eq!(arrival.letters[0].job(), Some(&jobs[0]));
        drop(arrival);
        count(fixture, 2, 0).await;
    }
    for (job, attempts) in jobs.iter().zip([1, 2]) {
        let arrival = next(fixture).await.expect("one for each job");
        assert_eq!(arrival.letters.len(), 1, "one job, one letter");
        let letter = &arrival.letters[0];
        assert_eq!((letter.id, letter.job()), (job.id, Some(job)));
        assert_eq!(
            (letter.reason, letter.attempts),
            (Reason::Rejected, attempts)
        );
        let filing = fixture.dead_letters.file(letter).await;
        filing.expect("a queue that is up files letters");
        arrival.done().await;
    }
    count(fixture, 0, 2).await;
    assert!(next(fixture).await.is_none());
}

/// A walk shows every letter as it was filed, oldest first, however often it is taken.
pub async fn filed_letters_are_walked_over_as_often_as_wanted(fixture: &mut Fixture) {
    assert_eq!(all(fixture).await, []);
    let letters = filed(fixture).await;
    for _ in 0..DELIVERY_LIMIT + 5 {
        assert_eq!(all(fixture).await, letters);
    }
    // A walk that ends early has changed nothing either.
    let mut early = walk(fixture).await;
    early.next().await.expect("the walk goes on");
    early.end().await;
    assert_eq!(all(fixture).await, letters);
    count(fixture, 0, 5).await;
}

/// What is taken out is gone, the rest stays in its order.
pub async fn letters_are_taken_out_one_by_one_or_all(fixture: &mut Fixture) {
    let mut letters = filed(fixture).await;
    let mut one = walk(fixture).await;
    while let Some(letter) = one.next().await.expect("the walk goes on") {
        if letter == letters[2] {
            one.remove().await.expect("a letter can be taken out");
        }
    }
    one.end().await;
    letters.remove(2);
    assert_eq!(all(fixture).await, letters);
    let mut rest = walk(fixture).await;
    rest.next().await.expect("the walk goes on");
    assert_eq!(rest.purge().await.expect("letters can be purged"), 3);
    rest.end().await;
    assert_eq!(all(fixture).await, letters[..1]);
}

/// The second walk begins when the first has ended, and misses nothing.
pub async fn walks_wait_for_each_other(fixture: &mut Fixture) {
    let letters = filed(fixture).await;
    let mut first = walk(fixture).await;
    first.next().await.expect("the walk goes on");
    let mut second = Box::pin(fixture.dead_letters.walk());
    assert!((&mut second).now_or_never().is_none());
    let (second, ()) = futures_util::join!(second, first.end());
    let mut second = second.expect("the letters can be walked over");
    assert_eq!(rest(&mut second).await, letters);
    second.end().await;
}
