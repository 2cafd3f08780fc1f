//! What a gateway has answered, in numbers that can be added up over gateways. Counts nothing itself.

use serde::{Deserialize, Serialize};

/// Upper bounds of the classes answers are counted in by their time, in seconds: from a cache hit to the longest wait, each
/// about half as large again as the one before. Metrics and [`Traffic::answers`] share them.
pub const ANSWER_SECONDS: [f64; 31] = [
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015,
    0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.5, 4.0, 6.0, 10.0, 20.0,
    40.0, 60.0,
];

/// Counts of one gateway, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Jobs accepted with a 202.
    #[serde(rename = "promised")]
    pub submitted: u64,
    /// Requests refused, for whatever reason.
    pub refused: u64,
    /// Overdue jobs that the gateway ended.
    pub expired: u64,
    /// Requests answered out of the cache.
    pub cache_hits: u64,
    /// Requests the cache had no answer for.
    pub cache_misses: u64,
    /// Requests during which the cache could not be asked.
    pub cache_errors: u64,
    /// Requests that shared another one's computation.
    pub collapsed: u64,
    /// Answers to clients that waited, by the classes of [`ANSWER_SECONDS`]; the last class is all that is beyond.
    pub answers: Vec<u64>,
}

impl Traffic {
    /// These counts and those.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
    }

    /// What came since those counts, which are older.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut grown = self.clone();
        grown.combine(earlier, u64::saturating_sub);
        grown
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        let longer = self.answers.len().max(other.answers.len());
        self.answers.resize(longer, 0);
        let pairs = [
            (&mut self.submitted, other.submitted),
            (&mut self.refused, other.refused),
            (&mut self.expired, other.expired),
            (&mut self.cache_hits, other.cache_hits),
            (&mut self.cache_misses, other.cache_misses),
            (&mut self.cache_errors, other.cache_errors),
            (&mut self.collapsed, other.collapsed),
        ];
        let answers = self.answers.iter_mut().zip(other.answers.iter().copied());
        for (mine, theirs) in pairs.into_iter().chain(answers) {
            *mine = with(*mine, theirs);
        }
    }

    /// Answers in all classes.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.iter().sum()
    }

    /// The time within which that share of the answers was given, in seconds; `None` without answers. Within a class
    /// answers count as spread evenly, as Prometheus' `histogram_quantile` has it; beyond the last bound its answer is
    /// that bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.answered();
        #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
        let rank = share * all as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (&count, &upper) in self.answers.iter().zip(&ANSWER_SECONDS) {
            #[expect(clippy::cast_precision_loss, reason = "a share of a count")]
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = upper;
        }
        (all > 0).then_some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many answers in each of these classes.
    fn answers(classes: &[(usize, u64)]) -> Traffic {
        let mut traffic = Traffic {
            answers: vec![0; ANSWER_SECONDS.len() + 1],
            ..Traffic::default()
        };
        for (class, count) in classes {
            traffic.answers[*class] = *count;
        }
        traffic
    }

    #[test]
    fn quantiles_lie_where_the_answers_lie() {
        assert_eq!(Traffic::default().quantile(0.5), None);
        let quick = answers(&[(3, 100)]);
        let half = quick.quantile(0.5).unwrap();
        assert!((half - 0.000_875).abs() < 1e-9, "{half}");
        let mixed = answers(&[(3, 98), (22, 2)]);
        assert!(mixed.quantile(0.9).unwrap() < 0.001);
        assert!((0.6..=1.0).contains(&mixed.quantile(0.99).unwrap()));
        assert_eq!(answers(&[(31, 1)]).quantile(0.5), Some(60.0));
    }

    #[test]
    fn counts_of_two_gateways_add_up_and_an_older_count_is_taken_off() {
        let mut one = answers(&[(0, 2)]);
        one.cache_hits = 5;
        let mut two = answers(&[(0, 1), (4, 1)]);
        two.cache_hits = 7;
        let mut sum = Traffic::default();
        sum.add(&one);
        sum.add(&two);
        assert_eq!((sum.cache_hits, sum.answered()), (12, 4));
        assert_eq!(sum.since(&one), two);
        assert_eq!(one.since(&sum).answered(), 0, "never below nothing");
    }

    #[test]
    fn bounds_grow() {
        assert!(ANSWER_SECONDS.is_sorted());
    }
}
