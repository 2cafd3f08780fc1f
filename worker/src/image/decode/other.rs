//! WebP, GIF and BMP by the `image` crate.

use std::io::{Cursor, ErrorKind};

use image::error::ImageError as SourceError;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use selvage_core::image_format::ImageFormat as Format;

use super::decoded::{DecodeTarget, Decoded};
use super::format::{broken, ends_early};
use super::limits::Limits;
use super::profile::Conversion;
use super::{exif, repair};
use crate::image::error::ImageError;
use crate::image::raster::{Colour, Raster};
use crate::image::resize::Size;

/// Decodes the image; of an animation the first frame.
pub(super) fn decode(
    bytes: &[u8],
    format: Format,
    target: DecodeTarget,
    limits: &Limits,
) -> Result<Decoded, ImageError> {
    let known = match format {
        Format::WebP => ImageFormat::WebP,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
    };
    let mut allowed = image::Limits::default();
    allowed.max_alloc = Some(limits.bytes);
    let bytes = repair::mended(format, bytes);
    let mut reader = ImageReader::with_format(Cursor::new(&*bytes), known);
    reader.limits(allowed);
    let mut decoder = reader
        .into_decoder()
        .map_err(|error| sentence(format, &error))?;
    let (width, height) = decoder.dimensions();
    limits.check_size(width, height)?;
    // `from_decoder` allocates this much without asking (image-rs/image#3081).
    limits.check_bytes(decoder.total_bytes())?;
    // What cannot be read of the metadata is left aside: the picture counts.
    let exif = decoder.exif_metadata().ok().flatten().unwrap_or_default();
    let profile = decoder.icc_profile().ok().flatten().filter(|_| target.srgb);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| sentence(format, &error))?;
    let mut raster = raster(image);
    if format == Format::Bmp {
        make_opaque(&mut raster);
    }
    Conversion::convert(profile.as_deref(), &mut raster);
    Ok(Decoded {
        size: Size::of(&raster),
        raster,
        orientation: exif::orientation(&exif),
        lacks_end: false,
    })
}

/// A BMP without any opacity is meant to be seen: its writer had no use for the channel.
fn make_opaque(raster: &mut Raster) {
    let (pixels, _) = raster.pixels.as_chunks_mut::<4>();
    if raster.colour == Colour::Rgba && pixels.iter().all(|pixel| pixel[3] == 0) {
        for pixel in pixels {
            pixel[3] = u8::MAX;
        }
    }
}

fn raster(image: DynamicImage) -> Raster {
    let (width, height) = (image.width(), image.height());
    let (colour, pixels) = match image {
        DynamicImage::ImageLuma8(image) => (Colour::Gray, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (Colour::GrayAlpha, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (Colour::Rgb, image.into_raw()),
        image => (Colour::Rgba, image.into_rgba8().into_raw()),
    };
    Raster {
        width,
        height,
        colour,
        pixels,
    }
}

fn sentence(format: Format, error: &SourceError) -> ImageError {
    match error {
        SourceError::Limits(_) => ImageError::TooLarge(format!(
            "the {} needs more memory to decode than is allowed",
            format.name()
        )),
        SourceError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => {
            ends_early(format)
        }
        SourceError::Unsupported(_) => ImageError::Broken(format!(
            "the {} is of a rare kind that is not supported",
            format.name()
        )),
        other => broken(format, &other.to_string()),
    }
}
