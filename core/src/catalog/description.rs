//! The fields of a description: `model.toml`'s own vocabulary, which files of other tools are translated into.
//!
//! Each file of a folder is a layer that sets some fields; later layers overrule earlier ones. What no layer sets has a
//! default or is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::device::Device;
use super::input::{
    BoxFormat, Boxes, Channels, CropRounding, Decode, Filter, Input, Layout, Output, Place,
    Polarity, Profile, Resize, Task, UNIT_SCALE,
};
use crate::job::ModelName;

/// Fields that one file sets.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fields {
    pub(super) name: Option<ModelName>,
    pub(super) version: Option<String>,
    pub(super) description: Option<String>,
    pub(super) file: Option<String>,
    pub(super) task: Option<Task>,
    pub(super) labels: Option<Labels>,
    pub(super) max_batch: Option<u16>,
    pub(super) device: Option<Device>,
    pub(super) device_strict: Option<bool>,
    pub(super) input: InputFields,
    pub(super) output: OutputFields,
}

/// Labels, or the file in the folder that lists them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a list of texts, or the name of a file with one label a line"
)]
pub(super) enum Labels {
    Listed(Vec<String>),
    File(String),
}

/// The section `[input]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InputFields {
    pub(super) name: Option<String>,
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
    pub(super) channels: Option<Channels>,
    pub(super) layout: Option<Layout>,
    pub(super) decode: Option<Decode>,
    pub(super) profile: Option<Profile>,
    pub(super) resize: Option<Resize>,
    pub(super) resize_to: Option<u32>,
    pub(super) crop_pct: Option<f64>,
    pub(super) crop_rounding: Option<CropRounding>,
    pub(super) filter: Option<Filter>,
    pub(super) antialias: Option<bool>,
    pub(super) pad: Option<Vec<u8>>,
    pub(super) place: Option<Place>,
    pub(super) polarity: Option<Polarity>,
    pub(super) trim: Option<bool>,
    pub(super) scale: Option<f64>,
    pub(super) mean: Option<Vec<f64>>,
    pub(super) std: Option<Vec<f64>>,
}

/// The section `[output]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OutputFields {
    pub(super) name: Option<String>,
    pub(super) softmax: Option<bool>,
    pub(super) sigmoid: Option<bool>,
    pub(super) threshold: Option<f64>,
    pub(super) format: Option<BoxFormat>,
    pub(super) boxes: Option<String>,
    pub(super) iou: Option<f64>,
    pub(super) max_boxes: Option<u16>,
    pub(super) normalize: Option<bool>,
}

/// What is wrong with a field.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) field: &'static str,
    pub(super) text: String,
    /// The file it is in, where that is not the one that set the field.
    pub(super) source: Option<String>,
}

impl Problem {
    pub(super) fn new(field: &'static str, text: impl Into<String>) -> Self {
        Self {
            field,
            text: text.into(),
            source: None,
        }
    }

    /// A file as a whole, or a field that is not `model.toml`'s.
    pub(super) fn of_file(source: &str, text: String) -> Self {
        let source = Some(source.to_owned());
        Self {
            field: "",
            text,
            source,
        }
    }
}

/// Longest quote of a wrong line: labels may be thousands.
const MAX_QUOTE: usize = 80;

/// Reads `model.toml`; the error names the line.
pub(super) fn parse(text: &str) -> Result<Fields, String> {
    toml::from_str(text).map_err(|error| {
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        let at = before.matches('\n').count();
        let line = text.lines().nth(at).unwrap_or_default().trim();
        let quote: String = line.chars().take(MAX_QUOTE).collect();
        let more = if quote.len() < line.len() { "…" } else { "" };
        format!("line {} (`{quote}{more}`): {}", at + 1, error.message())
    })
}

/// The line of `model.toml` that sets a field, such as `input.width`.
pub(super) fn line_of(text: &str, field: &str) -> Option<usize> {
    let mut section = String::new();
    let sets = |line: &str| {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            section = format!("{}.", name.trim());
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        format!("{section}{key}") == field
    };
    text.lines().position(sets).map(|at| at + 1)
}

/// All fields that are set, by name, with the value and the file that it came from.
#[derive(Debug, Default)]
pub(super) struct Merged(pub(super) BTreeMap<String, (Value, String)>);

impl Merged {
    /// Adds the fields of one more file, which overrule what is known.
    pub(super) fn add(&mut self, source: &str, fields: &Fields) {
        let Ok(Value::Object(fields)) = serde_json::to_value(fields) else {
            return;
        };
        if fields["input"]["resize"] != Value::Null {
            // They belong to the other way of resizing.
            for field in [
                "input.resize_to",
                "input.crop_pct",
                "input.crop_rounding",
                "input.pad",
                "input.place",
            ] {
                self.0.remove(field);
            }
        }
        let says = |field: &str| fields["output"][field] != Value::Null;
        if fields["task"] != Value::Null || says("softmax") || says("sigmoid") {
            // The way to finish another task's scores.
            self.0.remove("output.softmax");
            self.0.remove("output.sigmoid");
        }
        for (field, value) in fields {
            match value {
                Value::Null => {}
                Value::Object(section) => {
                    for (name, value) in section.into_iter().filter(|(_, value)| !value.is_null()) {
                        self.0
                            .insert(format!("{field}.{name}"), (value, source.to_owned()));
                    }
                }
                value => {
                    self.0.insert(field, (value, source.to_owned()));
                }
            }
        }
    }

    /// The file that set the field.
    pub(super) fn source(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(|(_, source)| source.as_str())
    }

    /// The fields together.
    pub(super) fn fields(&self) -> Fields {
        let mut all = Map::new();
        for (field, (value, _)) in &self.0 {
            let place = match field.split_once('.') {
                Some((section, name)) => {
                    &mut all.entry(section).or_insert_with(|| Map::new().into())[name]
                }
                None => all.entry(field).or_insert(Value::Null),
            };
            *place = value.clone();
        }
        serde_json::from_value(all.into()).expect("these fields were serialised before")
    }
}

/// Largest side of an input, in pixels; beyond it a description is a mistake.
const MAX_SIDE: u32 = 4096;
/// Most that a model's values may span: 255 for pixels as they are. More are pixels of 0 to 255 with the `mean` and `std` of
/// pixels from 0 to 1.
const MAX_SPAN: f64 = 300.0;
/// Least that they may span: about 2 is usual.
const MIN_SPAN: f64 = 0.1;

impl InputFields {
    /// The input, with every default.
    pub(super) fn finish(self) -> Result<Input, Problem> {
        let missing = |field| Problem::new(field, "is missing: no file in the folder says it");
        let width = self.width.ok_or_else(|| missing("input.width"))?;
        let height = self.height.ok_or_else(|| missing("input.height"))?;
        let channels = self.channels.ok_or_else(|| missing("input.channels"))?;
        if self.scale.is_none() && self.mean.is_none() && self.std.is_none() {
            return Err(Problem::new(
                "input.mean",
                "no file in the folder says how pixels become numbers: set scale, mean and std in model.toml as the training \
                 code does (pixels from 0 to 1 are scale = 0.00392156862745098, mean = [0, 0, 0], std = [1, 1, 1])",
            ));
        }
        let defaults = Input::new(width, height, channels);
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        let resize_to = self
            .crop_pct
            .map(|part| f64::from(width.min(height)) / part);
        let input = Input {
            name: self.name,
            layout: self.layout.unwrap_or_default(),
            decode: self.decode.unwrap_or_default(),
            profile: self.profile.unwrap_or_default(),
            resize: self.resize.unwrap_or_default(),
            resize_to: self.resize_to.or(resize_to.map(|side| side.floor() as u32)),
            crop_rounding: self.crop_rounding.unwrap_or_default(),
            filter: self.filter.unwrap_or_default(),
            antialias: self.antialias.unwrap_or(defaults.antialias),
            pad: self.pad,
            place: self.place.unwrap_or_default(),
            polarity: self.polarity.unwrap_or_default(),
            trim: self.trim.unwrap_or_default(),
            scale: self.scale.unwrap_or(UNIT_SCALE),
            mean: self.mean.map_or_else(|| defaults.mean.clone(), narrow),
            std: self.std.map_or_else(|| defaults.std.clone(), narrow),
            ..defaults
        };
        input.check_sides()?;
        input.check_padding()?;
        input.check_values()?;
        Ok(input)
    }
}

impl Input {
    fn check_sides(&self) -> Result<(), Problem> {
        let (width, height) = (self.width, self.height);
        for (field, side) in [("input.width", width), ("input.height", height)] {
            ensure((1..=MAX_SIDE).contains(&side), field, || {
                format!("must be 1 to {MAX_SIDE}, is {side}")
            })?;
        }
        let Some(side) = self.resize_to else {
            return Ok(());
        };
        let least = width.max(height);
        ensure(
            matches!(self.resize, Resize::Stretch | Resize::ShortestSide),
            "input.resize_to",
            || "is for resize = \"shortest_side\" and \"stretch\" only".to_owned(),
        )?;
        ensure(
            (least..=MAX_SIDE).contains(&side),
            "input.resize_to",
            || {
                format!(
                    "must be {least} to {MAX_SIDE}, so that the crop lies within the image, is {side}"
                )
            },
        )
    }

    fn check_padding(&self) -> Result<(), Problem> {
        let channels = self.channels.count();
        ensure(
            self.pad.as_ref().is_none_or(|pad| pad.len() == channels),
            "input.pad",
            || format!("must be {channels} values from 0 to 255, one per channel"),
        )?;
        let pads = self.resize == Resize::Fit;
        ensure(pads || self.pad.is_none(), "input.pad", || {
            "is for resize = \"fit\" only".to_owned()
        })
    }

    fn check_values(&self) -> Result<(), Problem> {
        let channels = self.channels.count();
        for (field, values) in [("input.mean", &self.mean), ("input.std", &self.std)] {
            let good = values.len() == channels && values.iter().all(|value| value.is_finite());
            ensure(good, field, || {
                format!("must be {channels} numbers, one per channel, is {values:?}")
            })?;
        }
        ensure(self.std.iter().all(|std| *std > 0.0), "input.std", || {
            "must be above 0".to_owned()
        })?;
        let scale = self.scale;
        ensure(scale.is_finite() && scale > 0.0, "input.scale", || {
            format!("must be above 0, is {scale}")
        })?;
        let largest = 255.0 * scale;
        for (mean, std) in self.mean.iter().zip(&self.std) {
            let (mean, std) = (f64::from(*mean), f64::from(*std));
            ensure(
                (-largest..=1.5 * largest).contains(&mean),
                "input.mean",
                || {
                    format!(
                        "{mean} lies outside of the pixels' values, which scale = {scale} makes 0 to {largest:.3}: {}",
                        if mean > largest {
                            "it is meant for pixels from 0 to 255, so set scale = 1"
                        } else {
                            "check its sign and unit"
                        }
                    )
                },
            )?;
            let span = largest / std;
            ensure(span >= MIN_SPAN, "input.std", || {
                format!(
                    "{std} leaves values that span {span:.4} only: it is meant for pixels from 0 to 255, so set scale = 1"
                )
            })?;
            ensure(span <= MAX_SPAN, "input.std", || {
                format!(
                    "{std} with scale = {scale} gives values that span {span:.0}: it is meant for pixels from 0 to 1, so set \
                         scale = {UNIT_SCALE} or leave it out"
                )
            })?;
        }
        Ok(())
    }
}

impl OutputFields {
    /// The output of a task, with every default.
    pub(super) fn finish(self, task: Task) -> Result<Output, Problem> {
        let (softmax, sigmoid) = (
            self.softmax.unwrap_or_default(),
            self.sigmoid.unwrap_or_default(),
        );
        ensure(!(softmax && sigmoid), "output.sigmoid", || {
            "cannot be set together with softmax".to_owned()
        })?;
        ensure(
            !softmax || task != Task::Multilabel,
            "output.softmax",
            || {
                "gives probabilities of one label only: set sigmoid = true, or neither if the graph ends with it".to_owned()
            },
        )?;
        let detects = task == Task::Detect;
        for (field, is_set) in [
            ("output.format", self.format.is_some()),
            ("output.boxes", self.boxes.is_some()),
            ("output.iou", self.iou.is_some()),
            ("output.max_boxes", self.max_boxes.is_some()),
        ] {
            ensure(detects || !is_set, field, || {
                "is for task = \"detect\" only".to_owned()
            })?;
        }
        ensure(
            detects || task == Task::Multilabel || self.threshold.is_none(),
            "output.threshold",
            || "is for task = \"multilabel\" and \"detect\" only".to_owned(),
        )?;
        let normalize = self.normalize.unwrap_or_default();
        ensure(
            !normalize || task == Task::Embed,
            "output.normalize",
            || "is for task = \"embed\" only".to_owned(),
        )?;
        let boxes = self.format.map(|format| Boxes {
            format,
            tensor: self.boxes,
            iou: self.iou.unwrap_or(default_iou(format)) as f32,
            max_boxes: self.max_boxes.unwrap_or(DEFAULT_MAX_BOXES),
        });
        ensure(!detects || boxes.is_some(), "output.format", || {
            "must be \"yolov5\", \"yolov8\", \"corners\" or \"detr\": the shapes of the model's outputs do not say it"
                .to_owned()
        })?;
        let detr = boxes
            .as_ref()
            .is_some_and(|boxes| boxes.format == BoxFormat::Detr);
        for (field, is_set) in [("output.softmax", softmax), ("output.sigmoid", sigmoid)] {
            ensure(!detects || detr || !is_set, field, || {
                "is not for boxes, except with format = \"detr\": export the model with its scores from 0 to 1".to_owned()
            })?;
        }
        let threshold = self.threshold.unwrap_or(match task {
            Task::Classify | Task::Embed => 0.0,
            Task::Detect if !detr => 0.25,
            Task::Detect | Task::Multilabel => 0.5,
        });
        let iou = boxes.as_ref().map_or(0.0, |boxes| f64::from(boxes.iou));
        for (field, part) in [("output.threshold", threshold), ("output.iou", iou)] {
            ensure((0.0..1.0).contains(&part), field, || {
                format!("must be 0 or more and below 1, is {part}")
            })?;
        }
        let most = boxes.as_ref().map_or(1, |boxes| boxes.max_boxes);
        ensure((1..=1000).contains(&most), "output.max_boxes", || {
            format!("must be 1 to 1000, is {most}")
        })?;
        Ok(Output {
            name: self.name,
            softmax: softmax || (detr && !sigmoid),
            sigmoid,
            threshold: threshold as f32,
            boxes,
            normalize,
        })
    }
}

/// Most boxes in a result, as in Ultralytics' code.
const DEFAULT_MAX_BOXES: u16 = 300;

/// What the detectors' own code has.
const fn default_iou(format: BoxFormat) -> f64 {
    match format {
        BoxFormat::Yolov5 => 0.45,
        BoxFormat::Yolov8 | BoxFormat::Corners | BoxFormat::Detr => 0.7,
    }
}

fn ensure(
    condition: bool,
    field: &'static str,
    problem: impl FnOnce() -> String,
) -> Result<(), Problem> {
    if condition {
        Ok(())
    } else {
        Err(Problem::new(field, problem()))
    }
}

/// A number that changes whenever preparation or output settings change the answers.
pub(super) fn preparation(task: Task, input: &Input, output: &Output, code_version: u32) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(code_version.to_le_bytes());
    hasher.update(serde_json::to_vec(&(task, input, output)).expect("plain data serialises"));
    let digest: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
