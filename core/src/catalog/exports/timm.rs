//! timm: `config.json` with `pretrained_cfg`, read as `timm.data.create_transform` does for evaluation.

use serde::Deserialize;
use serde_json::Value;

use super::super::description::{Fields, InputFields, Labels, OutputFields};
use super::super::input::{Resize, Task};
use super::values::filter;

/// What is left out has timm's defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    input_size: (u32, u32, u32),
    interpolation: String,
    crop_pct: f64,
    crop_mode: Option<String>,
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            input_size: (3, 224, 224),
            interpolation: "bicubic".to_owned(),
            crop_pct: 0.875,
            crop_mode: None,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
        }
    }
}

/// What `config.json` says.
pub(super) fn fields(config: &Value, cfg: &Value) -> Result<Fields, String> {
    let parsed = Config::deserialize(cfg).map_err(|error| format!("pretrained_cfg: {error}"))?;
    let (_, height, width) = parsed.input_size;
    let resize = match parsed.crop_mode.as_deref() {
        None | Some("center") if width == height => Resize::ShortestSide,
        Some("squash") => Resize::Stretch,
        other => {
            return Err(format!(
                "pretrained_cfg.crop_mode: {} for {width} × {height} pixels is not supported",
                other.unwrap_or("center")
            ));
        }
    };
    let labels = config.get("label_names").or_else(|| cfg.get("label_names"));
    let labels = labels
        .filter(|labels| !labels.is_null())
        .map(Vec::deserialize)
        .transpose();
    let task = if config["num_classes"] == 0 {
        Task::Embed
    } else {
        Task::Classify
    };
    Ok(Fields {
        task: Some(task),
        labels: labels
            .map_err(|error| format!("label_names: {error}"))?
            .map(Labels::Listed),
        input: InputFields {
            width: Some(width),
            height: Some(height),
            resize: Some(resize),
            resize_to: Some((f64::from(width.min(height)) / parsed.crop_pct) as u32),
            filter: Some(filter(&parsed.interpolation)?),
            scale: Some(1.0 / 255.0),
            mean: Some(parsed.mean),
            std: Some(parsed.std),
            ..InputFields::default()
        },
        output: OutputFields {
            softmax: (task == Task::Classify).then_some(true),
            ..OutputFields::default()
        },
        ..Fields::default()
    })
}
