//! What shape the output of a task must have. A shape of another kind is named, with the task that it would fit.

use selvage_core::catalog::{BoxFormat, Model, Task};

/// Most values of a vector: beyond it an output is a map of features.
const MAX_VECTOR: i64 = 16_000;

/// Checks the shapes of the outputs that a batch of `images` gave, in the order in which they are read.
pub(super) fn check(model: &Model, shapes: &[Vec<i64>], images: usize) -> Result<(), String> {
    let first = shapes.first().map_or(&[][..], Vec::as_slice);
    let labels = model.labels.len();
    match (model.task, &model.output.boxes) {
        (Task::Classify | Task::Multilabel, _) => check_scores(model, first, images),
        (Task::Embed, _) => check_vector(model, first, images),
        (Task::Detect, None) => Ok(()),
        (Task::Detect, Some(boxes)) => {
            let classes = labels + usize::from(!model.output.sigmoid);
            let (second, last) = match boxes.format {
                BoxFormat::Yolov5 => (None, Some(5 + labels)),
                BoxFormat::Yolov8 => (Some(4 + labels), None),
                BoxFormat::Corners => (None, Some(6)),
                BoxFormat::Detr => (None, Some(classes)),
            };
            check_boxes(first, images, [second, last], model)?;
            shapes.get(1).map_or(Ok(()), |places| {
                check_boxes(
                    places,
                    images,
                    [first.get(1).and_then(|n| usize::try_from(*n).ok()), Some(4)],
                    model,
                )
            })
        }
    }
}

fn is(found: i64, wanted: usize) -> bool {
    usize::try_from(found) == Ok(wanted)
}

/// One score for each label of each image.
fn check_scores(model: &Model, shape: &[i64], images: usize) -> Result<(), String> {
    let labels = model.labels.len();
    match shape {
        [first] if is(*first, images) && labels == 1 => Ok(()),
        [only] if images == 1 && is(*only, labels) => Ok(()),
        [first, second, rest @ ..] if rest.iter().all(|side| *side == 1) => {
            if is(*first, images) && is(*second, labels) {
                Ok(())
            } else if is(*first, images) {
                Err(format!(
                    "labels: {labels} are named, the model gives {second} scores per image{}",
                    wrong_count(model, *second)
                ))
            } else {
                Err(format!(
                    "output: must be [images, labels], which is [{images}, {labels}], and is {shape:?}{}",
                    if is(*first, labels) {
                        ": it is transposed"
                    } else {
                        ""
                    }
                ))
            }
        }
        _ => Err(format!(
            "output: must be [images, labels], which is [{images}, {labels}], and is {shape:?}: {}",
            looks_like(model, shape)
        )),
    }
}

/// One vector for each image.
fn check_vector(model: &Model, shape: &[i64], images: usize) -> Result<(), String> {
    match shape {
        [first, length, rest @ ..]
            if is(*first, images)
                && (1..=MAX_VECTOR).contains(length)
                && rest.iter().all(|side| *side == 1) =>
        {
            Ok(())
        }
        _ => Err(format!(
            "output: must be [images, values], with {images} images and at most {MAX_VECTOR} values, and is {shape:?}: {}",
            looks_like(model, shape)
        )),
    }
}

fn check_boxes(
    shape: &[i64],
    images: usize,
    wanted: [Option<usize>; 2],
    model: &Model,
) -> Result<(), String> {
    let fits = match shape {
        [first, rest @ ..] if rest.len() == 2 => {
            let mut sides = rest.iter().zip(wanted);
            is(*first, images)
                && sides.all(|(side, wanted)| wanted.is_none_or(|wanted| is(*side, wanted)))
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let [second, last] =
        wanted.map(|side| side.map_or("boxes".to_owned(), |side| side.to_string()));
    Err(format!(
        "output: must be [{images}, {second}, {last}] for {} labels in this format, and is {shape:?}: {}",
        model.labels.len(),
        looks_like(model, shape)
    ))
}

/// What another number of scores may mean.
fn wrong_count(model: &Model, scores: i64) -> String {
    let input = &model.input;
    if is(scores, input.width as usize * input.height as usize) {
        let (width, height) = (input.width, input.height);
        format!(", one for each of {width} × {height} pixels: a map of pixels, which no task reads")
    } else if scores == 1 {
        "; a single score that says yes or no has one label, with task = \"multilabel\"".to_owned()
    } else {
        "; if these are features, set task = \"embed\"".to_owned()
    }
}

/// What an output of this shape probably is.
fn looks_like(model: &Model, shape: &[i64]) -> &'static str {
    let labels = i64::try_from(model.labels.len()).unwrap_or(i64::MAX);
    match *shape {
        [_, boxes, 6] if boxes > 1 => {
            "the boxes of a detector that has dropped those that overlap, for which task = \"detect\" with format = \
             \"corners\" is made"
        }
        [_, values, _] if values == labels + 4 => {
            "the boxes of a YOLOv8 detector, for which task = \"detect\" is made"
        }
        [_, _, values] if values == labels + 5 => {
            "the boxes of a YOLOv5 detector, for which task = \"detect\" is made"
        }
        [_, _, 4] => "the places of a detector's boxes, for which task = \"detect\" is made",
        [_, _, _] => {
            "features of many parts of the image; name an output with one vector per image and set task = \"embed\""
        }
        [_, _, _, _] => "a map of pixels or of features, which no task reads",
        _ => "the output of none of the tasks classify, multilabel, detect and embed",
    }
}
