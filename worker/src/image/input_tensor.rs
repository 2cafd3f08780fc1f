//! Tensors that are given instead of images: checked against the model's input, brought into the order of pixels.

use image::metadata::Orientation;
use selvage_core::catalog::{Channels, Input, Layout};
use selvage_core::tensor::{self, Datatype};

use super::decode::Decoded;
use super::error::ImageError;
use super::prepared::Prepared;
use super::raster::{Colour, Raster};
use super::resize::Size;

/// What a tensor is to become.
pub(super) enum InputTensor {
    /// Pixels of the model's size; they are treated as an image's.
    Picture(Decoded),
    /// Values the model takes as they are.
    Values(Prepared),
}

/// Reads a tensor of exactly one image for the model.
pub(super) fn read(
    datatype: Datatype,
    values: &[u8],
    input: &Input,
) -> Result<InputTensor, ImageError> {
    let channels = input.channels.count();
    let pixels = input.width as usize * input.height as usize;
    if values.len() != pixels * channels * datatype.size() {
        let problem = "the tensor does not have the size of the model's input";
        return Err(ImageError::Broken(problem.to_owned()));
    }
    match datatype {
        Datatype::Uint8 => {
            let mut raster = Raster {
                width: input.width,
                height: input.height,
                colour: match input.channels {
                    Channels::Gray => Colour::Gray,
                    Channels::Rgb | Channels::Bgr => Colour::Rgb,
                },
                pixels: match input.layout {
                    Layout::Nhwc => values.to_vec(),
                    Layout::Nchw => interleave(values, channels),
                },
            };
            if input.channels == Channels::Bgr {
                let (pixels, _) = raster.pixels.as_chunks_mut::<3>();
                pixels.iter_mut().for_each(|pixel| pixel.reverse());
            }
            Ok(InputTensor::Picture(Decoded {
                size: Size::of(&raster),
                raster,
                orientation: Orientation::NoTransforms,
                lacks_end: false,
            }))
        }
        Datatype::Fp32 => {
            let floats = tensor::floats(values);
            let problem = "the tensor has values that are no numbers";
            let floats = floats.ok_or_else(|| ImageError::Broken(problem.to_owned()))?;
            Ok(InputTensor::Values(Prepared::Values(floats)))
        }
    }
}

/// Planes to pixels: the channels of a pixel come together.
fn interleave(planes: &[u8], channels: usize) -> Vec<u8> {
    let plane = planes.len() / channels;
    let pixel = |at| planes.iter().skip(at).step_by(plane).copied();
    (0..plane).flat_map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels() {
        assert_eq!(interleave(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5, 2, 4, 6]);
        assert_eq!(interleave(&[1, 2, 3], 1), [1, 2, 3]);
    }
}
