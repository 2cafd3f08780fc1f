//! What every store of dead letters must do, as functions any backend's tests can run. Nothing here knows a backend.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{Bounds, Content, DeadLetter, DeadLetterStore, Page, Reason, Summary};
use crate::clock::UnixMillis;
use crate::job::{Job, JobId, Priority};
use crate::queue::suite::{job, submitted};

/// Makes one test of each guarantee; `$make(bounds)` gives a future of a fresh `Arc<dyn DeadLetterStore>`.
#[macro_export]
macro_rules! dead_letter_suite {
    ($make:path) => {
        $crate::dead_letter_suite!($make:
            an_empty_store_has_no_dead_letters
            a_dead_letter_is_read_as_it_was_stored
            a_dead_letter_is_stored_once
            dead_letters_are_listed_oldest_first_in_pages
            a_summary_says_what_a_dead_letter_holds
            a_removed_dead_letter_is_gone
            one_of_many_removals_finds_it
            purged_dead_letters_are_gone
            past_the_number_the_oldest_are_deleted
            past_the_bytes_the_oldest_are_deleted
            removed_dead_letters_leave_room
        );
    };
    ($make:path: $($submission:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $submission() {
                let bounds = $crate::dead_letters::suite::BOUNDS;
                $crate::dead_letters::suite::$submission($make(bounds).await).await;
            }
        )*
    };
}

/// A store as the suite takes it.
pub type Store = Arc<dyn DeadLetterStore>;

/// The bounds of the suite's stores.
pub const BOUNDS: Bounds = Bounds {
    dead_letters: 8,
    bytes: 100_000,
};

/// A dead letter of that content; each number makes a later one.
#[must_use]
pub fn dead(n: u32, reason: Reason, content: Content) -> DeadLetter {
    let id = match &content {
        Content::Job(job) => job.id,
        Content::Foreign(_) => JobId::new(),
    };
    DeadLetter {
        id,
        reason,
        attempts: 3,
        queue: "somewhere".to_owned(),
        died_at: UnixMillis(1_700_000_000_000 + u64::from(n)),
        content,
    }
}

/// A dead letter of a job.
#[must_use]
pub fn dead_job(n: u32) -> DeadLetter {
    let job = submitted(job(&"first".parse().expect("a good name"), n));
    dead(n, Reason::Poison, Content::Job(Box::new(job)))
}

/// A dead letter of so many bytes that are no job.
#[must_use]
pub fn dead_bytes(n: u32, length: usize) -> DeadLetter {
    let bytes = Bytes::from(vec![0xff; length]);
    dead(n, Reason::Undecodable, Content::Foreign(bytes))
}

async fn add(store: &Store, dead_letters: &[DeadLetter]) {
    for dead_letter in dead_letters {
        store.add(dead_letter).await.expect("the store is up");
    }
}

async fn list(store: &Store, offset: u64, limit: u64) -> Page {
    let page = store.list(offset, limit).await;
    page.expect("the store is up")
}

/// Checks that these are there, in this order, and no others.
async fn assert_stored(store: &Store, dead_letters: &[DeadLetter]) {
    let page = list(store, 0, u64::MAX).await;
    let summaries: Vec<Summary> = dead_letters.iter().map(DeadLetter::summary).collect();
    assert_eq!(page.items, summaries);
    let count = store.count().await.expect("the store is up");
    assert_eq!((page.total, count), (dead_letters.len() as u64, page.total));
    for dead_letter in dead_letters {
        let found = store.get(dead_letter.id).await.expect("the store is up");
        assert_eq!(found.as_ref(), Some(dead_letter));
    }
}

/// A store without dead letters answers.
pub async fn an_empty_store_has_no_dead_letters(store: Store) {
    assert_stored(&store, &[]).await;
    let unknown = JobId::new();
    assert_eq!(store.get(unknown).await.expect("the store is up"), None);
    assert!(!store.remove(unknown).await.expect("the store is up"));
    assert_eq!(store.purge().await.expect("the store is up"), 0);
}

/// Whatever a dead letter holds is read as it was.
pub async fn a_dead_letter_is_read_as_it_was_stored(store: Store) {
    let unpromised = Job {
        submission: None,
        ..dead_job(0).into_job().expect("it holds a job")
    };
    let mut dead_letters = vec![
        dead_job(0),
        dead_bytes(1, 4),
        dead_bytes(2, 0),
        dead(3, Reason::Rejected, Content::Job(Box::new(unpromised))),
    ];
    let reasons = Reason::ALL.into_iter().take(4);
    dead_letters.extend((4..).zip(reasons).map(|(n, reason)| DeadLetter {
        reason,
        ..dead_job(n)
    }));
    add(&store, &dead_letters).await;
    assert_stored(&store, &dead_letters).await;
}

/// A dead letter that is stored again is there once.
pub async fn a_dead_letter_is_stored_once(store: Store) {
    let dead_letters = [dead_job(0), dead_bytes(1, 7)];
    for _ in 0..20 {
        add(&store, &dead_letters).await;
    }
    assert_stored(&store, &dead_letters).await;
}

/// Pages are parts of one list, in the order of death, and those of one moment in the order of their ids.
pub async fn dead_letters_are_listed_oldest_first_in_pages(store: Store) {
    let mut dead_letters: Vec<_> = (0..4).map(dead_job).collect();
    dead_letters.extend((0..3).map(|_| dead_bytes(9, 5)));
    dead_letters.sort_by_key(|dead_letter| (dead_letter.died_at, dead_letter.id));
    for n in [5, 0, 6, 2, 4, 3, 1] {
        add(&store, &dead_letters[n..=n]).await;
    }
    assert_stored(&store, &dead_letters).await;
    for (offset, limit, expected) in [
        (0, 3, &dead_letters[..3]),
        (3, 3, &dead_letters[3..6]),
        (6, 3, &dead_letters[6..]),
        (7, 3, &[]),
        (2, 0, &[]),
        (0, 0, &[]),
        (1, u64::MAX, &dead_letters[1..]),
        (u64::MAX, u64::MAX, &[]),
    ] {
        let page = list(&store, offset, limit).await;
        assert_eq!(page.total, 7);
        let expected = expected.iter().map(DeadLetter::summary);
        assert!(page.items.into_iter().eq(expected), "{offset} {limit}");
    }
}

/// What lists show of a job and of bytes that are none.
pub async fn a_summary_says_what_a_dead_letter_holds(store: Store) {
    let (of_job, of_bytes) = (dead_job(0), dead_bytes(1, 70));
    add(&store, &[of_job.clone(), of_bytes.clone()]).await;
    let items = list(&store, 0, 10).await.items;
    let [first, second] = <[Summary; 2]>::try_from(items).expect("two dead letters");
    assert_eq!((first.id, first.died_at), (of_job.id, of_job.died_at));
    assert_eq!((first.reason, first.attempts), (Reason::Poison, 3));
    assert_eq!(
        (first.priority, first.queue.as_str()),
        (Some(Priority::Batch), "somewhere")
    );
    let model = first.model.as_ref().map(|model| model.as_str());
    let owner = first.owner.as_ref().map(|owner| owner.as_str());
    assert_eq!((model, owner), (Some("first"), Some("acme")));
    let image = of_job.job().expect("it holds a job").image.len();
    assert_eq!((first.size, second.size), (image, 70));
    assert_eq!((second.id, second.model), (of_bytes.id, None));
}

/// What is removed is gone, the rest stays.
pub async fn a_removed_dead_letter_is_gone(store: Store) {
    let mut dead_letters: Vec<_> = (0..5).map(dead_job).collect();
    add(&store, &dead_letters).await;
    let gone = dead_letters.remove(2);
    assert!(store.remove(gone.id).await.expect("the store is up"));
    assert!(!store.remove(gone.id).await.expect("the store is up"));
    assert_eq!(store.get(gone.id).await.expect("the store is up"), None);
    assert_stored(&store, &dead_letters).await;
}

/// Of concurrent removals exactly one reports that the dead letter was there.
pub async fn one_of_many_removals_finds_it(store: Store) {
    let dead_letter = dead_job(0);
    add(&store, std::slice::from_ref(&dead_letter)).await;
    let removed = join_all((0..20).map(|_| store.remove(dead_letter.id))).await;
    let found = removed
        .into_iter()
        .filter(|removed| matches!(removed, Ok(true)));
    assert_eq!(found.count(), 1);
}

/// A purge deletes all, and dead letters can be stored afterwards.
pub async fn purged_dead_letters_are_gone(store: Store) {
    let dead_letters: Vec<_> = (0..5).map(dead_job).collect();
    add(&store, &dead_letters).await;
    assert_eq!(store.purge().await.expect("the store is up"), 5);
    assert_stored(&store, &[]).await;
    add(&store, &dead_letters[1..3]).await;
    assert_stored(&store, &dead_letters[1..3]).await;
}

/// So many are there at most.
pub async fn past_the_number_the_oldest_are_deleted(store: Store) {
    let dead_letters: Vec<_> = (0..12).map(|n| dead_bytes(n, 1)).collect();
    add(&store, &dead_letters).await;
    assert_stored(&store, &dead_letters[4..]).await;
}

/// So many bytes are there at most, and the newest dead letter is whatever its size.
pub async fn past_the_bytes_the_oldest_are_deleted(store: Store) {
    let sizes = [40_000, 30_000, 30_000, 40_001, 1, 60_000, 200_000];
    let dead_letters: Vec<_> = (0..)
        .zip(sizes)
        .map(|(n, size)| dead_bytes(n, size))
        .collect();
    for (added, oldest_left) in [0, 0, 0, 2, 2, 4, 6].into_iter().enumerate() {
        add(&store, &dead_letters[added..=added]).await;
        assert_stored(&store, &dead_letters[oldest_left..=added]).await;
    }
}

/// Bytes of what was removed are free again.
pub async fn removed_dead_letters_leave_room(store: Store) {
    let dead_letters: Vec<_> = (0..4).map(|n| dead_bytes(n, 50_000)).collect();
    add(&store, &dead_letters[..2]).await;
    assert!(
        store
            .remove(dead_letters[0].id)
            .await
            .expect("the store is up")
    );
    add(&store, &dead_letters[2..3]).await;
    assert_stored(&store, &dead_letters[1..3]).await;
    for dead_letter in &dead_letters[1..3] {
        assert!(store.remove(dead_letter.id).await.expect("the store is up"));
    }
    add(&store, &dead_letters[..2]).await;
    assert_stored(&store, &dead_letters[..2]).await;
    assert_eq!(store.purge().await.expect("the store is up"), 2);
    add(&store, &dead_letters[2..]).await;
    assert_stored(&store, &dead_letters[2..]).await;
}
