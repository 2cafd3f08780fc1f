//! PNG by the `png` crate itself: texts are skipped unread. A gamma value (gAMA) is ignored, as Pillow does.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, DecodingError, Transformations};
use selvage_core::image_format::ImageFormat as Format;

use super::decoded::{DecodeTarget, Decoded};
use super::format::{broken, ends_early};
use super::limits::Limits;
use super::profile::Conversion;
use super::{exif, repair};
use crate::image::error::ImageError;
use crate::image::raster::{Colour, Raster};
use crate::image::resize::Size;

/// Decodes the image; of an animation the picture that stands for it. Sixteen bits become the upper eight.
///
/// A file that only lacks its last chunk is accepted.
pub(super) fn decode(
    bytes: &[u8],
    target: DecodeTarget,
    limits: &Limits,
) -> Result<Decoded, ImageError> {
    let room = usize::try_from(limits.bytes).unwrap_or(usize::MAX);
    let bytes = repair::mended(Format::Png, bytes);
    let mut decoder =
        png::Decoder::new_with_limits(Cursor::new(&*bytes), png::Limits { bytes: room });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(!target.srgb);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder
        .read_header_info()
        .map_err(|error| sentence(&error))?;
    limits.check_size(header.width, header.height)?;
    let mut reader = decoder.read_info().map_err(|error| sentence(&error))?;
    let size = reader
        .output_buffer_size()
        .map_or(u64::MAX, |size| size as u64);
    let mut pixels = vec![0; limits.check_bytes(size)?];
    let frame = reader
        .next_frame(&mut pixels)
        .map_err(|error| sentence(&error))?;
    pixels.truncate(frame.buffer_size());
    // Data that is missing is a download that broke off, even where all rows happen to be there.
    reader.finish().map_err(|error| sentence(&error))?;
    let colour = match (frame.color_type, frame.bit_depth) {
        (ColorType::Grayscale, BitDepth::Eight) => Colour::Gray,
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => Colour::GrayAlpha,
        (ColorType::Rgb, BitDepth::Eight) => Colour::Rgb,
        (ColorType::Rgba, BitDepth::Eight) => Colour::Rgba,
        _ => return Err(broken(Format::Png, "its kind of pixels is not supported")),
    };
    let mut raster = Raster {
        width: frame.width,
        height: frame.height,
        colour,
        pixels,
    };
    let info = reader.info();
    // A chunk that says sRGB overrules a profile.
    let profile = info.icc_profile.as_deref().filter(|_| info.srgb.is_none());
    Conversion::convert(profile, &mut raster);
    Ok(Decoded {
        size: Size::of(&raster),
        raster,
        orientation: exif::orientation(info.exif_metadata.as_deref().unwrap_or_default()),
        lacks_end: matches!(bytes, Cow::Owned(_)),
    })
}

fn sentence(error: &DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => {
            ends_early(Format::Png)
        }
        DecodingError::LimitsExceeded => {
            ImageError::TooLarge("the PNG needs more memory to decode than is allowed".to_owned())
        }
        other => broken(Format::Png, &other.to_string()),
    }
}
