//! The image formats that are decoded, by their first bytes.

/// What to send, for messages.
pub const SUPPORTED: &str = "PNG, JPEG, WebP, GIF or BMP";

/// A format that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// GIF.
    Gif,
    /// BMP.
    Bmp,
}

impl ImageFormat {
    /// The format of a file. `None` for all other bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'B', b'M', ..] => Some(Self::Bmp),
            _ => (bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"))
                .then_some(Self::WebP),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        }
    }
}

/// The name of a format that people send although it is not decoded.
#[must_use]
pub fn unsupported(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(4..12).unwrap_or_default();
    match brand {
        b"ftypavif" | b"ftypavis" => return Some("AVIF"),
        b"ftypheic" | b"ftypheix" | b"ftyphevc" | b"ftyphevx" | b"ftypmif1" | b"ftypmsf1" => {
            return Some("HEIC");
        }
        _ => {}
    }
    let names: [(&[u8], _); 11] = [
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"\xFF\x0A", "JPEG XL"),
        (b"\0\0\0\x0CJXL ", "JPEG XL"),
        (b"\0\0\0\x0CjP  ", "JPEG 2000"),
        (b"\0\0\x01\0", "ICO"),
        (b"8BPS", "PSD"),
        (b"%PDF", "PDF"),
        (b"<svg", "SVG"),
        (b"<!DOCTYPE html", "HTML"),
        (b"<html", "HTML"),
    ];
    let name = names
        .into_iter()
        .find(|(magic, _)| bytes.starts_with(magic));
    name.map(|(_, name)| name)
}

/// What precedes the first frame of a GIF (GIF89a, 20), and where that frame begins. Bytes between blocks that begin no block are
/// left out: viewers skip them.
#[must_use]
pub fn before_gif_frame(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let flags = *bytes.get(10)?;
    let colours = if flags & 0x80 == 0 {
        0
    } else {
        6 << (flags & 7)
    };
    let mut at = 13 + colours;
    let mut before = bytes.get(..at)?.to_vec();
    loop {
        match *bytes.get(at)? {
            b',' => return Some((before, at)),
            b';' => return None,
            b'!' => {
                let start = at;
                at += 2;
                while let length @ 1.. = *bytes.get(at)? {
                    at += 1 + usize::from(length);
                }
                at += 1;
                before.extend_from_slice(&bytes[start..at]);
            }
            _ => at += 1,
        }
    }
}

/// Width and height that a GIF's first frame, which begins at `frame`, needs of the screen.
#[must_use]
pub fn gif_frame_extent(bytes: &[u8], frame: usize) -> Option<[u16; 2]> {
    let short = |at| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let end = |side| short(frame + 1 + side)?.checked_add(short(frame + 5 + side)?);
    Some([end(0)?, end(2)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        for (bytes, format) in [
            (&b"\xFF\xD8\xFF\xE0"[..], Some(ImageFormat::Jpeg)),
            (b"\x89PNG\r\n\x1A\n", Some(ImageFormat::Png)),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some(ImageFormat::WebP)),
            (b"GIF87a", Some(ImageFormat::Gif)),
            (b"BM", Some(ImageFormat::Bmp)),
            (b"RIFF\0\0\0\0WAVE", None),
            (b"\xFF\xD8", None),
            (b"GIF88a", None),
            (b"", None),
        ] {
            assert_eq!(ImageFormat::of(bytes), format, "{bytes:?}");
        }
    }

    #[test]
    fn other_formats_have_names() {
        assert_eq!(unsupported(b"\0\0\0\x24ftypheic\0\0\0\0"), Some("HEIC"));
        assert_eq!(unsupported(b"\0\0\0\x1Cftypavif"), Some("AVIF"));
        assert_eq!(unsupported(b"MM\0*\0\0\0\x08"), Some("TIFF"));
        assert_eq!(unsupported(b"\0\0\0\x1Cftypisom"), None);
        assert_eq!(unsupported(b""), None);
    }

    #[test]
    fn the_first_frame_of_a_gif_is_found_behind_extensions_and_zeros() {
        let screen = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF";
        let extension = b"!\xFE\x02hi\x01!\0";
        let gif = [&screen[..], extension, b"\0\0\0", b",rest"].concat();
        let before = [&screen[..], extension].concat();
        assert_eq!(before_gif_frame(&gif), Some((before, gif.len() - 5)));
        for cut in 0..gif.len() - 5 {
            assert_eq!(before_gif_frame(&gif[..cut]), None, "{cut}");
        }
        assert_eq!(before_gif_frame(&[&screen[..], b";,"].concat()), None);
    }

    #[test]
    fn a_frame_needs_its_place_and_its_size() {
        let frame = b"..,\x01\0\x02\0\x03\0\x04\x01";
        assert_eq!(gif_frame_extent(frame, 2), Some([4, 262]));
        assert_eq!(gif_frame_extent(&frame[..10], 2), None);
        assert_eq!(gif_frame_extent(b",\xFF\xFF\0\0\x01\0\0\0", 0), None);
    }
}
