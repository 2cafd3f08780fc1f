//! Pixels to the floats a model takes.

use selvage_core::catalog::{Input, Layout};

use super::Prepared;

/// Writes pixels into tensors as `(pixel / 255 - mean) / std`, by a table of the 256 possible results per channel.
#[derive(Clone, Debug)]
pub struct Normaliser {
    tables: Vec<[f32; 256]>,
    layout: Layout,
}

impl Normaliser {
    /// The normaliser of a model's `[input]`.
    #[must_use]
    pub fn new(input: &Input) -> Self {
        let table = |(mean, std): (&f32, &f32)| {
            std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std)
        };
        Self {
            tables: input.mean.iter().zip(&input.std).map(table).collect(),
            layout: input.layout,
        }
    }

    /// Fills one image's part of a batch.
    ///
    /// # Panics
    /// When `image` and `tensor` differ in length: they are not of the same model.
    pub fn fill(&self, image: &Prepared, tensor: &mut [f32]) {
        match image {
            Prepared::Pixels(pixels) => self.normalise(pixels, tensor),
            Prepared::Values(values) => tensor.copy_from_slice(values),
        }
    }

    fn normalise(&self, pixels: &[u8], tensor: &mut [f32]) {
        assert_eq!(pixels.len(), tensor.len(), "pixels and tensor of one model");
        let channels = self.tables.len();
        match self.layout {
            Layout::Nchw => {
                let plane = tensor.len() / channels;
                for ((channel, table), plane) in self
                    .tables
                    .iter()
                    .enumerate()
                    .zip(tensor.chunks_exact_mut(plane))
                {
                    let values = pixels.iter().skip(channel).step_by(channels);
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
                    for ((out, pixel), table) in out.iter_mut().zip(pixel).zip(&self.tables) {
                        *out = table[usize::from(*pixel)];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use selvage_core::catalog::{Channels, Polarity, Resize};

    use super::*;

    fn input(channels: Channels, layout: Layout, mean: &[f32], std: &[f32]) -> Input {
        Input {
            name: None,
            width: 2,
            height: 1,
            channels,
            layout,
            resize: Resize::Stretch,
            polarity: Polarity::Keep,
            trim: false,
            mean: mean.to_vec(),
            std: std.to_vec(),
        }
    }

    #[test]
    fn grey_is_normalised_exactly() {
        let normaliser = Normaliser::new(&input(Channels::Gray, Layout::Nchw, &[0.286], &[0.353]));
        for pixel in 0..=255_u8 {
            let mut out = [0.0];
            normaliser.normalise(&[pixel], &mut out);
            let exact = (f32::from(pixel) / 255.0 - 0.286) / 0.353;
            assert_eq!(out[0].to_bits(), exact.to_bits());
        }
    }

    #[test]
    fn channels_go_where_the_layout_wants_them() {
        let (mean, std) = ([0.0, 0.5, 1.0], [1.0, 0.5, 0.25]);
        let pixels = [0, 255, 255, 255, 0, 0];
        let fill = |layout| {
            let mut out = [0.0; 6];
            Normaliser::new(&input(Channels::Rgb, layout, &mean, &std))
                .normalise(&pixels, &mut out);
            out
        };
        assert_eq!(fill(Layout::Nhwc), [0.0, 1.0, 0.0, 1.0, -1.0, -4.0]);
        assert_eq!(fill(Layout::Nchw), [0.0, 1.0, 1.0, -1.0, 0.0, -4.0]);
    }
}
