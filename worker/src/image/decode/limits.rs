//! What an image may cost, checked before anything of its size is allocated.

use crate::image::error::ImageError;

/// Longest side that is decoded, in pixels.
const MAX_SIDE: u32 = 16_384;
/// Least of the memory that one decoded image may take, in bytes.
const LEAST_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes for each allowed pixel: a progressive JPEG keeps three coefficients of two bytes beside three bytes of colour, and some
/// for the blocks that its edges fill.
const BYTES_PER_PIXEL: u64 = 10;

/// What an image may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest side, in pixels.
    pub side: u32,
    /// Most pixels.
    pub pixels: u64,
    /// Most memory for the decoded image, in bytes.
    pub bytes: u64,
}

impl Limits {
    /// Limits with the operator's number of pixels.
    #[must_use]
    pub const fn with_pixels(pixels: u64) -> Self {
        let bytes = pixels.saturating_mul(BYTES_PER_PIXEL);
        Self {
            side: MAX_SIDE,
            pixels,
            bytes: if bytes > LEAST_BYTES {
                bytes
            } else {
                LEAST_BYTES
            },
        }
    }

    /// Refuses a size that is too large, before anything of that size is allocated.
    pub(super) fn check_size(&self, width: u32, height: u32) -> Result<(), ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::Broken(format!(
                "the image has no pixels: it is {width} by {height}"
            )));
        }
        if width > self.side || height > self.side {
            return Err(ImageError::TooLarge(format!(
                "the image is {width} by {height} pixels; a side may have {} at most",
                self.side
            )));
        }
        if u64::from(width) * u64::from(height) > self.pixels {
            return Err(ImageError::TooLarge(format!(
                "the image is {width} by {height} pixels; {} in all are allowed",
                self.pixels
            )));
        }
        Ok(())
    }

    /// Refuses what would need too much memory.
    pub(super) fn check_bytes(&self, bytes: u64) -> Result<usize, ImageError> {
        usize::try_from(bytes)
            .ok()
            .filter(|_| bytes <= self.bytes)
            .ok_or_else(|| {
                ImageError::TooLarge(format!(
                    "the image needs {bytes} bytes of memory to decode; {} are allowed",
                    self.bytes
                ))
            })
    }
}
