//! Dead letters: their suite, lost and damaged hashes, the sum of bytes, a full server.

use std::sync::Arc;

use selvage_core::dead_letters::suite::{BOUNDS, Store, dead_bytes, dead_job};
use selvage_core::dead_letters::{Bounds, DeadLetter, DeadLetterStore};
use selvage_core::job::JobId;
use selvage_core::program::config::Prefix;
use selvage_core::redis::RedisDeadLetters;
use selvage_core::store::StoreFull;

use crate::private::PrivateRedis;
use crate::support::{NONE, Raw, chain, fresh_prefix, shared_redis};

fn store_of(prefix: &Prefix) -> Store {
    Arc::new(RedisDeadLetters::new(&shared_redis(), prefix, BOUNDS).unwrap())
}

async fn fresh(bounds: Bounds) -> Store {
    Arc::new(RedisDeadLetters::new(&shared_redis(), &fresh_prefix(), bounds).unwrap())
}

selvage_core::dead_letter_suite!(fresh);

fn dead_letter_name(prefix: &Prefix, id: JobId) -> String {
    format!("{}:dead_letter:{id}", prefix.as_str())
}

async fn added(store: &dyn DeadLetterStore, count: u32) -> Vec<DeadLetter> {
    let dead_letters: Vec<_> = (0..count).map(dead_job).collect();
    for dead_letter in &dead_letters {
        store.add(dead_letter).await.unwrap();
    }
    dead_letters
}

async fn listed(store: &dyn DeadLetterStore) -> Vec<JobId> {
    let page = store.list(0, 100).await.unwrap();
    assert_eq!(page.total, page.items.len() as u64);
    page.items
        .iter()
        .map(|dead_letter| dead_letter.id)
        .collect()
}

#[tokio::test]
async fn ids_without_a_hash_are_taken_off_the_list() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let dead_letters = added(&*store, 5).await;
    for lost in [&dead_letters[0], &dead_letters[2]] {
        raw.run::<()>("DEL", dead_letter_name(&prefix, lost.id));
    }
    assert_eq!(store.get(dead_letters[0].id).await.unwrap(), None);
    assert!(!store.remove(dead_letters[0].id).await.unwrap());
    assert_eq!(store.count().await.unwrap(), 4);
    assert_eq!(
        listed(&*store).await,
        [dead_letters[1].id, dead_letters[3].id, dead_letters[4].id]
    );
    assert_eq!(store.count().await.unwrap(), 3);
    // It may come again.
    store.add(&dead_letters[2]).await.unwrap();
    raw.run::<()>("DEL", dead_letter_name(&prefix, dead_letters[1].id));
    assert_eq!(store.purge().await.unwrap(), 3);
    assert_eq!(listed(&*store).await, []);
}

#[tokio::test]
async fn an_id_without_a_hash_makes_room_as_any_other() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let dead_letters = added(&*store, 8).await;
    raw.run::<()>("DEL", dead_letter_name(&prefix, dead_letters[0].id));
    store.add(&dead_bytes(9, 1)).await.unwrap();
    assert_eq!(
        listed(&*store).await[..7],
        dead_letters[1..]
            .iter()
            .map(|dead_letter| dead_letter.id)
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn the_sum_of_bytes_is_that_of_the_bodies() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let mut sum = || -> u64 { raw.run("GET", format!("{}:dead_letters:bytes", prefix.as_str())) };
    let dead_letters: Vec<_> = (0..20).map(|n| dead_bytes(n, 100 + n as usize)).collect();
    for dead_letter in &dead_letters {
        store.add(dead_letter).await.unwrap();
    }
    assert_eq!(sum(), (112..120).sum::<u64>());
    assert!(store.remove(dead_letters[15].id).await.unwrap());
    assert!(!store.remove(dead_letters[15].id).await.unwrap());
    assert_eq!(sum(), (112..120).sum::<u64>() - 115);
}

#[tokio::test]
async fn a_damaged_dead_letter_is_an_error_and_does_not_hide_the_others() {
    let prefix = fresh_prefix();
    let (store, mut raw) = (store_of(&prefix), Raw::connect(&shared_redis()));
    let dead_letters = added(&*store, 3).await;
    raw.run::<()>(
        "HSET",
        (dead_letter_name(&prefix, dead_letters[0].id), "meta", "{}"),
    );
    raw.run::<()>(
        "HDEL",
        (dead_letter_name(&prefix, dead_letters[1].id), "body"),
    );
    for (dead_letter, field) in dead_letters.iter().zip(["field meta", "field body"]) {
        let error = store.get(dead_letter.id).await.unwrap_err();
        assert!(chain(&error).contains(field), "{}", chain(&error));
    }
    let page = store.list(0, 10).await.unwrap();
    let ids: Vec<_> = page
        .items
        .iter()
        .map(|dead_letter| dead_letter.id)
        .collect();
    assert_eq!(
        (ids, page.total),
        (
            dead_letters[1..]
                .iter()
                .map(|dead_letter| dead_letter.id)
                .collect(),
            3
        )
    );
    assert!(store.remove(dead_letters[0].id).await.unwrap());
}

#[tokio::test]
async fn a_full_redis_refuses_dead_letters_and_lets_others_go() {
    let redis = PrivateRedis::start();
    let mut raw = redis.raw();
    let store = RedisDeadLetters::new(&redis.url(), &fresh_prefix(), BOUNDS).unwrap();
    let dead_letters = added(&store, 8).await;
    raw.run::<()>(
        "CONFIG SET",
        ("maxmemory-policy", "noeviction", "maxmemory", 1),
    );
    let error = store.add(&dead_job(9)).await.unwrap_err();
    assert!(StoreFull::is_in(&error), "{}", chain(&error));
    assert_eq!(listed(&store).await.len(), 8);
    assert_eq!(
        store.get(dead_letters[3].id).await.unwrap().as_ref(),
        Some(&dead_letters[3])
    );
    assert!(store.remove(dead_letters[3].id).await.unwrap());
    assert_eq!(store.purge().await.unwrap(), 7);
    raw.run::<()>("CONFIG SET", ("maxmemory", 0));
    store.add(&dead_job(9)).await.unwrap();
}

#[tokio::test]
async fn a_list_reads_no_bodies() {
    let redis = PrivateRedis::start();
    let store = RedisDeadLetters::new(&redis.url(), &fresh_prefix(), Bounds::default()).unwrap();
    for n in 0..4 {
        store.add(&dead_bytes(n, 10_000_000)).await.unwrap();
    }
    redis.raw().run::<()>("CONFIG RESETSTAT", NONE);
    assert_eq!(listed(&store).await.len(), 4);
    let stats: String = redis.raw().run("INFO", "stats");
    let sent = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    let sent: u64 = sent.unwrap().trim().parse().unwrap();
    assert!(sent < 100_000, "{sent}");
}
