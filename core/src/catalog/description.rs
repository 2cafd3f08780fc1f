//! `model.toml`: its fields, their defaults, and what makes one wrong.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::job::ModelName;

/// `model.toml` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) name: ModelName,
    pub(super) version: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) file: String,
    pub(super) labels: Vec<String>,
    #[serde(default = "default_max_batch")]
    pub(super) max_batch: u16,
    pub(super) input: Input,
    #[serde(default)]
    pub(super) output: Output,
}

const fn default_max_batch() -> u16 {
    16
}

/// What a model takes: a tensor of float32, shape `[N, channels, height, width]` or `[N, height, width, channels]`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schema(as = ModelInput))]
pub struct Input {
    /// The tensor's name; the model's only input where it is left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Grey or colour.
    pub channels: Channels,
    /// Order of the tensor's axes.
    #[serde(default)]
    pub layout: Layout,
    /// How an image of another size becomes one of this size.
    #[serde(default)]
    pub resize: Resize,
    /// Whether light and dark are exchanged.
    #[serde(default)]
    pub polarity: Polarity,
    /// Edges of the background's colour are cut off first.
    #[serde(default)]
    pub trim: bool,
    /// Subtracted from each channel after scaling pixels to 0..1.
    pub mean: Vec<f32>,
    /// Each channel is divided by it after the subtraction.
    pub std: Vec<f32>,
}

impl Input {
    /// Values of one image's tensor: one per pixel and channel.
    #[must_use]
    pub const fn values(&self) -> usize {
        self.width as usize * self.height as usize * self.channels.count()
    }
}

/// Colours of an input.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// One channel of luminance.
    Gray,
    /// Red, green, blue.
    Rgb,
}

impl Channels {
    /// How many there are.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// Order of an input tensor's axes.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `[N, channels, height, width]`.
    #[default]
    Nchw,
    /// `[N, height, width, channels]`.
    Nhwc,
}

/// How an image of another size becomes one of the model's size.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Each side for itself; the picture is distorted.
    #[default]
    Stretch,
    /// The whole picture, its proportions kept, padded with its background.
    Fit,
    /// The largest part of the picture's middle that has the model's proportions.
    Cover,
}

/// Whether light and dark are exchanged before the model sees an image.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    /// Never.
    #[default]
    Keep,
    /// Always.
    Invert,
    /// Where the background is light: for models that were trained on light objects before black.
    Auto,
}

/// What a model gives: a tensor of float32, shape `[N, labels]`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schema(as = ModelOutput))]
pub struct Output {
    /// The tensor's name; the model's only output where it is left out.
    #[serde(default)]
    pub name: Option<String>,
    /// The scores are logits and become probabilities by a softmax.
    #[serde(default)]
    pub softmax: bool,
}

/// Largest side of an input, in pixels; beyond it a description is a mistake.
const MAX_SIDE: u32 = 4096;

/// Reads a description; the error names the field.
pub(super) fn parse(text: &str) -> Result<Description, String> {
    let description: Description = toml::from_str(text).map_err(|error| {
        let at = error
            .span()
            .map_or(0, |span| text[..span.start.min(text.len())].lines().count());
        let line = text
            .lines()
            .nth(at.saturating_sub(1))
            .unwrap_or_default()
            .trim();
        format!("line {at} (`{line}`): {}", error.message())
    })?;
    description.check()?;
    Ok(description)
}

impl Description {
    fn check(&self) -> Result<(), String> {
        let input = &self.input;
        let plain_file =
            !self.file.is_empty() && !self.file.contains(['/', '\\']) && self.file != "..";
        let mut sorted = self.labels.clone();
        sorted.sort();
        let channels = input.channels.count();
        let side = |name: &str, side: u32| {
            ensure((1..=MAX_SIDE).contains(&side), || {
                format!("input.{name}: must be 1 to {MAX_SIDE}, is {side}")
            })
        };
        let per_channel = |name: &str, values: &[f32]| {
            ensure(
                values.len() == channels && values.iter().all(|v| v.is_finite()),
                || {
                    format!(
                        "input.{name}: must be {channels} numbers, one per channel, is {values:?}"
                    )
                },
            )
        };
        ensure(!self.version.is_empty() && self.version.len() <= 64, || {
            "version: must be 1 to 64 characters".to_owned()
        })?;
        ensure(plain_file, || {
            format!(
                "file: must be a file's name within the model's folder, is `{}`",
                self.file
            )
        })?;
        ensure(!self.labels.is_empty(), || {
            "labels: must name at least one label".to_owned()
        })?;
        ensure(sorted.windows(2).all(|pair| pair[0] != pair[1]), || {
            "labels: two labels are equal".to_owned()
        })?;
        ensure((1..=1024).contains(&self.max_batch), || {
            format!("max_batch: must be 1 to 1024, is {}", self.max_batch)
        })?;
        side("width", input.width)?;
        side("height", input.height)?;
        per_channel("mean", &input.mean)?;
        per_channel("std", &input.std)?;
        ensure(input.std.iter().all(|v| *v != 0.0), || {
            "input.std: must not be 0".to_owned()
        })
    }

    /// A number that changes whenever preparation or output settings change the answers.
    pub(super) fn preparation(&self, code_version: u32) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(code_version.to_le_bytes());
        let settings =
            serde_json::to_vec(&(&self.input, &self.output)).expect("plain data serialises");
        hasher.update(settings);
        let digest: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

fn ensure(condition: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(problem()) }
}
