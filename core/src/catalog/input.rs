//! What a model takes and gives: the sections `[input]` and `[output]` of its description, with every default filled in.

use serde::{Deserialize, Serialize};

/// What a model takes: a tensor of shape `[N, channels, height, width]` or `[N, height, width, channels]`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", schema(as = ModelInput))]
pub struct Input {
    /// The tensor's name; the model's only input where it is left out.
    pub name: Option<String>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Grey or colour, and the order of colours.
    pub channels: Channels,
    /// Order of the tensor's axes.
    pub layout: Layout,
    /// Whether a large JPEG may be decoded at a reduced size.
    pub decode: Decode,
    /// What becomes of an image's ICC profile.
    pub profile: Profile,
    /// How an image of another size becomes one of this size.
    pub resize: Resize,
    /// The shorter side in pixels after scaling and before the centre is cropped. Without it nothing is cropped after scaling.
    pub resize_to: Option<u32>,
    /// Where the crop lies if an odd number of pixels is left over.
    pub crop_rounding: CropRounding,
    /// How pixels are interpolated.
    pub filter: Filter,
    /// When an image is made smaller, the filter covers all pixels, as in Pillow; otherwise a fixed number, as in OpenCV.
    pub antialias: bool,
    /// Colour of the padding, one value per channel; the background of the image where it is left out.
    pub pad: Option<Vec<u8>>,
    /// Where the image lies within its padding.
    pub place: Place,
    /// Whether light and dark are exchanged.
    pub polarity: Polarity,
    /// Edges of the background's colour are cut off first.
    pub trim: bool,
    /// Pixels from 0 to 255 are multiplied by it.
    pub scale: f64,
    /// Subtracted from each channel after scaling.
    pub mean: Vec<f32>,
    /// Each channel is divided by it after the subtraction.
    pub std: Vec<f32>,
}

impl Input {
    /// Images of this size, with every default.
    #[must_use]
    pub fn new(width: u32, height: u32, channels: Channels) -> Self {
        Self {
            name: None,
            width,
            height,
            channels,
            layout: Layout::default(),
            decode: Decode::default(),
            profile: Profile::default(),
            resize: Resize::default(),
            resize_to: None,
            crop_rounding: CropRounding::default(),
            filter: Filter::default(),
            antialias: true,
            pad: None,
            place: Place::default(),
            polarity: Polarity::default(),
            trim: false,
            scale: UNIT_SCALE,
            mean: vec![0.0; channels.count()],
            std: vec![1.0; channels.count()],
        }
    }

    /// Values of one image's tensor: one per pixel and channel.
    #[must_use]
    pub const fn values(&self) -> usize {
        self.width as usize * self.height as usize * self.channels.count()
    }

    /// What the model is given for a pixel's value in one of the tensor's channels.
    #[must_use]
    pub fn normalise(&self, channel: usize, pixel: u8) -> f32 {
        let (mean, std) = (f64::from(self.mean[channel]), f64::from(self.std[channel]));
        ((f64::from(pixel) * self.scale - mean) / std) as f32
    }
}

/// Pixels from 0 to 1, which most training code uses.
pub(super) const UNIT_SCALE: f64 = 1.0 / 255.0;

/// Colours of an input, in the order of the tensor's channels.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// One channel of luminance.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red: what OpenCV reads.
    Bgr,
}

impl Channels {
    /// How many there are.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
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

/// Whether a large JPEG may be decoded at a reduced size, which is faster and gives slightly other pixels.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decode {
    /// Never: the pixels are those of Pillow.
    #[default]
    Exact,
    /// At a half, a quarter or an eighth, as long as neither side becomes shorter than the model needs.
    Fast,
}

/// What becomes of an image's ICC profile.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// It is not read, as in Pillow's `convert("RGB")`, which most training code uses.
    #[default]
    Ignore,
    /// Colours are converted to sRGB, as viewers show them.
    Srgb,
}

/// How an image of another size becomes one of the model's size.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Each side for itself; the picture is distorted.
    #[default]
    #[serde(alias = "exact")]
    Stretch,
    /// The longest side is scaled to the model's; the rest is padded.
    #[serde(alias = "longest_side", alias = "letterbox")]
    Fit,
    /// The largest part of the picture's middle that has the model's proportions.
    Cover,
    /// The shortest side is scaled to `resize_to`, in whole pixels as torchvision rounds them; then the centre is cropped.
    ShortestSide,
}

/// How half the number of pixels that a crop leaves over becomes a whole number of pixels to its left, and above it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropRounding {
    /// To the nearest even number, as in torchvision and timm.
    #[default]
    HalfEven,
    /// Down, as in transformers.
    Down,
}

/// How pixels are interpolated.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The pixel in the middle.
    Nearest,
    /// A triangle of one pixel to each side.
    #[default]
    Bilinear,
    /// A cubic of two pixels to each side: Pillow's if antialiased, OpenCV's and torch's if not.
    Bicubic,
    /// A windowed sinc of three pixels to each side.
    Lanczos,
}

/// Where an image lies within its padding.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the middle; an odd pixel of padding is on the right and below.
    #[default]
    Center,
    /// Padding is on the right and below only.
    TopLeft,
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

/// What a model says of an image.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of its labels.
    #[default]
    Classify,
    /// Any number of its labels.
    Multilabel,
    /// Boxes, each with one of its labels.
    Detect,
    /// A vector.
    Embed,
}

impl Task {
    /// The name in `model.toml` and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Multilabel => "multilabel",
            Self::Detect => "detect",
            Self::Embed => "embed",
        }
    }
}

/// How a detector's output tensors hold boxes.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxFormat {
    /// `[N, boxes, 5 + labels]`: centre and size in pixels, the box's score, the labels' scores.
    Yolov5,
    /// `[N, 4 + labels, boxes]`: centre and size in pixels, the labels' scores. YOLOv8, YOLOv9, YOLO11 and others.
    Yolov8,
    /// `[N, boxes, 6]`: two corners in pixels, score, label. Nothing overlaps any more.
    Corners,
    /// `[N, boxes, classes]` and `[N, boxes, 4]`: logits; centre and size as parts of the image.
    Detr,
}

/// What a model gives, and how it becomes a result.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", schema(as = ModelOutput))]
pub struct Output {
    /// The tensor's name; the model's only output where it is left out.
    pub name: Option<String>,
    /// The scores are logits and become probabilities by a softmax.
    pub softmax: bool,
    /// The scores are logits and become probabilities by a sigmoid each.
    pub sigmoid: bool,
    /// Least score of a label of a multi-label model, or of a box.
    pub threshold: f32,
    /// How boxes are read; of detectors only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<Boxes>,
    /// A vector is divided by its Euclidean norm.
    pub normalize: bool,
}

/// How a detector's boxes are read.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", schema(as = ModelBoxes))]
pub struct Boxes {
    /// How the tensors hold them.
    pub format: BoxFormat,
    /// Name of the second tensor, of [`BoxFormat::Detr`] only.
    pub tensor: Option<String>,
    /// Of two boxes with the same label whose intersection is a larger part of their union, the one with the lower score is
    /// dropped.
    pub iou: f32,
    /// Most boxes in a result.
    pub max_boxes: u16,
}
