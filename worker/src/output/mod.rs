//! From the numbers that a model gives for an image to the values of a result: pure functions, no ONNX Runtime.
//!
//! | file | owns |
//! |---|---|
//! | `scores` | softmax, sigmoid, norm |
//! | `boxes` | how a detector's tensors hold boxes |
//! | `nms` | which boxes are dropped because they overlap |

mod boxes;
mod nms;
mod scores;

use selvage_core::catalog::{BoxFormat, Boxes, Model, Output, Task};

use crate::image::frame::Frame;
use crate::image::resize::Size;
use boxes::Reader;

/// Finishes the numbers of one model.
#[derive(Clone, Debug)]
pub struct Finisher {
    task: Task,
    output: Output,
    labels: usize,
    input: Size,
}

impl Finisher {
    /// The finisher of a model.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        Self {
            task: model.task,
            output: model.output.clone(),
            labels: model.labels.len(),
            input: Size::new(model.input.width, model.input.height),
        }
    }

    /// The values of a result; see [`selvage_core::output::Meaning`]. `frame` tells where the image's pixels come from; without
    /// it the image is the model's input. `None` where values are no numbers, or too few.
    #[must_use]
    pub fn finish(&self, raw: &[f32], frame: Option<&Frame>) -> Option<Vec<f32>> {
        let values = match (self.task, &self.output.boxes) {
            (Task::Detect, Some(boxes)) => self.detections(raw, boxes, frame)?,
            (task, _) if task != Task::Embed && raw.len() != self.labels => return None,
            _ => {
                let mut values = raw.to_vec();
                self.activate(&mut values);
                values
            }
        };
        scores::are_finite(&values).then_some(values)
    }

    fn activate(&self, values: &mut [f32]) {
        if self.output.softmax {
            scores::softmax(values);
        }
        if self.output.sigmoid {
            scores::sigmoid(values);
        }
        if self.output.normalize {
            scores::normalize(values);
        }
    }

    fn detections(&self, raw: &[f32], boxes: &Boxes, frame: Option<&Frame>) -> Option<Vec<f32>> {
        // A logit may be minus infinity.
        let logits = boxes.format == BoxFormat::Detr;
        if raw.iter().any(|value| value.is_nan()) || !(logits || scores::are_finite(raw)) {
            return None;
        }
        let whole = Frame::whole(self.input, self.input);
        let frame = frame.unwrap_or(&whole);
        let reader = Reader {
            labels: self.labels,
            input: self.input,
            sigmoid: self.output.sigmoid,
            threshold: self.output.threshold,
        };
        let candidates = reader.read(raw, boxes.format)?;
        let kept = if boxes::overlap(boxes.format) {
            nms::suppress(candidates, boxes.iou, usize::from(boxes.max_boxes))
        } else {
            nms::best(candidates, usize::from(boxes.max_boxes))
        };
        let picture = frame.picture();
        let mut values = vec![picture.width as f32, picture.height as f32];
        for found in kept {
            let edges = frame.edges(found.edges);
            // Padding is no part of the picture.
            if edges[0] < edges[2] && edges[1] < edges[3] {
                values.extend(edges);
                values.extend([found.score, found.label as f32]);
            }
        }
        Some(values)
    }
}
