//! The cache: its suite, and what may be found under its keys.

use std::time::Duration;

use selvage_core::cache::suite::{key, scores};
use selvage_core::cache::{Cache, Cached};
use selvage_core::outcome::Scores;
use selvage_core::program::config::Prefix;
use selvage_core::redis::RedisCache;

use crate::support::{CALM, HOUR, Raw, cache_of, fresh_prefix, shared_redis};

async fn fresh() -> RedisCache {
    cache_of(&fresh_prefix())
}

selvage_core::cache_suite!(fresh);

fn cache_name(prefix: &Prefix, n: u32) -> String {
    format!("{}:p:{}", prefix.as_str(), key(n))
}

async fn found(cache: &RedisCache, numbers: &[u32]) -> Vec<Option<Cached>> {
    let keys: Vec<_> = numbers.iter().map(|&n| key(n)).collect();
    cache.get(&keys).await.unwrap()
}

#[tokio::test]
async fn garbage_and_other_types_under_a_key_are_misses_and_give_way() {
    let prefix = fresh_prefix();
    let (cache, mut raw) = (cache_of(&prefix), Raw::connect(&shared_redis()));
    cache.put(&[(key(1), scores(1))]).await.unwrap();
    raw.run::<()>("SET", (cache_name(&prefix, 2), "garbage", "EX", 60));
    raw.run::<()>("RPUSH", (cache_name(&prefix, 3), "a list"));
    raw.run::<()>("SET", (cache_name(&prefix, 4), "", "EX", 60));
    let numbers = [2, 3, 1, 4];
    let before: Vec<bool> = found(&cache, &numbers)
        .await
        .iter()
        .map(Option::is_some)
        .collect();
    assert_eq!(before, [false, false, true, false]);
    let entries = numbers.map(|n| (key(n), scores(n)));
    cache.put(&entries).await.unwrap();
    let after = found(&cache, &numbers).await;
    let after: Vec<_> = after
        .into_iter()
        .map(|cached| cached.unwrap().scores)
        .collect();
    assert_eq!(after, numbers.map(scores));
}

#[tokio::test]
async fn a_hit_renews_the_lifetime_and_tells_it() {
    let prefix = fresh_prefix();
    let (cache, mut raw) = (cache_of(&prefix), Raw::connect(&shared_redis()));
    cache.put(&[(key(1), scores(1))]).await.unwrap();
    let name = cache_name(&prefix, 1);
    raw.run::<()>("PEXPIRE", (&name, 60_000));
    let reported = found(&cache, &[1]).await[0].clone().unwrap().ttl;
    let left = Duration::from_millis(raw.run("PTTL", &name));
    assert!(
        left <= reported && left + CALM > reported,
        "{left:?} {reported:?}"
    );
    assert!(left > HOUR.mul_f64(0.85));
}

#[tokio::test]
async fn entries_of_one_moment_do_not_end_in_one_moment() {
    let cache = cache_of(&fresh_prefix());
    let entries: Vec<_> = (0..50).map(|n| (key(n), scores(n))).collect();
    cache.put(&entries).await.unwrap();
    let numbers: Vec<u32> = (0..50).collect();
    let ttls: Vec<Duration> = found(&cache, &numbers)
        .await
        .iter()
        .map(|cached| cached.as_ref().unwrap().ttl)
        .collect();
    let (shortest, longest) = (ttls.iter().min().unwrap(), ttls.iter().max().unwrap());
    assert!(*shortest >= HOUR.mul_f64(0.9) && *longest <= HOUR.mul_f64(1.1));
    assert!(
        *longest - *shortest > HOUR.mul_f64(0.02),
        "{shortest:?} {longest:?}"
    );
}

#[tokio::test]
async fn scores_beyond_64_kib_are_not_kept_and_others_are() {
    let cache = cache_of(&fresh_prefix());
    let large = Scores::new(vec![0.5; 16 * 1024]);
    cache.put(&[(key(1), large.clone())]).await.unwrap();
    cache
        .put(&[(key(1), large), (key(2), scores(2))])
        .await
        .unwrap();
    let kept: Vec<bool> = found(&cache, &[1, 2])
        .await
        .iter()
        .map(Option::is_some)
        .collect();
    assert_eq!(kept, [false, true]);
}
