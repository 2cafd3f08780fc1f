//! What becomes of a model's raw output: pure functions.

/// Turns logits into probabilities, in place. The largest is taken off first, so that nothing overflows.
pub fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

/// Whether every score is a number.
#[must_use]
pub fn are_finite(scores: &[f32]) -> bool {
    scores.iter().all(|score| score.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_match_the_definition() {
        let mut scores = [1.0, 2.0, 3.0];
        softmax(&mut scores);
        for (score, expected) in scores
            .iter()
            .zip([0.090_030_57, 0.244_728_47, 0.665_240_96])
        {
            assert!((score - expected).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn extreme_logits_stay_probabilities() {
        for logits in [
            [1e30, -1e30, 0.0],
            [f32::MAX, f32::MAX, f32::MIN],
            [-1e30, -1e30, -1e30],
            [f32::NEG_INFINITY, 0.0, 5.0],
        ] {
            let mut scores = logits;
            softmax(&mut scores);
            let sum: f32 = scores.iter().sum();
            assert!(
                are_finite(&scores) && (sum - 1.0).abs() < 1e-6,
                "{logits:?}"
            );
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut scores = [0.0, bad, 1.0];
            softmax(&mut scores);
            assert!(!are_finite(&scores), "{bad}");
        }
        let mut scores = [f32::NEG_INFINITY; 3];
        softmax(&mut scores);
        assert!(!are_finite(&scores));
    }
}
