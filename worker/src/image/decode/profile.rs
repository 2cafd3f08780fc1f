//! ICC profiles: colours become those of sRGB, which models are trained on.

use std::fmt;
use std::sync::Arc;

use moxcms::{ColorProfile, DataColorSpace, Layout, Transform8BitExecutor, TransformOptions};

use crate::image::raster::{Colour, Raster};

/// A profile whose colours differ by no more than this from sRGB is sRGB: its curves are rounded.
const ROUNDING: u8 = 2;
/// Pixels that are converted at once, beside the picture.
const CHUNK: usize = 4096;

/// From an image's own colours to sRGB.
pub(super) struct Conversion(Arc<Transform8BitExecutor>);

impl fmt::Debug for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversion").finish_non_exhaustive()
    }
}

impl Conversion {
    /// The conversion of pixels of three or four channels to RGB. `None` if there is nothing to convert: no profile, one that
    /// cannot be used, one for other channels than the image has, or sRGB itself.
    pub(super) fn new(profile: &[u8], channels: usize) -> Option<Self> {
        let profile = ColorProfile::new_from_slice(profile).ok()?;
        let layout = match (profile.color_space, channels) {
            (DataColorSpace::Rgb, 3) => Layout::Rgb,
            (DataColorSpace::Cmyk, 4) => Layout::Rgba,
            _ => return None,
        };
        let srgb = ColorProfile::new_srgb();
        let options = TransformOptions::default();
        let transform = profile.create_transform_8bit(layout, &srgb, Layout::Rgb, options);
        let conversion = Self(transform.ok()?);
        (channels == 4 || conversion.changes_colours()).then_some(conversion)
    }

    /// Tries 125 colours.
    fn changes_colours(&self) -> bool {
        let level = |index: u8| index % 5 * 63;
        let mut colours: Vec<u8> = (0..125)
            .flat_map(|index| [level(index), level(index / 5), level(index / 25)])
            .collect();
        let before = colours.clone();
        self.apply(&mut colours, 3);
        let mut changes = before.iter().zip(&colours);
        changes.any(|(before, after)| before.abs_diff(*after) > ROUNDING)
    }

    /// Converts pixels of this many channels in place: the first three are RGB, a fourth stays.
    pub(super) fn apply(&self, pixels: &mut [u8], channels: usize) {
        let (mut before, mut after) = (Vec::new(), vec![0; CHUNK * 3]);
        for chunk in pixels.chunks_mut(CHUNK * channels) {
            before.clear();
            before.extend(chunk.chunks_exact(channels).flat_map(|pixel| &pixel[..3]));
            self.apply_to(&before, &mut after[..before.len()]);
            for (pixel, rgb) in chunk.chunks_exact_mut(channels).zip(after.chunks_exact(3)) {
                pixel[..3].copy_from_slice(rgb);
            }
        }
    }

    /// Converts pixels of the image's channels to as many of RGB.
    pub(super) fn apply_to(&self, from: &[u8], to: &mut [u8]) {
        // It fails for lengths that do not match only.
        self.0.transform(from, to).unwrap_or_default();
    }

    /// Converts a picture in place. Grey has no colours to convert.
    pub(super) fn convert(profile: Option<&[u8]>, raster: &mut Raster) {
        let channels = raster.colour.channels();
        if matches!(raster.colour, Colour::Rgb | Colour::Rgba)
            && let Some(conversion) = profile.and_then(|profile| Self::new(profile, 3))
        {
            conversion.apply(&mut raster.pixels, channels);
        }
    }
}
