//! From encoded bytes to the pixels a model takes: pure functions, no queue, no ONNX Runtime.
//!
//! Decoding is hostile work: every decoder is bounded in sides, pixels and memory, and a panic inside one is one refused
//! image.

pub mod content;
pub mod decode;
mod given;
pub mod raster;
pub mod resize;
pub mod tensor;

use std::panic::{AssertUnwindSafe, catch_unwind};

use selvage_core::catalog::{Input, Polarity, Resize};
use selvage_core::outcome::{Failure, FailureCode};

use content::Background;
use decode::{Decoded, Limits, Wanted};
use given::Given;
use resize::{Resizer, Size};

/// Why an image cannot be used; each text is a sentence for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No image, a broken one, or one of a kind that is not decoded.
    #[error("{0}")]
    Broken(String),
    /// More pixels, a longer side or more memory than is allowed.
    #[error("{0}")]
    TooLarge(String),
    /// The decoder panicked.
    #[error("the image is broken in a way its decoder cannot handle")]
    Panicked,
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let code = match error {
            ImageError::TooLarge(_) => FailureCode::ImageTooLarge,
            ImageError::Broken(_) | ImageError::Panicked => FailureCode::InvalidImage,
        };
        Self::new(code, error.to_string())
    }
}

/// One image as its model takes it, but for the normalisation of pixels.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// Width × height × channels bytes, row by row, channels together.
    Pixels(Vec<u8>),
    /// The tensor itself, in the model's layout: it was given by the client and is not normalised.
    Values(Vec<f32>),
}

impl Prepared {
    /// Values of the image's tensor.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Pixels(pixels) => pixels.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Its values as they are, pixels from 0 to 255.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Self::Pixels(pixels) => pixels.into_iter().map(f32::from).collect(),
            Self::Values(values) => values,
        }
    }

    /// Whether there are none; no model takes such an image.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Prepares images for one model; one per thread, since the resizer keeps buffers.
#[derive(Debug)]
pub struct Preparer {
    input: Input,
    limits: Limits,
    resizer: Resizer,
}

impl Preparer {
    /// A preparer for the model's `[input]`.
    #[must_use]
    pub fn new(input: Input, limits: Limits) -> Self {
        Self {
            input,
            limits,
            resizer: Resizer::default(),
        }
    }

    /// Decodes and shapes one image, or checks the tensor that stands in its place.
    ///
    /// # Errors
    /// [`ImageError`], for a panic in a decoder too; it is final, another try would not help.
    pub fn prepare(&mut self, bytes: &[u8]) -> Result<Prepared, ImageError> {
        let prepared = catch_unwind(AssertUnwindSafe(|| {
            let decoded = match selvage_core::tensor::read(bytes) {
                None => decode::decode(bytes, self.wanted(), &self.limits)?,
                Some((datatype, values)) => match given::read(datatype, values, &self.input)? {
                    Given::Picture(decoded) => decoded,
                    Given::Values(values) => return Ok(values),
                },
            };
            Ok(Prepared::Pixels(self.shape(decoded)))
        }));
        prepared.unwrap_or_else(|_panic| {
            // Whatever it was doing, its buffers are not to be trusted.
            self.resizer = Resizer::default();
            Err(ImageError::Panicked)
        })
    }

    /// Whoever looks for the content of a picture looks at every pixel of it.
    fn wanted(&self) -> Wanted {
        let input = &self.input;
        let looks = input.trim || input.polarity == Polarity::Auto;
        Wanted {
            channels: input.channels,
            side: (!looks).then(|| input.width.max(input.height)),
        }
    }

    /// An image that already has the model's size is taken as prepared: nothing is cut off and nothing is scaled.
    ///
    /// Such an image is only negated where its edge is lighter than half on average. Measured on all 70,000 images of
    /// Fashion-MNIST: not one is altered, and each one's negative is turned back into the original.
    fn shape(&mut self, decoded: Decoded) -> Vec<u8> {
        let Decoded {
            raster,
            orientation,
        } = decoded;
        let model = Size::new(self.input.width, self.input.height);
        if Size::of(&raster).oriented(orientation) == model {
            let mut raster = raster.oriented(orientation);
            let negate = match self.input.polarity {
                Polarity::Keep => false,
                Polarity::Invert => true,
                Polarity::Auto => Background::of(&raster).is_light(),
            };
            if negate {
                raster.negate();
            }
            return raster.pixels;
        }
        let background = Background::of(&raster);
        let region = if self.input.trim {
            content::bounds(&raster, &background)
        } else {
            resize::Region::whole(&raster)
        };
        let plan = resize::plan(region, self.input.resize, model, orientation);
        let mut scaled = self
            .resizer
            .scale(&raster, &plan.region, plan.size)
            .oriented(orientation);
        let margin = content::polarise(&mut scaled, &background, self.input.polarity);
        match self.input.resize {
            Resize::Fit => scaled.centred_in(model.width, model.height, &margin).pixels,
            Resize::Stretch | Resize::Cover => scaled.pixels,
        }
    }
}

#[cfg(test)]
mod tests;
