//! What of a picture is background: its colour, the bounds of the rest, and which of the two is to be light.
//!
//! Fashion-MNIST's authors took product pictures on near-white, cut the edges that had the corner's colour, scaled the
//! longest side to 28 pixels, centred the rest and negated it (arXiv 1708.07747, §2). Photographs have backgrounds of any
//! brightness, with noise; so here the background's own level becomes black instead of white's. Tried out on 1,340
//! photographs of clothes by ordinary people (seven kinds that have a Fashion-MNIST class) with a first model, the authors'
//! steps taken literally named 10 % rightly, these steps 52 %; sharpening made it worse (47 %), the filter used for scaling
//! hardly mattered. This code and the model that shipped when it was written name 54 % of 2,921 such photographs rightly, on average over the
//! kinds. For a product picture on near-white both ways are the same.

use selvage_core::catalog::Polarity;

use super::raster::{Colour, Raster};
use super::resize::Region;

/// How far a pixel may be from the background and still belong to it: 5 % of the range, as the authors have it.
const TOLERANCE: u8 = 12;
/// Side of a picture in units of the ring's thickness: at 28 pixels the ring is one pixel wide.
const RING: u32 = 28;

/// A picture's background, as the ring along its edges shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Background {
    /// Median of the ring, per channel.
    level: [u8; 3],
    /// Mean of the ring over all channels.
    mean: f32,
    /// Median distance from the median, the largest of all channels.
    noise: u8,
}

impl Background {
    /// Measures the ring along the edges.
    #[must_use]
    pub fn of(raster: &Raster) -> Self {
        let channels = raster.colour.channels().min(3);
        let mut level = [0; 3];
        let mut noise = 0;
        let mut sum = 0.0;
        let mut count = 0_u64;
        for (channel, level) in level.iter_mut().enumerate().take(channels) {
            let ring = histogram(raster, channel);
            let median = median(&ring);
            let mut distances = [0_u64; 256];
            for (value, n) in ring.iter().enumerate() {
                distances[value.abs_diff(usize::from(median))] += n;
                sum += value as f64 * *n as f64;
                count += n;
            }
            *level = median;
            noise = noise.max(self::median(&distances));
        }
        Self {
            level,
            mean: (sum / count.max(1) as f64) as f32,
            noise,
        }
    }

    /// Whether it is lighter than half.
    #[must_use]
    pub fn is_light(&self) -> bool {
        self.mean > 127.5
    }
}

/// How often each value of one channel occurs in the ring.
fn histogram(raster: &Raster, channel: usize) -> [u64; 256] {
    let mut counts = [0; 256];
    let channels = raster.colour.channels();
    let (width, height) = (raster.width as usize, raster.height as usize);
    let thick = (raster.width.min(raster.height) / RING).max(1) as usize;
    for (y, row) in raster.pixels.chunks_exact(width * channels).enumerate() {
        let mut count = |pixels: &[u8]| {
            for value in pixels.iter().skip(channel).step_by(channels) {
                counts[usize::from(*value)] += 1;
            }
        };
        if y < thick || y >= height - thick || width <= 2 * thick {
            count(row);
        } else {
            count(&row[..thick * channels]);
            count(&row[(width - thick) * channels..]);
        }
    }
    counts
}

/// The first value at which half of all counts is reached.
fn median(counts: &[u64; 256]) -> u8 {
    let total: u64 = counts.iter().sum();
    let mut seen = 0;
    let reached = |n: &u64| {
        seen += n;
        seen * 2 >= total
    };
    let at = counts.iter().position(reached).unwrap_or(255);
    u8::try_from(at).unwrap_or(u8::MAX)
}

/// The smallest part that holds every pixel that is not background; the whole picture where all of it is.
#[must_use]
pub fn bounds(raster: &Raster, background: &Background) -> Region {
    let channels = raster.colour.channels();
    let (width, height) = (raster.width as usize, raster.height as usize);
    let row_bytes = width * channels;
    let foreign = |pixel: &[u8]| {
        pixel
            .iter()
            .zip(background.level)
            .any(|(value, level)| value.abs_diff(level) > TOLERANCE)
    };
    let row = |y: usize| &raster.pixels[y * row_bytes..(y + 1) * row_bytes];
    let busy_row = |y: &usize| row(*y).chunks_exact(channels).any(foreign);
    let (Some(top), Some(bottom)) = ((0..height).find(busy_row), (0..height).rfind(busy_row))
    else {
        return Region::whole(raster);
    };
    // Each row narrows the search for the next: only pixels outside of what is known are looked at.
    let (mut left, mut right) = (width, 0);
    for y in top..=bottom {
        let line = row(y);
        if let Some(x) = line[..left * channels]
            .chunks_exact(channels)
            .position(foreign)
        {
            left = x;
        }
        if let Some(x) = line[right * channels..]
            .chunks_exact(channels)
            .rposition(foreign)
        {
            right += x + 1;
        }
    }
    Region::new(left, top, right - left, bottom + 1 - top)
}

/// Exchanges light and dark as the polarity says, and returns the colour for margins.
///
/// [`Polarity::Auto`] asks whether the picture as a whole is darker or lighter than its background. Grey pictures then
/// have the background taken off, so that it is black whatever it was; half of its noise goes with it.
pub fn polarise(raster: &mut Raster, background: &Background, polarity: Polarity) -> [u8; 3] {
    match polarity {
        Polarity::Keep => background.level,
        Polarity::Invert => {
            raster.negate();
            background.level.map(|level| 255 - level)
        }
        Polarity::Auto if raster.colour == Colour::Gray => {
            lift(raster, background);
            [0; 3]
        }
        Polarity::Auto if dark_content(raster, background) => {
            raster.negate();
            background.level.map(|level| 255 - level)
        }
        Polarity::Auto => background.level,
    }
}

/// Whether what differs from the background is darker than it, weighed by the difference.
fn dark_content(raster: &Raster, background: &Background) -> bool {
    let levels = background.level.iter().cycle();
    let channels = raster.colour.channels();
    let balance: i64 = raster
        .pixels
        .chunks_exact(channels)
        .flat_map(|pixel| pixel.iter().zip(levels.clone()))
        .map(|(value, level)| i64::from(*value) - i64::from(*level))
        .sum();
    balance < 0
}

/// Maps the background to 0 and the value farthest from it, on the content's side, to 255.
fn lift(raster: &mut Raster, background: &Background) {
    let level = i32::from(background.level[0]);
    let noise = i32::from(background.noise) / 2;
    let dark = dark_content(raster, background);
    let range = (if dark { level } else { 255 - level } - noise).max(1);
    let map = |value: u8| {
        let value = i32::from(value);
        let distance = if dark { level - value } else { value - level };
        let lifted = ((distance - noise).max(0) * 255 + range / 2) / range;
        u8::try_from(lifted.min(255)).unwrap_or(u8::MAX)
    };
    let table: Vec<u8> = (0..=255).map(map).collect();
    for value in &mut raster.pixels {
        *value = table[usize::from(*value)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> Raster {
        let at = |i: u32| value(i % width, i / width);
        Raster {
            width,
            height,
            colour: Colour::Gray,
            pixels: (0..width * height).map(at).collect(),
        }
    }

    #[test]
    fn content_is_found_to_the_pixel() {
        let picture = gray(50, 40, |x, y| {
            if (7..20).contains(&x) && (11..13).contains(&y) {
                30
            } else {
                250 + (x + y) as u8 % 5
            }
        });
        let background = Background::of(&picture);
        assert!(background.is_light());
        assert_eq!(bounds(&picture, &background), Region::new(7, 11, 13, 2));
    }

    #[test]
    fn content_at_opposite_corners_spans_the_picture() {
        let picture = gray(30, 30, |x, y| {
            if (x, y) == (29, 0) || (x, y) == (0, 29) {
                255
            } else {
                0
            }
        });
        let background = Background::of(&picture);
        assert_eq!(bounds(&picture, &background), Region::whole(&picture));
    }

    #[test]
    fn a_picture_of_one_colour_is_kept_whole() {
        let picture = gray(5, 3, |_, _| 77);
        assert_eq!(
            bounds(&picture, &Background::of(&picture)),
            Region::whole(&picture)
        );
    }

    #[test]
    fn dark_clothes_on_white_and_light_clothes_on_black_look_the_same() {
        let shape = |x: u32, y: u32| (10..20).contains(&x) && (5..25).contains(&y);
        let mut on_white = gray(30, 30, |x, y| if shape(x, y) { 55 } else { 255 });
        let mut on_black = gray(30, 30, |x, y| if shape(x, y) { 200 } else { 0 });
        let mut on_gray = gray(30, 30, |x, y| if shape(x, y) { 28 } else { 128 });
        for picture in [&mut on_white, &mut on_black, &mut on_gray] {
            let background = Background::of(picture);
            assert_eq!(polarise(picture, &background, Polarity::Auto), [0; 3]);
        }
        assert_eq!(on_white, on_black);
        assert!(on_gray.pixels.iter().all(|v| [0, 199].contains(v)));
    }

    #[test]
    fn colour_pictures_keep_their_colours_or_are_negated_whole() {
        let mut picture = Raster {
            width: 3,
            height: 3,
            colour: Colour::Rgb,
            pixels: [[250, 240, 230]; 9].concat(),
        };
        picture.pixels[12..15].copy_from_slice(&[10, 20, 30]);
        let background = Background::of(&picture);
        assert_eq!(
            polarise(&mut picture, &background, Polarity::Auto),
            [5, 15, 25]
        );
        assert_eq!(picture.pixels[12..15], [245, 235, 225]);
    }
}
