//! Scores to labelled answers: the view a client sees. The cache keeps scores, never views.

use serde::{Deserialize, Serialize};

use crate::outcome::Scores;

/// One label with its score.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The label.
    pub label: String,
    /// Its position in the model's labels.
    pub index: usize,
    /// Its score: a probability where the model's output is softmaxed.
    pub score: f32,
}

/// The answer: the best label, and the best `top_k`, best first.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The best label.
    pub label: String,
    /// Its position in the model's labels.
    pub index: usize,
    /// Its score.
    pub score: f32,
    /// The best labels, best first; at least one.
    pub top: Vec<Ranked>,
}

impl Output {
    /// Ranks scores under labels; equal scores keep the order of the labels.
    ///
    /// `None` where there is no label, or labels and scores differ in number: they are not of one model.
    #[must_use]
    pub fn rank(scores: &Scores, labels: &[String], top_k: u16) -> Option<Self> {
        let scores = scores.as_slice();
        if scores.is_empty() || scores.len() != labels.len() {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order.truncate(usize::from(top_k.max(1)));
        let ranked = |&index: &usize| Ranked {
            label: labels[index].clone(),
            index,
            score: scores[index],
        };
        let top: Vec<Ranked> = order.iter().map(ranked).collect();
        let Ranked {
            label,
            index,
            score,
        } = top.first()?.clone();
        Some(Self {
            label,
            index,
            score,
            top,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("label {i}")).collect()
    }

    #[test]
    fn best_come_first_and_ties_keep_label_order() {
        let scores = Scores::new(vec![0.1, 0.4, 0.4, 0.1]);
        let output = Output::rank(&scores, &labels(4), 3).unwrap();
        let order: Vec<usize> = output.top.iter().map(|r| r.index).collect();
        assert_eq!((output.index, order), (1, vec![1, 2, 0]));
    }

    #[test]
    fn top_k_is_at_least_one_and_at_most_all() {
        let scores = Scores::new(vec![0.2, 0.8]);
        assert_eq!(Output::rank(&scores, &labels(2), 0).unwrap().top.len(), 1);
        assert_eq!(Output::rank(&scores, &labels(2), 100).unwrap().top.len(), 2);
    }

    #[test]
    fn scores_of_another_model_are_no_answer() {
        assert!(Output::rank(&Scores::new(vec![0.2, 0.8]), &labels(3), 1).is_none());
        assert!(Output::rank(&Scores::new(vec![]), &labels(0), 1).is_none());
    }
}
