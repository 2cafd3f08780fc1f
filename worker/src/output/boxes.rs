//! How a detector's tensors hold boxes: from an image's numbers to candidates above the threshold.

use selvage_core::catalog::BoxFormat;
use selvage_core::output::BOX_VALUES;

use super::scores;
use crate::image::resize::Size;

/// A box that may be an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Left, top, right and bottom edge in pixels of the model's input.
    pub(super) edges: [f32; 4],
    pub(super) score: f32,
    pub(super) label: usize,
}

/// Whether boxes of one object overlap each other in this format.
pub(super) const fn overlap(format: BoxFormat) -> bool {
    matches!(format, BoxFormat::Yolov5 | BoxFormat::Yolov8)
}

/// What reading needs to know of a model.
pub(super) struct Reader {
    pub(super) labels: usize,
    pub(super) input: Size,
    /// Labels do not exclude each other, and there is no class that stands for nothing.
    pub(super) sigmoid: bool,
    pub(super) threshold: f32,
}

impl Reader {
    /// The candidates of one image; `None` where the numbers are not of this format.
    pub(super) fn read(&self, raw: &[f32], format: BoxFormat) -> Option<Vec<Candidate>> {
        match format {
            BoxFormat::Yolov5 => self.yolov5(raw),
            BoxFormat::Yolov8 => self.yolov8(raw),
            BoxFormat::Corners => self.corners(raw),
            BoxFormat::Detr => self.detr(raw),
        }
    }

    fn yolov5(&self, raw: &[f32]) -> Option<Vec<Candidate>> {
        let candidate = |row: &[f32]| {
            let (place, rest) = row.split_first_chunk()?;
            let (certainty, labels) = rest.split_first()?;
            // A label's score is 1 at most.
            if *certainty <= self.threshold {
                return None;
            }
            let (label, score) = best(labels.iter().copied())?;
            self.above(centred(*place), score * certainty, label)
        };
        Some(rows(raw, 5 + self.labels)?.filter_map(candidate).collect())
    }

    /// One row for each value and one column for each box.
    fn yolov8(&self, raw: &[f32]) -> Option<Vec<Candidate>> {
        let values = 4 + self.labels;
        if raw.is_empty() || !raw.len().is_multiple_of(values) {
            return None;
        }
        let boxes = raw.len() / values;
        let (places, labels) = raw.split_at(4 * boxes);
        let mut best = vec![(0, f32::NEG_INFINITY); boxes];
        for (label, scores) in labels.chunks_exact(boxes).enumerate() {
            for (best, score) in best.iter_mut().zip(scores) {
                if *score > best.1 {
                    *best = (label, *score);
                }
            }
        }
        let candidate = |(at, (label, score))| {
            let place = std::array::from_fn(|value| places[value * boxes + at]);
            self.above(centred(place), score, label)
        };
        Some(best.into_iter().enumerate().filter_map(candidate).collect())
    }

    fn corners(&self, raw: &[f32]) -> Option<Vec<Candidate>> {
        let candidate = |row: &[f32]| {
            let (edges, rest) = row.split_first_chunk()?;
            // Graphs fill up with rows of a label that does not exist, often -1.
            let label = rest.last()?.round();
            let exists = (0.0..self.labels as f32).contains(&label);
            let found = self.above(*edges, *rest.first()?, label as usize);
            found.filter(|_| exists)
        };
        Some(rows(raw, BOX_VALUES)?.filter_map(candidate).collect())
    }

    fn detr(&self, raw: &[f32]) -> Option<Vec<Candidate>> {
        let classes = self.labels + usize::from(!self.sigmoid);
        if !raw.len().is_multiple_of(classes + 4) {
            return None;
        }
        let (logits, places) = raw.split_at(raw.len() / (classes + 4) * classes);
        let mut found = Vec::new();
        for (logits, place) in rows(logits, classes)?.zip(places.as_chunks::<4>().0) {
            let edges = self.within_input(*place);
            let mut scores = logits.to_vec();
            if self.sigmoid {
                scores::sigmoid(&mut scores);
                let labels = scores.into_iter().enumerate();
                found.extend(labels.filter_map(|(label, score)| self.above(edges, score, label)));
            } else {
                scores::softmax(&mut scores);
                let best = best(scores.into_iter().take(self.labels));
                found.extend(best.and_then(|(label, score)| self.above(edges, score, label)));
            }
        }
        Some(found)
    }

    /// From parts of the input to its pixels.
    fn within_input(&self, place: [f32; 4]) -> [f32; 4] {
        let sides = [self.input.width as f32, self.input.height as f32];
        let edges = centred(place);
        std::array::from_fn(|at| edges[at] * sides[at % 2])
    }

    fn above(&self, edges: [f32; 4], score: f32, label: usize) -> Option<Candidate> {
        (score > self.threshold).then_some(Candidate {
            edges,
            score,
            label,
        })
    }
}

/// The edges of a box that is given by its centre and its size.
fn centred([x, y, width, height]: [f32; 4]) -> [f32; 4] {
    let (half_width, half_height) = (width / 2.0, height / 2.0);
    [
        x - half_width,
        y - half_height,
        x + half_width,
        y + half_height,
    ]
}

/// The first of the highest scores, with its position.
fn best(scores: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
    scores
        .enumerate()
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Whole rows of that length.
fn rows(raw: &[f32], length: usize) -> Option<impl Iterator<Item = &[f32]>> {
    raw.len()
        .is_multiple_of(length)
        .then(|| raw.chunks_exact(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: [f32; 4] = [8.0, 16.0, 12.0, 24.0];

    fn reader(sigmoid: bool) -> Reader {
        Reader {
            labels: 2,
            input: Size::new(32, 64),
            sigmoid,
            threshold: 0.25,
        }
    }

    fn found(format: BoxFormat, sigmoid: bool, raw: &[f32]) -> Vec<(usize, f32, [f32; 4])> {
        let candidates = reader(sigmoid).read(raw, format).unwrap();
        let parts = |found: Candidate| (found.label, found.score, found.edges);
        candidates.into_iter().map(parts).collect()
    }

    #[test]
    fn a_box_is_the_same_in_every_format_of_pixels() {
        let expected = [(1, 0.5, SMALL)];
        let yolov5 = [
            [10.0, 20.0, 4.0, 8.0, 1.0, 0.25, 0.5],
            [10.0, 20.0, 4.0, 8.0, 0.3, 0.2, 0.6],
        ];
        assert_eq!(
            found(BoxFormat::Yolov5, false, yolov5.as_flattened()),
            expected
        );
        let yolov8 = [
            [10.0, 1.0],
            [20.0, 1.0],
            [4.0, 1.0],
            [8.0, 1.0],
            [0.25, 0.1],
            [0.5, 0.2],
        ];
        assert_eq!(
            found(BoxFormat::Yolov8, false, yolov8.as_flattened()),
            expected
        );
        let corners = [[8.0, 16.0, 12.0, 24.0, 0.5, 1.0], [0.0; 6]];
        assert_eq!(
            found(BoxFormat::Corners, false, corners.as_flattened()),
            expected
        );
    }

    #[test]
    fn transformers_give_logits_and_parts_of_the_image() {
        let place = [10.0 / 32.0, 20.0 / 64.0, 4.0 / 32.0, 8.0 / 64.0];
        // The second is nothing, which only a softmax has a class for.
        let logits = [[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]];
        let raw = [logits.as_flattened(), &place, &place].concat();
        let softmaxed = found(BoxFormat::Detr, false, &raw);
        assert_eq!(softmaxed.len(), 1);
        assert_eq!((softmaxed[0].0, softmaxed[0].2), (1, SMALL));
        assert!((softmaxed[0].1 - 0.999_753).abs() < 1e-5, "{softmaxed:?}");
        // One box may have several labels.
        let raw = [&[2.0, 0.0][..], &place].concat();
        let labels: Vec<usize> = found(BoxFormat::Detr, true, &raw)
            .into_iter()
            .map(|found| found.0)
            .collect();
        assert_eq!(labels, [0, 1]);
    }

    #[test]
    fn rows_of_a_label_that_does_not_exist_are_left_out() {
        let row = |label| [8.0, 16.0, 12.0, 24.0, 0.5, label];
        let raw = [row(-1.0), row(2.0), row(1.0)];
        let found = found(BoxFormat::Corners, false, raw.as_flattened());
        assert_eq!(found, [(1, 0.5, SMALL)]);
    }

    #[test]
    fn numbers_of_another_format_are_no_boxes() {
        for format in [
            BoxFormat::Yolov5,
            BoxFormat::Yolov8,
            BoxFormat::Corners,
            BoxFormat::Detr,
        ] {
            assert_eq!(reader(false).read(&[0.0; 11], format), None, "{format:?}");
        }
    }
}
