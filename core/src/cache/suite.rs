//! What every cache must do, as functions any backend's tests can run. Nothing here knows a backend.

use std::time::Duration;

use super::Cache;
use crate::clock::UnixMillis;
use crate::key::{Digest, PredictionKey};
use crate::outcome::Scores;

/// Makes one test of each guarantee; `$make()` gives a future of a fresh cache with a lifetime of an hour.
#[macro_export]
macro_rules! cache_suite {
    ($make:path) => {
        $crate::cache_suite!($make:
            an_unknown_key_is_a_miss
            what_was_put_is_found
            answers_keep_the_order_of_the_keys
            any_part_of_the_key_makes_another_entry
            putting_twice_keeps_the_later
            an_entry_says_how_long_it_will_stay
            an_entry_says_when_it_was_made
            asking_for_nothing_is_answered
            many_keys_at_once_are_answered
        );
    };
    ($make:path: $($submission:ident)*) => {
        $(
            #[tokio::test]
            async fn $submission() {
                $crate::cache::suite::$submission(&$make().await).await;
            }
        )*
    };
}

/// A key that differs for each number.
#[must_use]
pub fn key(n: u32) -> PredictionKey {
    PredictionKey {
        model: Digest::of(b"model"),
        preprocessing: 1,
        image: Digest::of(&n.to_le_bytes()),
    }
}

/// Scores that differ for each number.
#[must_use]
pub fn scores(n: u32) -> Scores {
    let tail = f32::from_bits(0x3f00_0000 | (n & 0xffff));
    Scores::new(vec![0.125, tail, -0.0])
}

async fn found(cache: &dyn Cache, keys: &[PredictionKey]) -> Vec<Option<Scores>> {
    let found = cache.get(keys).await.expect("a cache that is up answers");
    found
        .into_iter()
        .map(|cached| cached.map(|cached| cached.scores))
        .collect()
}

async fn put(cache: &dyn Cache, entries: &[(PredictionKey, Scores)]) {
    cache
        .put(entries)
        .await
        .expect("a cache that is up takes entries");
}

/// An unknown key is a miss, not an error.
pub async fn an_unknown_key_is_a_miss(cache: &dyn Cache) {
    assert_eq!(found(cache, &[key(1)]).await, [None]);
}

/// What was put is found, bit for bit.
pub async fn what_was_put_is_found(cache: &dyn Cache) {
    put(cache, &[(key(1), scores(1))]).await;
    let found = found(cache, &[key(1)]).await;
    let bits = |scores: &Scores| {
        let floats = scores.as_slice().iter();
        floats.map(|float| float.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(found[0].as_ref().map(bits), Some(bits(&scores(1))));
}

/// Answers come in the order of the keys, misses and repeats included.
pub async fn answers_keep_the_order_of_the_keys(cache: &dyn Cache) {
    put(cache, &[(key(1), scores(1)), (key(2), scores(2))]).await;
    let asked = [key(2), key(3), key(1), key(2)];
    let expected = [Some(scores(2)), None, Some(scores(1)), Some(scores(2))];
    assert_eq!(found(cache, &asked).await, expected);
}

/// Another model, preparation or image is another entry.
pub async fn any_part_of_the_key_makes_another_entry(cache: &dyn Cache) {
    put(cache, &[(key(1), scores(1))]).await;
    let other_model = PredictionKey {
        model: Digest::of(b"other"),
        ..key(1)
    };
    let other_preprocessing = PredictionKey {
        preprocessing: 2,
        ..key(1)
    };
    let asked = [other_model, other_preprocessing, key(2)];
    assert_eq!(found(cache, &asked).await, [None, None, None]);
}

/// A second put replaces the first.
pub async fn putting_twice_keeps_the_later(cache: &dyn Cache) {
    put(cache, &[(key(1), scores(1))]).await;
    put(cache, &[(key(1), scores(2))]).await;
    assert_eq!(found(cache, &[key(1)]).await, [Some(scores(2))]);
}

/// An entry stays for the cache's lifetime (an hour, give or take a tenth) if nobody asks again.
pub async fn an_entry_says_how_long_it_will_stay(cache: &dyn Cache) {
    put(cache, &[(key(1), scores(1))]).await;
    let found = cache.get(&[key(1)]).await.expect("a cache that is up");
    let ttl = found[0].as_ref().expect("the entry is there").ttl;
    let hour = Duration::from_secs(3600);
    assert!(ttl >= hour.mul_f64(0.9) && ttl <= hour.mul_f64(1.1));
}

/// No keys, no entries: nothing to do is no error.
pub async fn asking_for_nothing_is_answered(cache: &dyn Cache) {
    put(cache, &[]).await;
    assert!(found(cache, &[]).await.is_empty());
}

/// A batch of the largest size used is one call.
pub async fn many_keys_at_once_are_answered(cache: &dyn Cache) {
    let entries: Vec<_> = (0..300).map(|n| (key(n), scores(n))).collect();
    put(cache, &entries).await;
    let keys: Vec<_> = (0..300).map(key).collect();
    let expected: Vec<_> = (0..300).map(|n| Some(scores(n))).collect();
    assert_eq!(found(cache, &keys).await, expected);
}

/// Asking again makes an entry no younger, putting it again does.
pub async fn an_entry_says_when_it_was_made(cache: &dyn Cache) {
    let made_at = async || {
        let found = cache
            .get(&[key(1)])
            .await
            .expect("a cache that is up answers");
        found[0].as_ref().expect("it was put").made_at
    };
    let before = UnixMillis::wall();
    put(cache, &[(key(1), scores(1))]).await;
    let after = UnixMillis::wall();
    let first = made_at().await;
    assert!((before..=after).contains(&first), "{first:?}");
    while UnixMillis::wall() <= after {
        tokio::task::yield_now().await;
    }
    assert_eq!(made_at().await, first);
    put(cache, &[(key(1), scores(1))]).await;
    assert!(made_at().await > first);
}
