//! Which part of a picture is scaled to which size, and the scaling itself.

use fast_image_resize as fir;
use fir::images::{Image, ImageRef};
use image::metadata::Orientation;
use selvage_core::catalog::Resize;

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
    left: f64,
    top: f64,
    width: f64,
    height: f64,
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

    /// The largest size within `size` that keeps the proportions; at least one pixel each way.
    fn fitted(&self, size: Size) -> Size {
        let scale = (f64::from(size.width) / self.width).min(f64::from(size.height) / self.height);
        let side = |length: f64, most: u32| ((length * scale).round() as u32).clamp(1, most);
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
}

/// Plans the scaling of a region to a model's size.
#[must_use]
pub fn plan(region: Region, resize: Resize, model: Size, orientation: Orientation) -> Plan {
    let lying = model.oriented(orientation);
    match resize {
        Resize::Stretch => Plan {
            region,
            size: lying,
        },
        Resize::Cover => Plan {
            region: region.covered(lying),
            size: lying,
        },
        Resize::Fit => Plan {
            region,
            size: region.fitted(lying),
        },
    }
}

/// Scales pictures; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Resizer(fir::Resizer);

impl Resizer {
    /// Scales a part of a picture, each new pixel the weighted mean of all it covers.
    ///
    /// # Panics
    /// When the region leaves the picture, which is a fault of the caller.
    pub fn scale(&mut self, raster: &Raster, region: &Region, size: Size) -> Raster {
        let pixel = match raster.colour {
            Colour::Gray => fir::PixelType::U8,
            Colour::GrayAlpha => fir::PixelType::U8x2,
            Colour::Rgb => fir::PixelType::U8x3,
            Colour::Rgba => fir::PixelType::U8x4,
        };
        // Dropping pixels between samples, as the dataset's authors did with their small pictures, makes noise of the
        // texture of large ones; the triangle filter weighs all of them.
        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear))
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

#[cfg(test)]
mod tests {
    use super::*;

    const UPRIGHT: Orientation = Orientation::NoTransforms;

    #[test]
    fn fit_keeps_proportions_and_at_least_one_pixel() {
        let model = Size::new(28, 28);
        for (width, height, expected) in [
            (56, 56, (28, 28)),
            (100, 50, (28, 14)),
            (3, 300, (1, 28)),
            (1, 16_384, (1, 28)),
            (1, 1, (28, 28)),
        ] {
            let size = plan(
                Region::new(0, 0, width, height),
                Resize::Fit,
                model,
                UPRIGHT,
            )
            .size;
            assert_eq!((size.width, size.height), expected, "{width}x{height}");
        }
    }

    #[test]
    fn cover_takes_the_middle() {
        let plan = plan(
            Region::new(0, 0, 200, 100),
            Resize::Cover,
            Size::new(10, 10),
            UPRIGHT,
        );
        assert_eq!(plan.region, Region::new(50, 0, 100, 100));
        assert_eq!(plan.size, Size::new(10, 10));
    }

    #[test]
    fn a_picture_that_lies_is_scaled_lying() {
        let plan = plan(
            Region::new(0, 0, 300, 100),
            Resize::Stretch,
            Size::new(8, 20),
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
        let small = Resizer::default().scale(&checks, &Region::whole(&checks), Size::new(8, 8));
        assert!(small.pixels.iter().all(|v| v.abs_diff(100) <= 2));
    }
}
