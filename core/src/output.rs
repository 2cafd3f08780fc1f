//! From a result's values to what a client sees. The cache keeps values, never views.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::Task;
use crate::outcome::Scores;

/// What the values of a model's results mean.
///
/// | task | values |
/// |---|---|
/// | classify, multilabel | one score per label |
/// | detect | width and height of the image, then of each box two corners, score and label |
/// | embed | the vector |
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// What the model says of an image.
    pub task: Task,
    /// Least score of a label, where any number of labels may be right.
    pub threshold: f32,
    /// The model's labels.
    pub labels: Arc<[String]>,
}

/// Values that stand for one box.
pub const BOX_VALUES: usize = 6;

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

/// One object in an image.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The label.
    pub label: String,
    /// Its position in the model's labels.
    pub index: usize,
    /// Its score.
    pub score: f32,
    /// Left, top, right and bottom edge in pixels of the image, upright as a viewer shows it.
    #[serde(rename = "box")]
    pub edges: [f32; 4],
}

/// The result, by the model's task.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Output {
    /// The best label, and the best `top_k`.
    Classify {
        /// The best label.
        label: String,
        /// Its position in the model's labels.
        index: usize,
        /// Its score.
        score: f32,
        /// The best labels, best first; at least one.
        top: Vec<Ranked>,
    },
    /// The labels that the image has.
    Multilabel {
        /// Least score of a label that the image has.
        threshold: f32,
        /// The labels that the image has, best first; maybe none.
        labels: Vec<Ranked>,
        /// The best `top_k` labels, best first, whether the image has them or not.
        top: Vec<Ranked>,
    },
    /// Objects.
    Detect {
        /// Width of the upright image in pixels.
        width: u32,
        /// Its height.
        height: u32,
        /// The objects, best first; maybe none.
        boxes: Vec<Detection>,
    },
    /// A vector.
    Embed {
        /// The vector.
        embedding: Vec<f32>,
    },
}

impl Meaning {
    /// Whether these can be values of the model.
    #[must_use]
    pub fn fits(&self, values: &Scores) -> bool {
        let values = values.as_slice();
        match self.task {
            Task::Classify | Task::Multilabel => {
                !values.is_empty() && values.len() == self.labels.len()
            }
            Task::Detect => match values {
                [_, _, boxes @ ..] => {
                    let label = |found: &[f32]| self.labels.get(found[5] as usize).is_some();
                    boxes.len().is_multiple_of(BOX_VALUES)
                        && boxes.chunks_exact(BOX_VALUES).all(label)
                }
                _ => false,
            },
            Task::Embed => !values.is_empty(),
        }
    }

    /// What a client sees; `None` for values of another model. Equal scores keep the order of the labels.
    #[must_use]
    pub fn output(&self, values: &Scores, top_k: u16) -> Option<Output> {
        if !self.fits(values) {
            return None;
        }
        let top = |scores| self.rank(scores, usize::from(top_k.max(1)));
        Some(match (self.task, values.as_slice()) {
            (Task::Classify, scores) => {
                let top = top(scores);
                let best = top.first()?.clone();
                Output::Classify {
                    label: best.label,
                    index: best.index,
                    score: best.score,
                    top,
                }
            }
            (Task::Multilabel, scores) => {
                let mut labels = self.rank(scores, usize::MAX);
                labels.retain(|label| label.score >= self.threshold);
                Output::Multilabel {
                    threshold: self.threshold,
                    labels,
                    top: top(scores),
                }
            }
            (Task::Detect, values) => {
                let (size, boxes) = values.split_first_chunk::<2>()?;
                let boxes = boxes.chunks_exact(BOX_VALUES);
                Output::Detect {
                    width: size[0] as u32,
                    height: size[1] as u32,
                    boxes: boxes.filter_map(|found| self.detection(found)).collect(),
                }
            }
            (Task::Embed, vector) => Output::Embed {
                embedding: vector.to_vec(),
            },
        })
    }

    /// The best labels, best first.
    #[must_use]
    pub fn rank(&self, scores: &[f32], most: usize) -> Vec<Ranked> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        order.truncate(most);
        let ranked = |index: usize| Ranked {
            label: self.labels[index].clone(),
            index,
            score: scores[index],
        };
        order.into_iter().map(ranked).collect()
    }

    fn detection(&self, values: &[f32]) -> Option<Detection> {
        let (edges, rest) = values.split_first_chunk()?;
        let index = *rest.last()? as usize;
        Some(Detection {
            label: self.labels.get(index)?.clone(),
            index,
            score: *rest.first()?,
            edges: *edges,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(task: Task, labels: usize) -> Meaning {
        Meaning {
            task,
            threshold: 0.5,
            labels: (0..labels).map(|i| format!("label {i}")).collect(),
        }
    }

    fn output(task: Task, labels: usize, values: &[f32], top_k: u16) -> Option<Output> {
        meaning(task, labels).output(&Scores::new(values), top_k)
    }

    fn indices(ranked: &[Ranked]) -> Vec<usize> {
        ranked.iter().map(|ranked| ranked.index).collect()
    }

    #[test]
    fn best_come_first_and_ties_keep_label_order() {
        let found = output(Task::Classify, 4, &[0.1, 0.4, 0.4, 0.1], 3);
        let Some(Output::Classify { index, top, .. }) = found else {
            panic!("{found:?}");
        };
        assert_eq!((index, indices(&top)), (1, vec![1, 2, 0]));
    }

    #[test]
    fn top_k_is_at_least_one_and_at_most_all() {
        for (top_k, labels) in [(0, 1), (100, 2)] {
            let found = output(Task::Classify, 2, &[0.2, 0.8], top_k);
            let Some(Output::Classify { top, .. }) = found else {
                panic!("{found:?}");
            };
            assert_eq!(top.len(), labels);
        }
    }

    #[test]
    fn any_number_of_labels_reaches_the_threshold() {
        for (scores, expected) in [
            ([0.5, 0.2, 0.9], vec![2, 0]),
            ([0.4, 0.2, 0.3], vec![]),
            ([0.6, 0.7, 0.8], vec![2, 1, 0]),
        ] {
            let found = output(Task::Multilabel, 3, &scores, 1);
            let Some(Output::Multilabel { labels, top, .. }) = found else {
                panic!("{found:?}");
            };
            assert_eq!((indices(&labels), top.len()), (expected, 1));
        }
    }

    #[test]
    fn boxes_are_read_in_their_order() {
        let values = [64.0, 48.0, 1.0, 2.0, 3.5, 4.0, 0.9, 1.0];
        let boxes = vec![Detection {
            label: "label 1".to_owned(),
            index: 1,
            score: 0.9,
            edges: [1.0, 2.0, 3.5, 4.0],
        }];
        let expected = Output::Detect {
            width: 64,
            height: 48,
            boxes,
        };
        assert_eq!(output(Task::Detect, 2, &values, 1), Some(expected));
    }

    #[test]
    fn values_of_another_model_are_no_result() {
        for (task, labels, values) in [
            (Task::Classify, 3, &[0.2, 0.8][..]),
            (Task::Classify, 0, &[]),
            (Task::Multilabel, 1, &[0.2, 0.8]),
            (Task::Detect, 1, &[8.0]),
            (Task::Detect, 1, &[8.0, 8.0, 1.0]),
            (Task::Detect, 1, &[8.0, 8.0, 0.0, 0.0, 1.0, 1.0, 0.9, 1.0]),
            (Task::Embed, 0, &[]),
        ] {
            assert_eq!(output(task, labels, values, 1), None, "{task:?} {values:?}");
        }
    }

    #[test]
    fn the_json_of_a_classification_keeps_its_fields() {
        let found = output(Task::Classify, 2, &[0.25, 0.75], 1).unwrap();
        let expected = serde_json::json!({
            "task": "classify", "label": "label 1", "index": 1, "score": 0.75,
            "top": [{"label": "label 1", "index": 1, "score": 0.75}],
        });
        assert_eq!(serde_json::to_value(&found).unwrap(), expected);
    }
}
