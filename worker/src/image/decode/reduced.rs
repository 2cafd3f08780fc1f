//! JPEG at a half, a quarter or an eighth of its sides, by the `jpeg-decoder` crate: a block of coefficients becomes 4, 2 or 1
//! pixels a side instead of 8, and neither the full picture nor its scaling costs anything.
//!
//! For a model that takes 256 pixels a side, a photograph of 1200 × 1600 is decoded in a third of the time that way, one of
//! 12 megapixels in a sixth. `zune-jpeg` cannot do it.

use std::io::ErrorKind;

use jpeg_decoder::{Decoder, Error, PixelFormat};

use super::format::{Format, broken, ends_early};
use super::limits::Limits;
use crate::image::error::ImageError;
use crate::image::raster::{Colour, Raster};

/// By how much the sides can be divided, the most first.
const DIVISORS: [u16; 3] = [8, 4, 2];

/// The largest divisor that leaves both sides at least `side` long; 1 where there is none.
pub(super) fn divisor(width: u32, height: u32, side: u32) -> u16 {
    let enough = |divisor: &u16| {
        let divisor = u32::from(*divisor);
        width.div_ceil(divisor) >= side && height.div_ceil(divisor) >= side
    };
    DIVISORS.into_iter().find(enough).unwrap_or(1)
}

/// Decodes a picture of these sides with both divided.
pub(super) fn decode(
    bytes: &[u8],
    width: u16,
    height: u16,
    divisor: u16,
    limits: &Limits,
) -> Result<Raster, ImageError> {
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(limits.bytes).unwrap_or(usize::MAX));
    let (width, height) = decoder
        .scale(width.div_ceil(divisor), height.div_ceil(divisor))
        .map_err(|error| sentence(&error))?;
    let pixels = decoder.decode().map_err(|error| sentence(&error))?;
    let colour = match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::L8) => Colour::Gray,
        Some(PixelFormat::RGB24) => Colour::Rgb,
        _ => return Err(rare()),
    };
    Ok(Raster {
        width: width.into(),
        height: height.into(),
        colour,
        pixels,
    })
}

fn rare() -> ImageError {
    ImageError::Broken("the JPEG is of a rare kind that is not supported".to_owned())
}

fn sentence(error: &Error) -> ImageError {
    match error {
        Error::Io(source) if source.kind() == ErrorKind::UnexpectedEof => ends_early(Format::Jpeg),
        Error::Format(reason) => broken(Format::Jpeg, reason),
        Error::Unsupported(_) => rare(),
        other => broken(Format::Jpeg, &other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::divisor;

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
}
