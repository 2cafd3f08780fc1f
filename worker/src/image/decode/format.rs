//! The image formats, detected by their first bytes, and what is said of a broken file.

use crate::image::error::ImageError;

/// Longest piece of a decoder's own message that is shown.
const MAX_REASON: usize = 120;

/// The formats that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
}

impl Format {
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let format = match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Self::Png,
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Self::WebP,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Self::Gif,
            [b'B', b'M', ..] => Self::Bmp,
            _ => return None,
        };
        Some(format)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        }
    }
}

/// A sentence about bytes that end before the image does.
pub(super) fn ends_early(format: Format) -> ImageError {
    ImageError::Broken(format!("the {} ends too early", format.name()))
}

/// A sentence about a broken image, with what its decoder says of it.
pub(super) fn broken(format: Format, reason: &str) -> ImageError {
    let line = reason.lines().next().unwrap_or_default().trim();
    let reason: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_REASON)
        .collect();
    ImageError::Broken(format!("the {} is broken: {reason}", format.name()))
}
