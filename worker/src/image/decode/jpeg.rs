//! JPEG by the `zune-jpeg` crate itself: a grey picture comes straight from the luminance channel, a third of the work, and
//! strict mode refuses a file that breaks off, which `image` would fill with grey. It reads the header of every JPEG; the pixels
//! of large ones come from [`super::reduced`] where fewer are enough.

use image::metadata::Orientation;
use selvage_core::catalog::Channels;
use zune_core::bytestream::{ZByteIoError, ZCursor};
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::decoded::{DecodeTarget, Decoded};
use super::format::{Format, broken, ends_early};
use super::limits::Limits;
use super::reduced;
use crate::image::error::ImageError;
use crate::image::raster::{Colour, Raster};

/// Decodes the image, to grey where that is all that is wanted and the file keeps its luminance apart.
pub(super) fn decode(
    bytes: &[u8],
    target: DecodeTarget,
    limits: &Limits,
) -> Result<Decoded, ImageError> {
    // The decoder's own limits would end in its own words; sizes are checked right after the header instead.
    if !has_end(bytes) {
        return Err(ends_early(Format::Jpeg));
    }
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| sentence(&error))?;
    let Some(info) = decoder.info() else {
        return Err(broken(Format::Jpeg, "it has no header"));
    };
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    limits.check_size(width, height)?;
    let stored = decoder.input_colorspace();
    let keeps_luma = matches!(stored, Some(ColorSpace::YCbCr | ColorSpace::Luma));
    let gray =
        keeps_luma && (target.channels == Channels::Gray || stored == Some(ColorSpace::Luma));
    let (colour, space) = if gray {
        (Colour::Gray, ColorSpace::Luma)
    } else {
        (Colour::Rgb, ColorSpace::RGB)
    };
    let pixels = u64::from(width) * u64::from(height);
    let size = limits.check_bytes(pixels * colour.channels() as u64)?;
    if info.sof.is_progressive() {
        // All coefficients of all components stay in memory until the last scan, two bytes each.
        limits.check_bytes(pixels * u64::from(info.components) * 2 + size as u64)?;
    }
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);
    let divisor = target
        .side
        .map_or(1, |side| reduced::divisor(width, height, side));
    if keeps_luma && divisor > 1 {
        let raster = reduced::decode(bytes, info.width, info.height, divisor, limits)?;
        return Ok(Decoded {
            raster,
            orientation,
        });
    }
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let mut pixels = vec![0; size];
    decoder
        .decode_into(&mut pixels)
        .map_err(|error| sentence(&error))?;
    Ok(Decoded {
        raster: Raster {
            width,
            height,
            colour,
            pixels,
        },
        orientation,
    })
}

/// Whether the first picture in the file is followed by an end mark (ITU-T T.81, B.1.1.2 and B.2.1).
///
/// The decoder looks for missing data at the start of each row of blocks only, so it would take a file that breaks off in
/// its last row. Whatever follows the end mark is nobody's business.
fn has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some(at) = rest.iter().position(|byte| *byte == 0xFF) {
        rest = &rest[at + 1..];
        match rest {
            [0xD9, ..] => return true,
            // A stuffed byte, a restart mark or a fill byte: no segment begins here.
            [0x00 | 0x01 | 0xD0..=0xD8 | 0xFF, ..] => {}
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

fn sentence(error: &DecodeErrors) -> ImageError {
    match error {
        DecodeErrors::ExhaustedData
        | DecodeErrors::FormatStatic("Premature end of buffer")
        | DecodeErrors::IoErrors(ZByteIoError::NotEnoughBytes(..)) => ends_early(Format::Jpeg),
        DecodeErrors::Unsupported(_) => ImageError::Broken(
            "the JPEG is of a rare kind (extended, lossless or arithmetic) that is not supported"
                .to_owned(),
        ),
        other => broken(Format::Jpeg, &other.to_string()),
    }
}
