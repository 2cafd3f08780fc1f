//! Why an image is refused.

use selvage_core::outcome::{Failure, FailureCode};

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
