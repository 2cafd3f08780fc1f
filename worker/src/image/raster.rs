//! Decoded pixels and what is done to all of them alike: channels, orientation, negation, margins.

use image::metadata::Orientation;
use selvage_core::catalog::{Channels, Place};

/// Eight bits per channel, row by row, channels together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What a pixel is made of.
    pub colour: Colour,
    /// `width × height × colour.channels()` bytes.
    pub pixels: Vec<u8>,
}

/// What a pixel is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Luminance.
    Gray,
    /// Luminance and opacity.
    GrayAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue and opacity.
    Rgba,
}

impl Colour {
    /// Bytes per pixel.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

impl Raster {
    /// The same picture in a model's colours; red, green and blue stay in this order whatever the model's is.
    ///
    /// Transparent parts become white: a cut-out picture is meant to be seen on a page, and that is how product pictures
    /// look that were never cut out.
    #[must_use]
    pub fn into_channels(self, channels: Channels) -> Self {
        let colour = match channels {
            Channels::Gray => Colour::Gray,
            Channels::Rgb | Channels::Bgr => Colour::Rgb,
        };
        if self.colour == colour {
            return self;
        }
        let pixels = match (self.colour, colour) {
            (Colour::Gray, Colour::Rgb) => convert(&self.pixels, |[v]: [u8; 1]| [v, v, v]),
            (Colour::GrayAlpha, Colour::Rgb) => convert(&self.pixels, |[v, a]: [u8; 2]| {
                let v = over_white(v, a);
                [v, v, v]
            }),
            (Colour::Rgba, Colour::Rgb) => convert(&self.pixels, |[r, g, b, a]: [u8; 4]| {
                [over_white(r, a), over_white(g, a), over_white(b, a)]
            }),
            (Colour::GrayAlpha, Colour::Gray) => {
                convert(&self.pixels, |[v, a]: [u8; 2]| [over_white(v, a)])
            }
            (Colour::Rgb, Colour::Gray) => convert(&self.pixels, |rgb: [u8; 3]| [luma(rgb)]),
            (Colour::Rgba, Colour::Gray) => convert(&self.pixels, |[r, g, b, a]: [u8; 4]| {
                [luma([over_white(r, a), over_white(g, a), over_white(b, a)])]
            }),
            _ => self.pixels,
        };
        Self {
            colour,
            pixels,
            ..self
        }
    }

    /// The picture as its camera was held.
    #[must_use]
    pub fn oriented(self, orientation: Orientation) -> Self {
        if orientation == Orientation::NoTransforms {
            return self;
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let (new_width, new_height) = if swaps_sides(orientation) {
            (height, width)
        } else {
            (width, height)
        };
        let channels = self.colour.channels();
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..new_height {
            for x in 0..new_width {
                let (from_x, from_y) = match orientation {
                    Orientation::NoTransforms => (x, y),
                    Orientation::FlipHorizontal => (width - 1 - x, y),
                    Orientation::Rotate180 => (width - 1 - x, height - 1 - y),
                    Orientation::FlipVertical => (x, height - 1 - y),
                    Orientation::Rotate90FlipH => (y, x),
                    Orientation::Rotate90 => (y, height - 1 - x),
                    Orientation::Rotate270FlipH => (width - 1 - y, height - 1 - x),
                    Orientation::Rotate270 => (width - 1 - y, x),
                };
                let at = (from_y * width + from_x) * channels;
                pixels.extend_from_slice(&self.pixels[at..at + channels]);
            }
        }
        let (width, height) = if swaps_sides(orientation) {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        };
        Self {
            width,
            height,
            pixels,
            ..self
        }
    }

    /// Exchanges light and dark.
    pub fn negate(&mut self) {
        for value in &mut self.pixels {
            *value = 255 - *value;
        }
    }

    /// The picture within a larger area of one colour.
    #[must_use]
    pub fn placed_in(self, width: u32, height: u32, margin: &[u8], place: Place) -> Self {
        if (self.width, self.height) == (width, height) {
            return self;
        }
        let channels = self.colour.channels();
        let mut pixels: Vec<u8> = margin[..channels].repeat(width as usize * height as usize);
        let (left, top) = margins((width, height), (self.width, self.height), place);
        let (left, top) = (left as usize, top as usize);
        let row = self.width as usize * channels;
        for (y, line) in self.pixels.chunks_exact(row).enumerate() {
            let at = ((top + y) * width as usize + left) * channels;
            pixels[at..at + row].copy_from_slice(line);
        }
        Self {
            width,
            height,
            pixels,
            ..self
        }
    }
}

/// How far a picture lies from the left and top edge of a larger area.
#[must_use]
pub const fn margins(area: (u32, u32), picture: (u32, u32), place: Place) -> (u32, u32) {
    match place {
        Place::Center => ((area.0 - picture.0) / 2, (area.1 - picture.1) / 2),
        Place::TopLeft => (0, 0),
    }
}

/// Whether width and height change places.
#[must_use]
pub fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

fn convert<const FROM: usize, const TO: usize>(
    pixels: &[u8],
    pixel: impl Fn([u8; FROM]) -> [u8; TO],
) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<FROM>();
    pixels.iter().flat_map(|p| pixel(*p)).collect()
}

/// One channel of a partly transparent pixel before white.
const fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (value as u16, alpha as u16);
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Luminance by ITU-R BT.601, the same that a JPEG's own Y channel holds, so that grey is the same whatever the format.
const fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((77 * r as u16 + 150 * g as u16 + 29 * b as u16 + 128) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, height: u32, pixels: &[u8]) -> Raster {
        Raster {
            width,
            height,
            colour: Colour::Gray,
            pixels: pixels.to_vec(),
        }
    }

    #[test]
    fn every_orientation_is_undone_by_the_one_that_made_it() {
        let upright = gray(3, 2, &[1, 2, 3, 4, 5, 6]);
        // What a camera stores so that a viewer who follows the tag sees the upright picture: EXIF 2.32, 4.6.4.
        let stored: [(u8, u32, u32, [u8; 6]); 8] = [
            (1, 3, 2, [1, 2, 3, 4, 5, 6]),
            (2, 3, 2, [3, 2, 1, 6, 5, 4]),
            (3, 3, 2, [6, 5, 4, 3, 2, 1]),
            (4, 3, 2, [4, 5, 6, 1, 2, 3]),
            (5, 2, 3, [1, 4, 2, 5, 3, 6]),
            (6, 2, 3, [3, 6, 2, 5, 1, 4]),
            (7, 2, 3, [6, 3, 5, 2, 4, 1]),
            (8, 2, 3, [4, 1, 5, 2, 6, 3]),
        ];
        for (tag, width, height, pixels) in stored {
            let orientation = Orientation::from_exif(tag).unwrap();
            assert_eq!(
                gray(width, height, &pixels).oriented(orientation),
                upright,
                "orientation {tag}"
            );
        }
    }

    #[test]
    fn transparency_shows_white_and_opaque_pixels_stay_exact() {
        let rgba = Raster {
            width: 3,
            height: 1,
            colour: Colour::Rgba,
            pixels: vec![9, 8, 7, 0, 9, 8, 7, 255, 0, 0, 0, 128],
        };
        assert_eq!(
            rgba.into_channels(Channels::Rgb).pixels,
            [255, 255, 255, 9, 8, 7, 127, 127, 127]
        );
        let gray_alpha = Raster {
            width: 2,
            height: 1,
            colour: Colour::GrayAlpha,
            pixels: vec![40, 255, 40, 0],
        };
        assert_eq!(gray_alpha.into_channels(Channels::Gray).pixels, [40, 255]);
    }

    #[test]
    fn grey_stays_grey_through_colour() {
        let levels: Vec<u8> = (0..=255).collect();
        let there = gray(256, 1, &levels).into_channels(Channels::Rgb);
        assert_eq!(there.into_channels(Channels::Gray).pixels, levels);
    }

    #[test]
    fn margins_are_even_and_the_odd_pixel_goes_right_and_below() {
        let centred = gray(1, 1, &[9]).placed_in(2, 4, &[0], Place::Center);
        assert_eq!(centred.pixels, [0, 0, 9, 0, 0, 0, 0, 0]);
        let first = gray(1, 1, &[9]).placed_in(2, 2, &[0], Place::TopLeft);
        assert_eq!(first.pixels, [9, 0, 0, 0]);
    }
}
