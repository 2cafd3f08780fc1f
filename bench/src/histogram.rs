//! Durations in buckets of less than 1 % width, so that counting one costs nanoseconds and percentiles need no sorting.

use std::time::Duration;

/// Bits of a value that are kept: buckets are at most 1/128 of their value wide.
const KEPT_BITS: u32 = 7;
const BUCKETS_PER_DOUBLING: usize = 1 << KEPT_BITS;

/// Counts of durations, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    /// Counts one duration.
    pub(crate) fn add(&mut self, duration: Duration) {
        let value = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.sum_us = self.sum_us.saturating_add(value);
        self.max_us = self.max_us.max(value);
    }

    /// How many were counted.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Their mean in milliseconds; 0 if there are none.
    pub(crate) fn mean_ms(&self) -> f64 {
        if self.total == 0 {
            0.0
        } else {
            self.sum_us as f64 / self.total as f64 / 1e3
        }
    }

    /// The longest in milliseconds.
    pub(crate) fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }

    /// The duration in milliseconds that a share `quantile` of all does not exceed, to within a bucket; 0 if there are none.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(bucket).min(self.max_us) as f64 / 1e3;
            }
        }
        0.0
    }
}

/// The bucket of a value: exact below [`BUCKETS_PER_DOUBLING`], then so many buckets per power of two.
const fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(KEPT_BITS + 1);
    (shift as usize) * BUCKETS_PER_DOUBLING + (value >> shift) as usize
}

/// The largest value of a bucket.
const fn upper_end(bucket: usize) -> u64 {
    let shift = (bucket / BUCKETS_PER_DOUBLING).saturating_sub(1);
    let kept = (bucket - shift * BUCKETS_PER_DOUBLING) as u64;
    ((kept + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_narrower_than_one_percent_of_it() {
        let mut previous = 0;
        for value in (0..100_000)
            .chain((17..40).map(|bit| (1_u64 << bit) - 1))
            .chain((17..40).map(|bit| 1_u64 << bit))
        {
            let end = upper_end(bucket_of(value));
            assert!(
                end >= value && (end - value) as f64 <= 0.01 * value as f64,
                "{value}: {end}"
            );
            if value < 100_000 {
                assert!(
                    bucket_of(value) >= previous,
                    "{value} is in a lower bucket than its predecessor"
                );
                previous = bucket_of(value);
            }
        }
    }

    #[test]
    fn quantiles_of_a_known_distribution_are_found() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (quantile, expected) in [(0.5, 5.0), (0.95, 9.5), (0.99, 9.9), (1.0, 10.0)] {
            let found = histogram.quantile_ms(quantile);
            assert!((found / expected - 1.0).abs() < 0.01, "{quantile}: {found}");
        }
        assert!(
            (histogram.mean_ms() - 5.0005).abs() < 1e-9 && (histogram.max_ms() - 10.0).abs() < 1e-9
        );
    }

    #[test]
    fn an_empty_histogram_has_no_durations() {
        let histogram = Histogram::default();
        assert_eq!(
            (
                histogram.total(),
                histogram.quantile_ms(0.5),
                histogram.mean_ms()
            ),
            (0, 0.0, 0.0)
        );
    }
}
