//! An image as its model takes it.

use super::frame::Frame;

/// One image as its model takes it, but for the normalisation of pixels.
#[derive(Clone, Debug, PartialEq)]
pub enum Prepared {
    /// Width × height × channels bytes, row by row, channels together; and where in the picture they come from.
    Pixels(Vec<u8>, Frame),
    /// The tensor itself, in the model's layout: it was given by the client and is not normalised.
    Values(Vec<f32>),
}

impl Prepared {
    /// Values of the image's tensor.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Pixels(pixels, _) => pixels.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Where its pixels come from; `None` for a tensor, which is its own picture.
    #[must_use]
    pub const fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Pixels(_, frame) => Some(frame),
            Self::Values(_) => None,
        }
    }

    /// Its values as they are, pixels from 0 to 255.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Self::Pixels(pixels, _) => pixels.into_iter().map(f32::from).collect(),
            Self::Values(values) => values,
        }
    }

    /// Whether there are none; no model takes such an image.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
