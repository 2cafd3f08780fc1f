//! Which part of a picture is scaled to which size, and the scaling itself.

use fast_image_resize as fir;
use fir::images::{Image, ImageRef};
use image::metadata::Orientation;
use selvage_core::catalog::{CropRounding, Decode, Filter, Input, Resize};

use super::raster::{Colour, Raster, swaps_sides};

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// A size.
    #[must_use]
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// A picture's size.
    #[must_use]
    pub const fn of(raster: &Raster) -> Self {
        Self::new(raster.width, raster.height)
    }

    /// The size after turning.
    #[must_use]
    pub fn oriented(self, orientation: Orientation) -> Self {
        if swaps_sides(orientation) {
            Self::new(self.height, self.width)
        } else {
            self
        }
    }
}

/// A part of a picture, in pixels; edges may lie between pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Region {
    /// A part with edges between whole pixels.
    #[must_use]
    pub fn new(left: usize, top: usize, width: usize, height: usize) -> Self {
        Self {
            left: left as f64,
            top: top as f64,
            width: width as f64,
            height: height as f64,
        }
    }

    /// All of a picture.
    #[must_use]
    pub fn whole(raster: &Raster) -> Self {
        Self::new(0, 0, raster.width as usize, raster.height as usize)
    }

    /// The largest part in the middle with the proportions of `size`.
    fn covered(self, size: Size) -> Self {
        let ratio = f64::from(size.width) / f64::from(size.height);
        let width = self.width.min(self.height * ratio);
        let height = self.height.min(self.width / ratio);
        Self {
            left: self.left + (self.width - width) / 2.0,
            top: self.top + (self.height - height) / 2.0,
            width,
            height,
        }
    }

    /// The part that becomes the centre of `size` pixels where the whole becomes `scaled`. The centre is rounded in the
    /// picture that is turned upright.
    fn centre(self, scaled: Size, size: Size, input: &Input, orientation: Orientation) -> Self {
        let (flipped_x, flipped_y) = flips(orientation);
        let axis = |start: f64, length: f64, scaled: u32, side: u32, flipped: bool| {
            let rest = f64::from(scaled) - f64::from(side);
            let before = match input.crop_rounding {
                CropRounding::HalfEven => (rest / 2.0).round_ties_even(),
                CropRounding::Down => (rest / 2.0).floor(),
            };
            let before = if flipped { rest - before } else { before };
            let pixel = length / f64::from(scaled);
            let cut = f64::from(side) * pixel;
            (start + (before * pixel).min(length - cut), cut)
        };
        let (left, width) = axis(self.left, self.width, scaled.width, size.width, flipped_x);
        let (top, height) = axis(self.top, self.height, scaled.height, size.height, flipped_y);
        Self {
            left,
            top,
            width,
            height,
        }
    }

    /// The size with the shorter side `side` long; the longer one is rounded down.
    fn shortest_side(&self, side: u32) -> Size {
        let shortest = self.width.min(self.height);
        let scaled = |length: f64| (f64::from(side) * length / shortest) as u32;
        Size::new(scaled(self.width), scaled(self.height))
    }

    /// The largest size within `size` that keeps the proportions; at least one pixel each way. Half a pixel is rounded to the
    /// even number, as Python's `round` does it.
    fn fitted(&self, size: Size) -> Size {
        let scale = (f64::from(size.width) / self.width).min(f64::from(size.height) / self.height);
        let side =
            |length: f64, most: u32| ((length * scale).round_ties_even() as u32).clamp(1, most);
        Size::new(side(self.width, size.width), side(self.height, size.height))
    }
}

/// What is to be scaled to what, before the picture is turned upright: turning a small picture costs nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The part that is used.
    pub region: Region,
    /// The size it gets.
    pub size: Size,
    /// Whether rows are scaled before columns. Pillow does so in the upright picture; the other order is faster, and differs
    /// by a grey level in a fifth of all values.
    pub rows_first: bool,
}

/// Plans the scaling of a region to a model's size.
#[must_use]
pub fn plan(region: Region, input: &Input, orientation: Orientation) -> Plan {
    let size = Size::new(input.width, input.height).oriented(orientation);
    let longest = size.width.max(size.height);
    let centre = |scaled: Size| region.centre(scaled, size, input, orientation);
    let (region, size) = match (input.resize, input.resize_to) {
        (Resize::Stretch, None) => (region, size),
        (Resize::Stretch, Some(side)) => {
            let shortest = size.width.min(size.height);
            let scaled = |length: u32| side * length / shortest;
            let scaled = Size::new(scaled(size.width), scaled(size.height));
            (centre(scaled), size)
        }
        (Resize::ShortestSide, side) => {
            (centre(region.shortest_side(side.unwrap_or(longest))), size)
        }
        (Resize::Cover, _) => (region.covered(size), size),
        (Resize::Fit, _) => (region, region.fitted(size)),
    };
    Plan {
        region,
        size,
        rows_first: input.decode == Decode::Exact && !swaps_sides(orientation),
    }
}

/// Whether the axes of a stored picture run backwards in the upright one.
pub(super) const fn flips(orientation: Orientation) -> (bool, bool) {
    match orientation {
        Orientation::NoTransforms | Orientation::Rotate90FlipH => (false, false),
        Orientation::FlipHorizontal | Orientation::Rotate270 => (true, false),
        Orientation::FlipVertical | Orientation::Rotate90 => (false, true),
        Orientation::Rotate180 | Orientation::Rotate270FlipH => (true, true),
    }
}

/// Scales pictures; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Resizer(fir::Resizer);

impl Resizer {
    /// Scales a part of a picture.
    ///
    /// # Panics
    /// When the region leaves the picture, which is a fault of the caller.
    pub fn scale(&mut self, raster: &Raster, plan: &Plan, input: &Input) -> Raster {
        let (region, size) = (plan.region, plan.size);
        if !plan.rows_first {
            return self.pass(raster, region, size, input);
        }
        let rows = Region {
            top: 0.0,
            height: f64::from(raster.height),
            ..region
        };
        let between = Size::new(size.width, raster.height);
        let between = self.pass(raster, rows, between, input);
        let columns = Region {
            left: 0.0,
            width: f64::from(size.width),
            ..region
        };
        self.pass(&between, columns, size, input)
    }

    fn pass(&mut self, raster: &Raster, region: Region, size: Size, input: &Input) -> Raster {
        let pixel = match raster.colour {
            Colour::Gray => fir::PixelType::U8,
            Colour::GrayAlpha => fir::PixelType::U8x2,
            Colour::Rgb => fir::PixelType::U8x3,
            Colour::Rgba => fir::PixelType::U8x4,
        };
        let options = fir::ResizeOptions::new()
            .resize_alg(algorithm(input.filter, input.antialias))
            .crop(region.left, region.top, region.width, region.height)
            .use_alpha(false);
        let source = ImageRef::new(raster.width, raster.height, &raster.pixels, pixel)
            .expect("a raster has width times height pixels");
        let mut target = Image::new(size.width, size.height, pixel);
        self.0
            .resize(&source, &mut target, &options)
            .expect("regions lie within their picture");
        Raster {
            width: size.width,
            height: size.height,
            colour: raster.colour,
            pixels: target.into_vec(),
        }
    }
}

fn algorithm(filter: Filter, antialias: bool) -> fir::ResizeAlg {
    let kind = match filter {
        Filter::Nearest => return fir::ResizeAlg::Nearest,
        Filter::Bilinear => fir::FilterType::Bilinear,
        Filter::Bicubic if antialias => fir::FilterType::CatmullRom,
        Filter::Bicubic => fir::FilterType::Custom(
            fir::Filter::new("opencv", cubic, 2.0).expect("its support is finite and above 0"),
        ),
        Filter::Lanczos => fir::FilterType::Lanczos3,
    };
    if antialias {
        fir::ResizeAlg::Convolution(kind)
    } else {
        fir::ResizeAlg::Interpolation(kind)
    }
}

/// Cubic convolution (Keys 1981) with the parameter -0.75 of OpenCV and torch; Pillow has -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        A * (((x - 5.0) * x + 8.0) * x - 4.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use selvage_core::catalog::Channels;

    use super::*;

    fn input(width: u32, height: u32, resize: Resize) -> Input {
        Input {
            resize,
            ..Input::new(width, height, Channels::Gray)
        }
    }

    const UPRIGHT: Orientation = Orientation::NoTransforms;

    #[test]
    fn fit_keeps_proportions_and_at_least_one_pixel() {
        let model = input(28, 28, Resize::Fit);
        for (width, height, expected) in [
            (56, 56, (28, 28)),
            (100, 50, (28, 14)),
            (3, 300, (1, 28)),
            (56, 37, (28, 18)),
            (1, 16_384, (1, 28)),
            (1, 1, (28, 28)),
        ] {
            let size = plan(Region::new(0, 0, width, height), &model, UPRIGHT).size;
            assert_eq!((size.width, size.height), expected, "{width}x{height}");
        }
    }

    #[test]
    fn cover_takes_the_middle() {
        let plan = plan(
            Region::new(0, 0, 200, 100),
            &input(10, 10, Resize::Cover),
            UPRIGHT,
        );
        assert_eq!(plan.region, Region::new(50, 0, 100, 100));
        assert_eq!(plan.size, Size::new(10, 10));
    }

    #[test]
    fn the_crop_after_scaling_is_rounded_in_the_upright_picture() {
        // 64 × 41 scaled to 32 × 20 would be too small for the crop: the shorter side becomes 32, the longer 49.
        let model = Input {
            resize_to: Some(32),
            ..input(28, 28, Resize::ShortestSide)
        };
        let left = |width, height, orientation| {
            let plan = plan(Region::new(0, 0, width, height), &model, orientation);
            (
                plan.region.left / plan.region.width * 28.0,
                plan.region.top / plan.region.height * 28.0,
            )
        };
        let close = |(a, b): (f64, f64), (c, d): (f64, f64)| {
            assert!(
                (a - c).abs() < 1e-9 && (b - d).abs() < 1e-9,
                "{a} {b}, not {c} {d}"
            );
        };
        // (49 - 28) / 2 = 10.5 is rounded to 10, (32 - 28) / 2 is 2.
        close(left(64, 41, UPRIGHT), (10.0, 2.0));
        close(left(64, 41, Orientation::FlipHorizontal), (11.0, 2.0));
        close(left(41, 64, Orientation::Rotate90FlipH), (2.0, 10.0));
        close(left(41, 64, Orientation::Rotate90), (2.0, 11.0));
    }

    #[test]
    fn half_a_pixel_of_the_crop_is_rounded_as_the_library_does() {
        // 61 × 103 becomes 28 × 47: 19 rows are left over.
        for (crop_rounding, rows) in [(CropRounding::HalfEven, 10.0), (CropRounding::Down, 9.0)] {
            let model = Input {
                crop_rounding,
                ..input(28, 28, Resize::ShortestSide)
            };
            let plan = plan(Region::new(0, 0, 61, 103), &model, UPRIGHT);
            let top = plan.region.top / plan.region.height * 28.0;
            assert!((top - rows).abs() < 1e-9, "{top}");
        }
    }

    #[test]
    fn a_picture_that_lies_is_scaled_lying() {
        let plan = plan(
            Region::new(0, 0, 300, 100),
            &input(8, 20, Resize::Stretch),
            Orientation::Rotate90,
        );
        assert_eq!(plan.size, Size::new(20, 8));
    }

    #[test]
    fn scaling_down_weighs_every_pixel() {
        let checks = Raster {
            width: 64,
            height: 64,
            colour: Colour::Gray,
            pixels: (0..64 * 64)
                .map(|i| if (i + i / 64) % 2 == 0 { 0 } else { 200 })
                .collect(),
        };
        let input = input(8, 8, Resize::Stretch);
        let plan = plan(Region::whole(&checks), &input, UPRIGHT);
        let small = Resizer::default().scale(&checks, &plan, &input);
        assert!(small.pixels.iter().all(|v| v.abs_diff(100) <= 2));
    }
}
