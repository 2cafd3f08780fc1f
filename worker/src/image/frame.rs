//! Where a model's pixels come from: from a point of its input back to the picture, as a viewer shows it.

use image::metadata::Orientation;

use super::raster::swaps_sides;
use super::resize::{Plan, Size, flips};

/// Undoes scaling, cropping, turning and padding. Both axes by themselves: `picture = origin + scale × input`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    origin: [f64; 2],
    scale: [f64; 2],
    picture: Size,
}

impl Frame {
    /// All of a picture, scaled to the model's size.
    #[must_use]
    pub fn whole(model: Size, picture: Size) -> Self {
        let ratio = |picture: u32, model: u32| f64::from(picture) / f64::from(model);
        Self {
            origin: [0.0; 2],
            scale: [
                ratio(picture.width, model.width),
                ratio(picture.height, model.height),
            ],
            picture,
        }
    }

    /// A part of a raster, to which a picture of `stored` pixels was decoded.
    pub(super) fn of(plan: &Plan, raster: Size, stored: Size, orientation: Orientation) -> Self {
        let Plan { region, size, .. } = plan;
        let axis = |start: f64, length: f64, pixels: u32, (raster, stored): (u32, u32), flipped| {
            let start = if flipped {
                f64::from(raster) - start - length
            } else {
                start
            };
            let ratio = f64::from(stored) / f64::from(raster);
            (start * ratio, length / f64::from(pixels) * ratio)
        };
        let (flipped_x, flipped_y) = flips(orientation);
        let widths = (raster.width, stored.width);
        let heights = (raster.height, stored.height);
        let mut x = axis(region.left, region.width, size.width, widths, flipped_x);
        let mut y = axis(region.top, region.height, size.height, heights, flipped_y);
        if swaps_sides(orientation) {
            (x, y) = (y, x);
        }
        Self {
            origin: [x.0, y.0],
            scale: [x.1, y.1],
            picture: stored.oriented(orientation),
        }
    }

    /// The same for an input with padding of that size to the left and above.
    pub(super) fn moved(self, (left, top): (u32, u32)) -> Self {
        let [x, y] = self.origin;
        Self {
            origin: [
                f64::from(left).mul_add(-self.scale[0], x),
                f64::from(top).mul_add(-self.scale[1], y),
            ],
            ..self
        }
    }

    /// Size of the upright picture.
    #[must_use]
    pub const fn picture(&self) -> Size {
        self.picture
    }

    /// Left, top, right and bottom edge in the picture of a box in the model's input, cut at the picture's edges.
    #[must_use]
    pub fn edges(&self, input: [f32; 4]) -> [f32; 4] {
        let sides = [self.picture.width, self.picture.height].map(f64::from);
        std::array::from_fn(|at| {
            let axis = at % 2;
            let edge = f64::from(input[at]).mul_add(self.scale[axis], self.origin[axis]);
            edge.clamp(0.0, sides[axis]) as f32
        })
    }
}

#[cfg(test)]
mod tests {
    use selvage_core::catalog::{Channels, Input, Place, Resize};

    use super::super::raster::margins;
    use super::super::resize::{Region, plan};
    use super::*;

    fn close(found: [f32; 4], expected: [f32; 4]) {
        let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
        assert!(
            apart.fold(0.0, f32::max) < 1e-3,
            "{found:?}, not {expected:?}"
        );
    }

    /// A frame as the preparer makes it for a picture that was decoded whole.
    fn frame(stored: Size, input: &Input, orientation: Orientation) -> Frame {
        let region = Region::new(0, 0, stored.width as usize, stored.height as usize);
        let plan = plan(region, input, orientation);
        let frame = Frame::of(&plan, stored, stored, orientation);
        if input.resize != Resize::Fit {
            return frame;
        }
        let scaled = plan.size.oriented(orientation);
        frame.moved(margins(
            (input.width, input.height),
            (scaled.width, scaled.height),
            input.place,
        ))
    }

    fn input(resize: Resize, place: Place) -> Input {
        Input {
            resize,
            place,
            ..Input::new(64, 64, Channels::Rgb)
        }
    }

    #[test]
    fn each_way_of_resizing_is_undone() {
        let size = Size::new(200, 100);
        let upright = Orientation::NoTransforms;
        let fit = frame(size, &input(Resize::Fit, Place::Center), upright);
        close(fit.edges([0.0, 16.0, 32.0, 48.0]), [0.0, 0.0, 100.0, 100.0]);
        let corner = frame(size, &input(Resize::Fit, Place::TopLeft), upright);
        close(
            corner.edges([32.0, 0.0, 64.0, 16.0]),
            [100.0, 0.0, 200.0, 50.0],
        );
        let stretch = frame(size, &input(Resize::Stretch, Place::Center), upright);
        close(
            stretch.edges([16.0, 16.0, 32.0, 32.0]),
            [50.0, 25.0, 100.0, 50.0],
        );
        let cover = frame(size, &input(Resize::Cover, Place::Center), upright);
        close(
            cover.edges([0.0, 0.0, 64.0, 64.0]),
            [50.0, 0.0, 150.0, 100.0],
        );
    }

    #[test]
    fn boxes_lie_in_the_upright_picture_and_within_it() {
        let letterbox = input(Resize::Fit, Place::Center);
        for orientation in (1..=8).filter_map(Orientation::from_exif) {
            let stored = Size::new(100, 200).oriented(orientation);
            let frame = frame(stored, &letterbox, orientation);
            assert_eq!(frame.picture(), Size::new(100, 200));
            close(
                frame.edges([16.0, 0.0, 32.0, 32.0]),
                [0.0, 0.0, 50.0, 100.0],
            );
            close(
                frame.edges([-9.0, -9.0, 99.0, 99.0]),
                [0.0, 0.0, 100.0, 200.0],
            );
        }
    }

    #[test]
    fn a_crop_is_undone_where_the_stored_axes_run_backwards() {
        let crop = Input {
            resize_to: Some(64),
            ..input(Resize::ShortestSide, Place::Center)
        };
        // The longer side becomes 129, of which 32 or 33 are cut on either side.
        let size = Size::new(129, 64);
        for orientation in [Orientation::NoTransforms, Orientation::FlipHorizontal] {
            let edges = frame(size, &crop, orientation).edges([0.0, 0.0, 64.0, 64.0]);
            close(edges, [32.0, 0.0, 96.0, 64.0]);
        }
    }

    #[test]
    fn a_picture_that_was_decoded_smaller_keeps_its_own_pixels() {
        let region = Region::new(0, 0, 100, 50);
        let plan = plan(
            region,
            &input(Resize::Stretch, Place::Center),
            Orientation::NoTransforms,
        );
        let (raster, stored) = (Size::new(100, 50), Size::new(400, 200));
        let frame = Frame::of(&plan, raster, stored, Orientation::NoTransforms);
        close(
            frame.edges([0.0, 0.0, 32.0, 32.0]),
            [0.0, 0.0, 200.0, 100.0],
        );
    }
}
