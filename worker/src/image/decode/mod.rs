//! Encoded bytes to pixels, within limits. The format is read from the bytes, never from what the sender says.
//!
//! | file | owns |
//! |---|---|
//! | `limits` | what an image may cost |
//! | `format` | what is said of a broken file |
//! | `jpeg`, `png`, `other` | the decoders |
//! | `segments`, `repair` | what is read, and mended, before a decoder sees the file |
//! | `exif`, `profile` | orientation and ICC profile |

mod decoded;
mod exif;
mod format;
mod jpeg;
mod limits;
mod other;
mod png;
mod profile;
mod repair;
mod segments;

pub use decoded::{DecodeTarget, Decoded};
pub use limits::Limits;

use selvage_core::image_format::ImageFormat as Format;

use super::error::ImageError;

/// Decodes an image (of an animation the first frame) into a model's channels, a large JPEG to fewer pixels where that is
/// enough.
///
/// # Errors
/// [`ImageError`]. A decoder may panic as well: [`super::Preparer`] contains that.
pub fn decode(bytes: &[u8], target: DecodeTarget, limits: &Limits) -> Result<Decoded, ImageError> {
    let Some(format) = Format::of(bytes) else {
        return Err(ImageError::Broken(
            "the bytes are no JPEG, PNG, WebP, GIF or BMP".to_owned(),
        ));
    };
    let mut decoded = match format {
        Format::Jpeg => jpeg::decode(bytes, target, limits),
        Format::Png => png::decode(bytes, target, limits),
        Format::WebP | Format::Gif | Format::Bmp => other::decode(bytes, format, target, limits),
    }?;
    decoded.raster = decoded.raster.into_channels(target.channels);
    Ok(decoded)
}
