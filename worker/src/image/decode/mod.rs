//! Encoded bytes to pixels, within limits. The format is read from the bytes, never from what the sender says.

mod jpeg;
mod other;
mod png;
mod reduced;

use image::metadata::Orientation;
use selvage_core::catalog::Channels;

use super::ImageError;
use super::raster::Raster;

/// Longest side that is decoded, in pixels.
const MAX_SIDE: u32 = 16_384;
/// Most memory for one decoded image, in bytes.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Longest piece of a decoder's own message that is shown.
const MAX_REASON: usize = 120;

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
        Self {
            side: MAX_SIDE,
            pixels,
            bytes: MAX_BYTES,
        }
    }

    /// Refuses a size that is too large, before anything of that size is allocated.
    fn check_size(&self, width: u32, height: u32) -> Result<(), ImageError> {
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
    fn check_bytes(&self, bytes: u64) -> Result<usize, ImageError> {
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

/// A decoded image in a model's channels.
#[derive(Debug)]
pub struct Decoded {
    /// The pixels, as they were stored.
    pub raster: Raster,
    /// How they are to be turned.
    pub orientation: Orientation,
}

/// What a model wants of an image.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its channels.
    pub channels: Channels,
    /// The sides it is scaled to anyway: it may be decoded smaller than it is, but neither side shorter than this. `None`
    /// where every pixel counts.
    pub side: Option<u32>,
}

/// The formats that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        let format = match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Self::Png,
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Self::WebP,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Self::Gif,
            [b'B', b'M', ..] => Self::Bmp,
            _ => return None,
        };
        Some(format)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        }
    }
}

/// Decodes an image (of an animation the first frame) into a model's channels, a large JPEG to fewer pixels where that is
/// enough.
///
/// # Errors
/// [`ImageError`]. A decoder may panic as well: [`super::Preparer`] contains that.
pub fn decode(bytes: &[u8], wanted: Wanted, limits: &Limits) -> Result<Decoded, ImageError> {
    let Some(format) = Format::of(bytes) else {
        return Err(ImageError::Broken(
            "the bytes are no JPEG, PNG, WebP, GIF or BMP".to_owned(),
        ));
    };
    let mut decoded = match format {
        Format::Jpeg => jpeg::decode(bytes, wanted, limits),
        Format::Png => png::decode(bytes, limits),
        Format::WebP | Format::Gif | Format::Bmp => other::decode(bytes, format, limits),
    }?;
    decoded.raster = decoded.raster.into_channels(wanted.channels);
    Ok(decoded)
}

/// A sentence about bytes that end before the image does.
fn ends_early(format: Format) -> ImageError {
    ImageError::Broken(format!("the {} ends too early", format.name()))
}

/// A sentence about a broken image, with what its decoder says of it.
fn broken(format: Format, reason: &str) -> ImageError {
    let line = reason.lines().next().unwrap_or_default().trim();
    let reason: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_REASON)
        .collect();
    ImageError::Broken(format!("the {} is broken: {reason}", format.name()))
}
