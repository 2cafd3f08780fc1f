//! What is said of a broken file.

use selvage_core::image_format::ImageFormat;

use crate::image::error::ImageError;

/// Longest piece of a decoder's own message that is shown.
const MAX_REASON: usize = 120;

/// A sentence about bytes that end before the image does.
pub(super) fn ends_early(format: ImageFormat) -> ImageError {
    ImageError::Broken(format!("the {} ends too early", format.name()))
}

/// A sentence about a broken image, with what its decoder says of it.
pub(super) fn broken(format: ImageFormat, reason: &str) -> ImageError {
    let line = reason.lines().next().unwrap_or_default().trim();
    let reason: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_REASON)
        .collect();
    ImageError::Broken(format!("the {} is broken: {reason}", format.name()))
}
