//! What a decoder is asked for and what it returns.

use image::metadata::Orientation;
use selvage_core::catalog::Channels;

use crate::image::raster::Raster;
use crate::image::resize::Size;

/// A decoded image in a model's channels.
#[derive(Debug)]
pub struct Decoded {
    /// The pixels, as they were stored.
    pub raster: Raster,
    /// The picture's size before it was decoded smaller.
    pub size: Size,
    /// How they are to be turned.
    pub orientation: Orientation,
    /// Whether the file has all of the picture but not its own end.
    pub lacks_end: bool,
}

/// What a model wants of an image.
#[derive(Clone, Copy, Debug)]
pub struct DecodeTarget {
    /// Its channels.
    pub channels: Channels,
    /// The sides it is scaled to anyway: it may be decoded smaller than it is, but neither side shorter than this. `None`
    /// where every pixel counts.
    pub side: Option<u32>,
    /// Whether an ICC profile counts: colours become those of sRGB.
    pub srgb: bool,
}
