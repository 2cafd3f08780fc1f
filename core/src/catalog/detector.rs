//! Which outputs of an ONNX file are meant, where no file says it: a detector's boxes, a vector among other features.
//!
//! Shapes say it, or nothing does: what two formats have in common is left for `model.toml`.

use super::description::{OutputFields, Problem};
use super::input::{BoxFormat, Task};
use super::onnx_file::TensorInfo;

/// Names that tools have for an image's vector, where the model has other outputs as well.
const VECTORS: [&str; 4] = ["image_embeds", "pooler_output", "embedding", "embeddings"];

/// Adds what the shapes of the outputs say.
pub(super) fn complete(
    fields: OutputFields,
    task: Task,
    labels: usize,
    outputs: &[TensorInfo],
) -> Result<OutputFields, Problem> {
    match task {
        Task::Classify | Task::Multilabel => Ok(fields),
        Task::Embed => Ok(OutputFields {
            name: fields.name.or_else(|| vector(outputs)),
            ..fields
        }),
        Task::Detect => detector(fields, labels, outputs),
    }
}

fn vector(outputs: &[TensorInfo]) -> Option<String> {
    let is_vector = |output: &&TensorInfo| VECTORS.contains(&output.name.as_str());
    let found = outputs.iter().find(is_vector)?;
    Some(found.name.clone())
}

fn detector(
    fields: OutputFields,
    labels: usize,
    outputs: &[TensorInfo],
) -> Result<OutputFields, Problem> {
    let last = |output: &TensorInfo| output.sides().map(|(_, last)| last);
    let named = |name: &Option<String>| {
        let mut outputs = outputs.iter();
        outputs.find(|output| name.as_ref().is_none_or(|name| *name == output.name))
    };
    let of_boxes = |output: &&TensorInfo| match &fields.boxes {
        Some(name) => *name == output.name,
        None => output.name == "pred_boxes" && last(output) == Some(Some(4)),
    };
    let boxes = outputs.iter().find(of_boxes);
    if let Some(boxes) = boxes.filter(|_| fields.format.is_none_or(|it| it == BoxFormat::Detr)) {
        let logits = fields.name.clone().unwrap_or_else(|| "logits".to_owned());
        let logits = named(&Some(logits)).and_then(last).flatten();
        // A further class stands for "nothing" in models whose classes exclude each other.
        let independent = logits.is_some_and(|classes| classes as usize == labels);
        let sigmoid = fields.sigmoid.or(independent.then_some(true));
        return Ok(OutputFields {
            name: fields.name.or_else(|| Some("logits".to_owned())),
            boxes: Some(boxes.name.clone()),
            format: Some(BoxFormat::Detr),
            sigmoid: sigmoid.filter(|_| fields.softmax != Some(true)),
            ..fields
        });
    }
    if fields.format == Some(BoxFormat::Detr) {
        return Err(Problem::new(
            "output.boxes",
            "must name the output with the boxes; none is called `pred_boxes`",
        ));
    }
    let output = named(&fields.name);
    let sides = output.and_then(TensorInfo::sides);
    let format = fields
        .format
        .or(sides.and_then(|sides| of_sides(sides, labels)));
    let first = output.map(|output| output.name.clone());
    Ok(OutputFields {
        name: fields.name.or(first.filter(|_| format.is_some())),
        format,
        ..fields
    })
}

/// The format whose sides these are, if there is only one.
fn of_sides((second, last): (Option<u32>, Option<u32>), labels: usize) -> Option<BoxFormat> {
    let is = |side: Option<u32>, length: usize| side.is_some_and(|side| side as usize == length);
    let formats = [
        (BoxFormat::Yolov8, is(second, 4 + labels)),
        (BoxFormat::Yolov5, is(last, 5 + labels)),
        (BoxFormat::Corners, is(last, 6)),
    ];
    let mut fitting = formats.into_iter().filter(|(_, fits)| *fits);
    match (fitting.next(), fitting.next()) {
        (Some((format, _)), None) => Some(format),
        _ => None,
    }
}

impl TensorInfo {
    /// The second and third dimension of a tensor that has three.
    fn sides(&self) -> Option<(Option<u32>, Option<u32>)> {
        match *self.dimensions.as_slice() {
            [_, second, last] => Some((second, last)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(name: &str, dimensions: [Option<u32>; 3]) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            element: 1,
            dimensions: dimensions.to_vec(),
        }
    }

    fn found(outputs: &[TensorInfo], labels: usize) -> (Option<BoxFormat>, Option<String>) {
        let fields = OutputFields::default();
        let fields = complete(fields, Task::Detect, labels, outputs).unwrap();
        (fields.format, fields.name)
    }

    #[test]
    fn shapes_say_how_boxes_are_held() {
        for (sides, labels, format) in [
            ([None, Some(84), Some(8400)], 80, Some(BoxFormat::Yolov8)),
            ([None, Some(84), None], 80, Some(BoxFormat::Yolov8)),
            (
                [Some(1), Some(25200), Some(85)],
                80,
                Some(BoxFormat::Yolov5),
            ),
            ([Some(1), Some(300), Some(6)], 80, Some(BoxFormat::Corners)),
            // One label: YOLOv5's rows are as long as those of corners.
            ([Some(1), Some(300), Some(6)], 1, None),
            ([None, None, None], 80, None),
        ] {
            let name = format.map(|_| "output0".to_owned());
            let outputs = [output("output0", sides)];
            assert_eq!(found(&outputs, labels), (format, name), "{sides:?}");
        }
    }

    #[test]
    fn logits_without_a_class_for_nothing_are_independent() {
        for (classes, sigmoid) in [(92, None), (91, Some(true))] {
            let outputs = [
                output("logits", [None, Some(100), Some(classes)]),
                output("pred_boxes", [None, Some(100), Some(4)]),
            ];
            let fields = OutputFields::default();
            let fields = complete(fields, Task::Detect, 91, &outputs).unwrap();
            assert_eq!(fields.format, Some(BoxFormat::Detr));
            assert_eq!(fields.boxes.as_deref(), Some("pred_boxes"));
            assert_eq!(fields.sigmoid, sigmoid, "{classes}");
        }
    }

    #[test]
    fn the_pooled_features_are_the_vector() {
        let outputs = [
            output("last_hidden_state", [None, None, Some(768)]),
            output("pooler_output", [None, None, Some(768)]),
        ];
        let fields = OutputFields::default();
        let fields = complete(fields, Task::Embed, 0, &outputs).unwrap();
        assert_eq!(fields.name.as_deref(), Some("pooler_output"));
    }
}
