//! Logits to probabilities, and vectors to unit length.

/// Turns logits into probabilities, in place. The largest is taken off first, so that nothing overflows.
pub(super) fn softmax(scores: &mut [f32]) {
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

/// Turns each logit into the probability of its own label, in place.
pub(super) fn sigmoid(scores: &mut [f32]) {
    for score in scores {
        *score = 1.0 / (1.0 + (-*score).exp());
    }
}

/// Divides a vector by its Euclidean norm, in place; a vector of zeros stays one.
pub(super) fn normalize(vector: &mut [f32]) {
    let squares = vector.iter().map(|value| f64::from(*value).powi(2));
    let norm = squares
        .sum::<f64>()
        .sqrt()
        .max(f64::from(f32::MIN_POSITIVE));
    for value in vector {
        *value = (f64::from(*value) / norm) as f32;
    }
}

/// Whether every score is a number.
#[must_use]
pub(super) fn are_finite(scores: &[f32]) -> bool {
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
    fn probabilities_of_single_labels_match_the_definition() {
        let mut scores = [0.0, 2.0, -2.0, 1e30, -1e30];
        sigmoid(&mut scores);
        for (score, expected) in scores.iter().zip([0.5, 0.880_797, 0.119_203, 1.0, 0.0]) {
            assert!((score - expected).abs() < 1e-6, "{scores:?}");
        }
    }

    #[test]
    fn vectors_get_unit_length() {
        for (mut vector, expected) in [
            ([3.0, -4.0], [0.6, -0.8]),
            ([3e30, 4e30], [0.6, 0.8]),
            ([0.0, 0.0], [0.0, 0.0]),
        ] {
            normalize(&mut vector);
            assert!(
                vector
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 1e-6),
                "{vector:?}"
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
