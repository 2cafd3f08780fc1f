//! Pixels to the floats a model takes.

use selvage_core::catalog::{Channels, Input, Layout};

use super::Prepared;

/// Writes pixels into tensors as `(pixel × scale - mean) / std`, by a table of the 256 possible results per channel.
#[derive(Clone, Debug)]
pub struct Normaliser {
    /// Of each of the tensor's channels: where it is within a pixel, and the results.
    tables: Vec<(usize, [f32; 256])>,
    layout: Layout,
}

impl Normaliser {
    /// The normaliser of a model's `[input]`.
    #[must_use]
    pub fn new(input: &Input) -> Self {
        let channels = input.channels.count();
        let table = |channel| {
            let within = if input.channels == Channels::Bgr {
                channels - 1 - channel
            } else {
                channel
            };
            let result =
                |pixel: usize| input.normalise(channel, u8::try_from(pixel).unwrap_or(u8::MAX));
            (within, std::array::from_fn(result))
        };
        Self {
            tables: (0..channels).map(table).collect(),
            layout: input.layout,
        }
    }

    /// Fills one image's part of a batch.
    ///
    /// # Panics
    /// When `image` and `tensor` differ in length: they are not of the same model.
    pub fn fill(&self, image: &Prepared, tensor: &mut [f32]) {
        match image {
            Prepared::Pixels(pixels, _) => self.normalise(pixels, tensor),
            Prepared::Values(values) => tensor.copy_from_slice(values),
        }
    }

    fn normalise(&self, pixels: &[u8], tensor: &mut [f32]) {
        assert_eq!(pixels.len(), tensor.len(), "pixels and tensor of one model");
        let channels = self.tables.len();
        match self.layout {
            Layout::Nchw => {
                let plane = tensor.len() / channels;
                for ((within, table), plane) in
                    self.tables.iter().zip(tensor.chunks_exact_mut(plane))
                {
                    let values = pixels.iter().skip(*within).step_by(channels);
                    for (out, pixel) in plane.iter_mut().zip(values) {
                        *out = table[usize::from(*pixel)];
                    }
                }
            }
            Layout::Nhwc => {
                for (out, pixel) in tensor
                    .chunks_exact_mut(channels)
                    .zip(pixels.chunks_exact(channels))
                {
                    for (out, (within, table)) in out.iter_mut().zip(&self.tables) {
                        *out = table[usize::from(pixel[*within])];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(channels: Channels, layout: Layout, mean: &[f32], std: &[f32]) -> Input {
        Input {
            layout,
            mean: mean.to_vec(),
            std: std.to_vec(),
            ..Input::new(2, 1, channels)
        }
    }

    #[test]
    fn grey_is_normalised_exactly() {
        let (mean, std) = (0.286_f32, 0.353_f32);
        let normaliser = Normaliser::new(&input(Channels::Gray, Layout::Nchw, &[mean], &[std]));
        for pixel in 0..=255_u8 {
            let mut out = [0.0];
            normaliser.normalise(&[pixel], &mut out);
            let exact = (f64::from(pixel) / 255.0 - f64::from(mean)) / f64::from(std);
            assert_eq!(out[0].to_bits(), (exact as f32).to_bits());
        }
    }

    #[test]
    fn channels_go_where_the_layout_and_the_order_want_them() {
        let (mean, std) = ([0.0, 0.5, 1.0], [1.0, 0.5, 0.25]);
        let pixels = [0, 255, 255, 255, 0, 0];
        let fill = |channels, layout| {
            let mut out = [0.0; 6];
            Normaliser::new(&input(channels, layout, &mean, &std)).normalise(&pixels, &mut out);
            out
        };
        let (rgb, bgr) = (Channels::Rgb, Channels::Bgr);
        assert_eq!(fill(rgb, Layout::Nhwc), [0.0, 1.0, 0.0, 1.0, -1.0, -4.0]);
        assert_eq!(fill(rgb, Layout::Nchw), [0.0, 1.0, 1.0, -1.0, 0.0, -4.0]);
        assert_eq!(fill(bgr, Layout::Nhwc), [1.0, 1.0, -4.0, 0.0, -1.0, 0.0]);
        assert_eq!(fill(bgr, Layout::Nchw), [1.0, 0.0, 1.0, -1.0, -4.0, 0.0]);
    }
}
