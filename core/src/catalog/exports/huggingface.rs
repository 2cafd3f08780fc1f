//! Hugging Face: `config.json` names the labels, `preprocessor_config.json` says what an image processor does.

use serde::Deserialize;
use serde_json::Value;

use super::super::description::{Fields, InputFields, OutputFields};
use super::super::input::{Channels, CropRounding, Resize, Task};
use super::values::{filter, numbered};

/// Image processors that resize, crop, scale and normalise in this order and by their fields alone.
const PLAIN: &str = "ViT DeiT Beit Siglip CLIP Bit MobileNetV1 MobileNetV2 Pvt Segformer Detr ConditionalDetr DeformableDetr \
                     RTDetr Yolos";
/// Those with rules of their own.
const SPECIAL: &str = "ConvNext EfficientNet Levit MobileViT PoolFormer";
/// Those that take a size of one number for the shortest side.
const SHORTEST: &str = "CLIP Bit MobileNetV1 MobileNetV2 ConvNext Levit MobileViT PoolFormer";
/// Those that crop only where their file says so, although it has a size for it.
const UNCROPPED: &str = "Beit EfficientNet";

/// What `config.json` says: the task, and its labels.
pub(super) fn config(config: &Value) -> Result<Fields, String> {
    let architecture = config["architectures"][0].as_str().unwrap_or_default();
    let task = task(architecture, config["problem_type"].as_str())?;
    let labels = config["id2label"].as_object().map(|labels| {
        numbered(labels.iter().map(|(number, label)| {
            (
                number.clone(),
                label.as_str().unwrap_or_default().to_owned(),
            )
        }))
    });
    Ok(Fields {
        task: Some(task),
        labels: labels
            .transpose()
            .map_err(|problem| format!("id2label: {problem}"))?,
        output: OutputFields {
            softmax: (task == Task::Classify).then_some(true),
            sigmoid: (task == Task::Multilabel).then_some(true),
            ..OutputFields::default()
        },
        ..Fields::default()
    })
}

/// A model without a head gives features.
fn task(architecture: &str, problem: Option<&str>) -> Result<Task, String> {
    let is = |name: &str| architecture.contains(name);
    if is("ForImageClassification") || architecture.is_empty() {
        let several = problem == Some("multi_label_classification");
        Ok(if several {
            Task::Multilabel
        } else {
            Task::Classify
        })
    } else if is("ForObjectDetection") {
        Ok(Task::Detect)
    } else if architecture.ends_with("Model") || is("VisionModelWithProjection") {
        Ok(Task::Embed)
    } else {
        Err(format!(
            "architectures: `{architecture}` is for none of the tasks classify, multilabel, detect and embed"
        ))
    }
}

#[derive(Deserialize)]
struct Processor {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    resample: Option<usize>,
    crop_pct: Option<f64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    #[serde(default)]
    rescale_offset: bool,
    include_top: Option<bool>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f64>>,
    image_std: Option<Vec<f64>>,
    do_flip_channel_order: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(u32),
    Exact { height: u32, width: u32 },
    Shortest { shortest_edge: u32 },
}

impl Size {
    /// Width and height of a crop.
    const fn sides(self) -> (u32, u32) {
        match self {
            Self::Side(side)
            | Self::Shortest {
                shortest_edge: side,
            } => (side, side),
            Self::Exact { height, width } => (width, height),
        }
    }
}

/// What `preprocessor_config.json` says.
pub(super) fn preprocessor(config: Value) -> Result<Fields, String> {
    let processor: Processor = serde_json::from_value(config).map_err(|error| error.to_string())?;
    let kind = processor
        .image_processor_type
        .as_ref()
        .or(processor.feature_extractor_type.as_ref());
    let kind = kind.ok_or("image_processor_type is missing")?;
    if !is(kind, PLAIN) && !is(kind, SPECIAL) {
        return Err(format!(
            "image_processor_type: `{kind}` is not known; say in model.toml what it does, and take this file away"
        ));
    }
    let mut input = processor.geometry(kind)?;
    processor.values(kind, &mut input)?;
    if is(kind, "MobileViT") && processor.do_flip_channel_order != Some(false) {
        input.channels = Some(Channels::Bgr);
    }
    Ok(Fields {
        input,
        ..Fields::default()
    })
}

/// Whether the kind of an image processor is one of these; the rest of its name tells classes of one kind apart.
fn is(kind: &str, names: &str) -> bool {
    names.split_whitespace().any(|name| kind.starts_with(name))
}

impl Processor {
    fn geometry(&self, kind: &str) -> Result<InputFields, String> {
        const FILTERS: [&str; 6] = [
            "nearest", "lanczos", "bilinear", "bicubic", "box", "hamming",
        ];
        if self.do_resize == Some(false) {
            return Err("do_resize: images that are not resized are not supported".to_owned());
        }
        let size = self.size.ok_or("size is missing")?;
        let name = self.resample.and_then(|number| FILTERS.get(number));
        let mut input = InputFields {
            filter: Some(filter(name.ok_or("resample is missing")?)?),
            resize: Some(Resize::Stretch),
            crop_rounding: Some(CropRounding::Down),
            ..InputFields::default()
        };
        let crops = self.do_center_crop.unwrap_or(!is(kind, UNCROPPED));
        let crop = self.crop_size.filter(|_| crops).map(Size::sides);
        let shortest = match size {
            Size::Shortest { shortest_edge } => Some(shortest_edge),
            Size::Side(side) if is(kind, SHORTEST) => Some(side),
            Size::Side(_) | Size::Exact { .. } => None,
        };
        let (width, height) = match shortest {
            // Its own rule: large pictures are not cropped.
            Some(side) if is(kind, "ConvNext") && side >= 384 => (side, side),
            Some(side) if is(kind, "ConvNext PoolFormer") => {
                let part = self.crop_pct.ok_or("crop_pct is missing")?;
                input.resize = Some(Resize::ShortestSide);
                input.resize_to = Some((f64::from(side) / part) as u32);
                crop.unwrap_or((side, side))
            }
            Some(side) => {
                let side = if is(kind, "Levit") {
                    (256.0 / 224.0 * f64::from(side)) as u32
                } else {
                    side
                };
                input.resize = Some(Resize::ShortestSide);
                input.resize_to = Some(side);
                crop.ok_or("size: images of any proportions, without a crop, are not supported")?
            }
            None => {
                let (width, height) = size.sides();
                if crop.is_some() && width != height {
                    return Err(
                        "size: a crop from sides of different length is not supported".to_owned(),
                    );
                }
                input.resize_to = crop.map(|_| width);
                crop.unwrap_or((width, height))
            }
        };
        (input.width, input.height) = (Some(width), Some(height));
        Ok(input)
    }

    /// Scaling and normalising, the offset of EfficientNet and its second division included.
    fn values(&self, kind: &str, input: &mut InputFields) -> Result<(), String> {
        let rescales = self.do_rescale != Some(false);
        input.scale = Some(if rescales {
            self.rescale_factor.unwrap_or(1.0 / 255.0)
        } else {
            1.0
        });
        let offset = if self.rescale_offset { 1.0 } else { 0.0 };
        let normalises = self.do_normalize.unwrap_or(self.image_mean.is_some());
        let (mean, std) = if normalises {
            let missing = "image_mean and image_std are missing";
            (
                self.image_mean.clone().ok_or(missing)?,
                self.image_std.clone().ok_or(missing)?,
            )
        } else {
            (vec![0.0; 3], vec![1.0; 3])
        };
        input.mean = Some(mean.into_iter().map(|mean| mean + offset).collect());
        let again = is(kind, "EfficientNet") && self.include_top != Some(false);
        let again = |std: f64| {
            if again && normalises { std * std } else { std }
        };
        input.std = Some(std.into_iter().map(again).collect());
        Ok(())
    }
}
