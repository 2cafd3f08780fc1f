//! JPEG by libjpeg-turbo's decoder, in the build that the `mozjpeg` crate carries: the pixels that Pillow, and so most training
//! code, sees. Chroma is upsampled smoothly and the exact integer transform is used.
//!
//! A large picture can be decoded at a half, a quarter or an eighth of its sides: a block of coefficients then becomes 4, 2 or
//! 1 pixels a side instead of 8, and neither the full picture nor its scaling costs anything.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mozjpeg::decompress::DecompressStarted;
use mozjpeg::{ColorSpace, ColorSpaceExt as _, Decompress, Marker};
use selvage_core::catalog::Channels;
use selvage_core::image_format::ImageFormat as Format;

use super::decoded::{DecodeTarget, Decoded};
use super::exif;
use super::format::{broken, ends_early};
use super::limits::Limits;
use super::profile::Conversion;
use super::segments::Segments;
use crate::image::error::ImageError;
use crate::image::raster::{Colour, Raster};
use crate::image::resize::Size;

/// Most scans: each one of a progressive file is a pass over all blocks.
const MAX_SCANS: usize = 100;
/// By how much the sides can be divided, the most first.
const DIVISORS: [u32; 3] = [8, 4, 2];
/// The segments with EXIF and ICC data.
const MARKERS: [Marker; 2] = [Marker::APP(1), Marker::APP(2)];
/// Two ways to continue a file that has no end mark. If data is missing, the decoder takes it from here, and the two pictures
/// differ. The second one also answers a decoder that waits for a restart mark.
const CONTINUATIONS: [&[u8]; 2] = [
    b"\0\0\0\0\0\0\0\0\xFF\xD9",
    b"\xAA\xAA\xAA\xAA\xAA\xAA\xAA\xAA\
      \xFF\xD0\xAA\xAA\xFF\xD1\xAA\xAA\xFF\xD2\xAA\xAA\xFF\xD3\xAA\xAA\
      \xFF\xD4\xAA\xAA\xFF\xD5\xAA\xAA\xFF\xD6\xAA\xAA\xFF\xD7\xAA\xAA\xFF\xD9",
];

/// Decodes the image, to grey where that is all that is wanted and the file keeps its luminance apart.
///
/// A file whose picture is whole and that only lacks its end mark is accepted.
pub(super) fn decode(
    bytes: &[u8],
    target: DecodeTarget,
    limits: &Limits,
) -> Result<Decoded, ImageError> {
    let segments = Segments::of(bytes);
    if segments.scans > MAX_SCANS {
        let reason = format!("it has {} scans; {MAX_SCANS} are allowed", segments.scans);
        return Err(broken(Format::Jpeg, &reason));
    }
    let read = |bytes, end, target| contained(|| read(bytes, end, &segments, target, limits));
    if segments.has_end {
        return read(bytes, &[], target);
    }
    if !segments.is_complete() {
        return Err(ends_early(Format::Jpeg));
    }
    // Half of the end mark may be there.
    let bytes = bytes.strip_suffix(b"\xFF").unwrap_or(bytes);
    // At a smaller scale or without colour, missing data might not show.
    let whole = DecodeTarget {
        channels: Channels::Rgb,
        side: None,
        ..target
    };
    // One after the other, so that only one picture is in memory.
    let [end, other_end] = CONTINUATIONS;
    let other = read(bytes, other_end, whole).map(|other| pixel_hash(&other));
    let mut decoded = read(bytes, end, whole)?;
    decoded.lacks_end = other.is_ok_and(|other| other == pixel_hash(&decoded));
    decoded
        .lacks_end
        .then_some(decoded)
        .ok_or_else(|| ends_early(Format::Jpeg))
}

fn pixel_hash(decoded: &Decoded) -> u64 {
    let mut hasher = DefaultHasher::new();
    decoded.raster.pixels.hash(&mut hasher);
    hasher.finish()
}

/// The library reports an error by unwinding, with its message; no panic of this program is caught here.
fn contained(read: impl FnOnce() -> Result<Decoded, ImageError>) -> Result<Decoded, ImageError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|payload| {
        let message = payload.downcast_ref::<String>();
        match message.and_then(|message| message.strip_prefix("libjpeg fatal error: ")) {
            Some(reason) => Err(sentence(reason)),
            None => resume_unwind(payload),
        }
    })
}

/// Decodes `bytes`, continued with `end`.
fn read(
    bytes: &[u8],
    end: &[u8],
    segments: &Segments,
    target: DecodeTarget,
    limits: &Limits,
) -> Result<Decoded, ImageError> {
    let mut file = Decompress::with_markers(&MARKERS)
        .from_reader(bytes.chain(end))
        .map_err(|error| broken(Format::Jpeg, &error.to_string()))?;
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let (width, height) = (side(file.width()), side(file.height()));
    limits.check_size(width, height)?;
    let orientation = exif::orientation(&exif_block(&file));
    let stored = file.color_space();
    let channels = stored.num_components();
    let conversion = target
        .srgb
        .then(|| Conversion::new(&icc_profile(&file), channels))
        .flatten();
    let out = match stored {
        ColorSpace::JCS_GRAYSCALE => ColorSpace::JCS_GRAYSCALE,
        ColorSpace::JCS_YCbCr if target.channels == Channels::Gray && conversion.is_none() => {
            ColorSpace::JCS_GRAYSCALE
        }
        ColorSpace::JCS_YCbCr | ColorSpace::JCS_RGB => ColorSpace::JCS_RGB,
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => ColorSpace::JCS_CMYK,
        _ => return Err(rare("its colours are of an unknown kind")),
    };
    let divisor = target.side.map_or(1, |side| divisor(width, height, side));
    let pixels = u64::from(width.div_ceil(divisor)) * u64::from(height.div_ceil(divisor));
    let colour = if out == ColorSpace::JCS_GRAYSCALE {
        Colour::Gray
    } else {
        Colour::Rgb
    };
    let size = pixels * colour.channels() as u64;
    limits.check_bytes(size + coefficient_bytes(&file, segments))?;
    file.scale(u8::try_from(8 / divisor).unwrap_or(8));
    let mut rows = file
        .to_colorspace(out)
        .map_err(|error| broken(Format::Jpeg, &error.to_string()))?;
    let mut pixels = vec![0; limits.check_bytes(size)?];
    if out == ColorSpace::JCS_CMYK {
        inks_to_rgb(&mut rows, &mut pixels, conversion.as_ref())?;
    } else {
        rows.read_scanlines_into(&mut pixels)
            .map_err(|error| broken(Format::Jpeg, &error.to_string()))?;
        if let Some(conversion) = conversion {
            conversion.apply(&mut pixels, 3);
        }
    }
    Ok(Decoded {
        raster: Raster {
            width: side(rows.width()),
            height: side(rows.height()),
            colour,
            pixels,
        },
        size: Size::new(width, height),
        orientation,
        lacks_end: false,
    })
}

/// Bytes of the coefficients that stay in memory until the last scan.
fn coefficient_bytes<R>(file: &Decompress<R>, segments: &Segments) -> u64 {
    if !segments.keeps_coefficients {
        return 0;
    }
    let blocks = |component: &mozjpeg::CompInfo| {
        component.width_in_blocks as u64 * component.height_in_blocks as u64
    };
    file.components().iter().map(blocks).sum::<u64>() * 128
}

/// The first EXIF block; empty if there is none.
fn exif_block<R>(file: &Decompress<R>) -> Vec<u8> {
    let mut blocks = file
        .markers()
        .filter(|marker| marker.marker == Marker::APP(1));
    let block = blocks.find(|block| block.data.starts_with(exif::PREFIX));
    block.map(|block| block.data.to_vec()).unwrap_or_default()
}

/// The ICC profile out of its numbered segments; empty if there is none.
fn icc_profile<R>(file: &Decompress<R>) -> Vec<u8> {
    let numbered = |marker: mozjpeg::decompress::MarkerData<'_>| {
        let part = marker.data.strip_prefix(b"ICC_PROFILE\0")?;
        let [number, _count, data @ ..] = part else {
            return None;
        };
        (marker.marker == Marker::APP(2)).then(|| (*number, data.to_vec()))
    };
    let mut parts: Vec<(u8, Vec<u8>)> = file.markers().filter_map(numbered).collect();
    parts.sort_by_key(|(number, _)| *number);
    parts.into_iter().flat_map(|(_, data)| data).collect()
}

/// Reads rows of four inks as RGB. Files keep them inverted, as Adobe's programs write them, whatever the file says of it.
fn inks_to_rgb<R: BufRead>(
    rows: &mut DecompressStarted<R>,
    pixels: &mut [u8],
    conversion: Option<&Conversion>,
) -> Result<(), ImageError> {
    let width = rows.width();
    let mut inks = vec![0; width * 4];
    for row in pixels.chunks_exact_mut(width * 3) {
        rows.read_scanlines_into(&mut inks)
            .map_err(|error| broken(Format::Jpeg, &error.to_string()))?;
        for ink in &mut inks {
            *ink = 255 - *ink;
        }
        if let Some(conversion) = conversion {
            conversion.apply_to(&inks, row);
            continue;
        }
        let (pixels, _) = row.as_chunks_mut::<3>();
        for (pixel, [cyan, magenta, yellow, black]) in pixels.iter_mut().zip(inks.as_chunks().0) {
            *pixel = [cyan, magenta, yellow].map(|ink| under_black(*ink, *black));
        }
    }
    Ok(())
}

/// One channel of RGB from an ink and black, rounded as Pillow does.
fn under_black(ink: u8, black: u8) -> u8 {
    let light = 255 - u16::from(black);
    let product = u16::from(ink) * light + 128;
    let taken = (product + (product >> 8)) >> 8;
    u8::try_from(light.saturating_sub(taken)).unwrap_or(u8::MAX)
}

/// The largest divisor that leaves both sides at least `side` long; 1 where there is none.
fn divisor(width: u32, height: u32, side: u32) -> u32 {
    let enough =
        |divisor: &u32| width.div_ceil(*divisor) >= side && height.div_ceil(*divisor) >= side;
    DIVISORS.into_iter().find(enough).unwrap_or(1)
}

fn rare(reason: &str) -> ImageError {
    ImageError::Broken(format!("the JPEG is not supported: {reason}"))
}

/// A sentence for a message of the library.
fn sentence(reason: &str) -> ImageError {
    if reason.starts_with("Maximum supported image dimension") {
        return ImageError::TooLarge(format!("the JPEG is too large: {reason}"));
    }
    if reason.starts_with("Unsupported") || reason.contains("not supported") {
        return rare(reason);
    }
    broken(Format::Jpeg, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_side_falls_below_what_is_wanted() {
        assert_eq!(divisor(1200, 1600, 256), 4);
        assert_eq!(divisor(1600, 1200, 256), 4);
        assert_eq!(divisor(3024, 4032, 256), 8);
        assert_eq!(divisor(2041, 9000, 256), 8); // 2041 / 8 is more than 255
        assert_eq!(divisor(2040, 9000, 256), 4);
        assert_eq!(divisor(511, 511, 256), 2);
        assert_eq!(divisor(510, 9000, 256), 1);
        assert_eq!(divisor(9000, 20, 256), 1);
    }

    #[test]
    fn inks_over_black_are_rounded_as_pillow_does() {
        assert_eq!(under_black(0, 0), 255);
        assert_eq!(under_black(255, 0), 0);
        assert_eq!(under_black(0, 255), 0);
        assert_eq!(under_black(100, 50), 125);
        assert_eq!(under_black(128, 1), 127);
    }
}
