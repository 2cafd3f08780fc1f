//! An image as its model takes it.

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
