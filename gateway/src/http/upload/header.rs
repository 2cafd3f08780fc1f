//! An image's format and size as its first bytes state them. Nothing is decoded here, and nothing is believed: the
//! worker checks again while it decodes.

use selvage_core::image_format::{self, ImageFormat, SUPPORTED};

use crate::http::error::{ApiError, Code};

/// Longest side of an image, in pixels.
const MAX_SIDE: u32 = 16_384;

/// Width and height in pixels; `None` where the header is cut or contradicts itself.
type Size = Option<(u32, u32)>;

/// Refuses what cannot be an image of a supported type and size.
///
/// # Errors
/// `unsupported_media_type`, `invalid_image` or `image_too_large`.
pub fn check(image: &[u8], max_pixels: u64) -> Result<(), ApiError> {
    let Some(format) = ImageFormat::of(image) else {
        return Err(ApiError::new(
            Code::UnsupportedMediaType,
            unsupported(image),
        ));
    };
    let size = size(format, image);
    let Some((width, height)) = size.filter(|(width, height)| *width > 0 && *height > 0) else {
        let detail = format!("the {} header is broken", format.name());
        return Err(ApiError::new(Code::InvalidImage, detail));
    };
    let pixels = u64::from(width) * u64::from(height);
    if width > MAX_SIDE || height > MAX_SIDE || pixels > max_pixels {
        let detail = format!(
            "the image is {width} × {height} pixels; at most {max_pixels} pixels and {MAX_SIDE} a side are taken"
        );
        return Err(ApiError::new(Code::ImageTooLarge, detail));
    }
    Ok(())
}

/// What is said of bytes that are none of the supported formats.
fn unsupported(image: &[u8]) -> String {
    if image.trim_ascii_start().starts_with(b"{") {
        return "the body is JSON: send it with Content-Type: application/json".to_owned();
    }
    match image_format::unsupported(image) {
        Some(name) => format!("unsupported image format: {name}; send {SUPPORTED}"),
        None => format!("the bytes are no image; send {SUPPORTED}"),
    }
}

fn size(format: ImageFormat, image: &[u8]) -> Size {
    match format {
        ImageFormat::Png => png(image),
        ImageFormat::Jpeg => jpeg(image),
        ImageFormat::Gif => gif(image),
        ImageFormat::Bmp => bmp(image),
        ImageFormat::WebP => webp(image),
    }
}

/// PNG specification §11.2.1: the first chunk is IHDR, 13 bytes long, and begins with width and height.
fn png(image: &[u8]) -> Size {
    let first = image.get(8..24)?;
    first
        .starts_with(b"\0\0\0\x0DIHDR")
        .then(|| Some((be32(first, 8)?, be32(first, 12)?)))?
}

/// GIF89a §18: the logical screen; if it has no size, the first frame's counts.
fn gif(image: &[u8]) -> Size {
    let (width, height) = (le16(image, 6)?, le16(image, 8)?);
    if width > 0 && height > 0 {
        return Some((width, height));
    }
    let (_, frame) = image_format::before_gif_frame(image)?;
    let extent = image_format::gif_frame_extent(image, frame)?;
    let [frame_width, frame_height] = extent.map(u32::from);
    Some((width.max(frame_width), height.max(frame_height)))
}

/// `BITMAPCOREHEADER` (12 bytes) has 16-bit sides; all later headers have signed 32-bit ones, and a negative height
/// for rows from the top.
fn bmp(image: &[u8]) -> Size {
    if le32(image, 14)? == 12 {
        return Some((le16(image, 18)?, le16(image, 20)?));
    }
    let width = i32::try_from(le32(image, 18)?).ok()?;
    let height = le32(image, 22)?.cast_signed();
    let height = i32::try_from(height.unsigned_abs()).ok()?;
    Some((width.unsigned_abs(), height.unsigned_abs()))
}

/// RFC 9649 §2: the first chunk says which of the three kinds it is.
fn webp(image: &[u8]) -> Size {
    match image.get(12..16)? {
        b"VP8X" => Some((le24(image, 24)? + 1, le24(image, 27)? + 1)),
        b"VP8L" => {
            let bits = le32(image, 21)?;
            let side = |shift: u32| ((bits >> shift) & 0x3FFF) + 1;
            (image.get(20)? == &0x2F).then(|| (side(0), side(14)))
        }
        // RFC 6386 §9.1: three bytes of frame tag, then the start code of a key frame, then 14 bits a side.
        b"VP8 " => {
            let start_code = image.get(23..26)? == [0x9D, 0x01, 0x2A];
            let sides = (le16(image, 26)? & 0x3FFF, le16(image, 28)? & 0x3FFF);
            start_code.then_some(sides)
        }
        _ => None,
    }
}

/// Walks the segments (ITU T.81 §B.1.1) to the first frame header.
fn jpeg(image: &[u8]) -> Size {
    let mut at = 2;
    loop {
        // Decoders skip whatever stands between segments, and any number of fill bytes before a marker.
        at += image.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
        at += image.get(at..)?.iter().position(|byte| *byte != 0xFF)?;
        let marker = *image.get(at)?;
        at += 1;
        match marker {
            // Markers without a segment.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            // Frame headers: SOF0 to SOF15 but DHT, JPG and DAC. Length, precision, then height and width.
            0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                return Some((be16(image, at + 5)?, be16(image, at + 3)?));
            }
            // The end, or a scan, before any frame.
            0xD9 | 0xDA => return None,
            _ => {
                let length = usize::try_from(be16(image, at)?).ok()?;
                if length < 2 {
                    return None;
                }
                at += length;
            }
        }
    }
}

fn bytes<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
    image.get(at..)?.first_chunk::<N>().copied()
}

fn be32(image: &[u8], at: usize) -> Option<u32> {
    bytes(image, at).map(u32::from_be_bytes)
}

fn le32(image: &[u8], at: usize) -> Option<u32> {
    bytes(image, at).map(u32::from_le_bytes)
}

fn le24(image: &[u8], at: usize) -> Option<u32> {
    bytes(image, at).map(|[a, b, c]: [u8; 3]| u32::from_le_bytes([a, b, c, 0]))
}

fn be16(image: &[u8], at: usize) -> Option<u32> {
    bytes(image, at).map(u16::from_be_bytes).map(u32::from)
}

fn le16(image: &[u8], at: usize) -> Option<u32> {
    bytes(image, at).map(u16::from_le_bytes).map(u32::from)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, ImageFormat};

    use super::*;

    const MAX_PIXELS: u64 = 40_000_000;
    const FORMATS: [ImageFormat; 5] = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::WebP,
    ];

    fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height)
            .write_to(&mut bytes, format)
            .unwrap();
        bytes.into_inner()
    }

    fn size(image: &[u8]) -> Size {
        super::size(selvage_core::image_format::ImageFormat::of(image)?, image)
    }

    fn code(image: &[u8]) -> Option<&'static str> {
        check(image, MAX_PIXELS)
            .err()
            .map(|error| error.code().as_str())
    }

    fn png_of(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = encoded(1, 1, ImageFormat::Png);
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        bytes
    }

    #[test]
    fn sizes_of_real_files_are_read() {
        for format in FORMATS {
            let image = encoded(300, 17, format);
            assert_eq!(size(&image), Some((300, 17)), "{format:?}");
            assert_eq!(code(&image), None, "{format:?}");
        }
    }

    #[test]
    fn cut_files_never_panic_and_never_pass_without_their_size() {
        for format in FORMATS {
            let image = encoded(30, 20, format);
            for cut in 0..image.len().min(1000) {
                let found = size(&image[..cut]);
                assert!(
                    found.is_none() || found == Some((30, 20)),
                    "{format:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn other_types_are_unsupported() {
        let others: [&[u8]; 12] = [
            b"x",
            b"<html></html>",
            b"<svg/>",
            b"%PDF-1.7",
            b"PK\x03\x04",
            b"\x7fELF",
            b"II*\0\x08\0\0\0",
            b"MM\0*\0\0\0\x08",
            b"\0\0\0\x1cftypavif",
            b"#?RADIANCE\n",
            b"8BPS\0\x01",
            b"\0\0\x01\0\x01\0",
        ];
        for image in others {
            assert_eq!(code(image), Some("unsupported_media_type"), "{image:?}");
        }
        assert_eq!(code(b"RIFF\0\0\0\0WAVE"), Some("unsupported_media_type"));
    }

    #[test]
    fn what_was_sent_instead_is_named() {
        let detail = |bytes: &[u8]| check(bytes, MAX_PIXELS).unwrap_err().to_string();
        assert!(detail(b"\0\0\0\x24ftypheic").contains("HEIC; send PNG, JPEG"));
        assert!(detail(b" {\"image\": \"aGk=\"}").contains("Content-Type: application/json"));
        assert!(detail(b"hello").contains("no image; send PNG, JPEG"));
    }

    #[test]
    fn a_gif_without_a_screen_has_the_size_of_its_first_frame() {
        let mut image = encoded(30, 20, ImageFormat::Gif);
        image[6..10].fill(0);
        assert_eq!(size(&image), Some((30, 20)));
    }

    #[test]
    fn lying_sizes_are_refused_by_the_header_alone() {
        let cases = [
            (png_of(0, 0), "invalid_image"),
            (png_of(0, 10), "invalid_image"),
            (png_of(100_000, 100_000), "image_too_large"),
            (png_of(u32::MAX, 1), "image_too_large"),
            (png_of(1, 65_535), "image_too_large"),
            (png_of(6_325, 6_325), "image_too_large"),
            (b"\x89PNG\r\n\x1a\n".to_vec(), "invalid_image"),
            (vec![0xFF, 0xD8, 0xFF, 0xD9], "invalid_image"),
            (vec![0xFF, 0xD8, 0xFF], "invalid_image"),
            (b"BM".to_vec(), "invalid_image"),
            (b"GIF89a\xff\xff\xff\xff".to_vec(), "image_too_large"),
            (b"GIF89a\0\0\0\0".to_vec(), "invalid_image"),
        ];
        for (image, expected) in cases {
            assert_eq!(
                code(&image),
                Some(expected),
                "{:?}",
                &image[..image.len().min(30)]
            );
        }
        assert_eq!(code(&png_of(16_384, 2_441)), None);
        assert_eq!(code(&png_of(6_250, 6_400)), None, "40 MP exactly");
    }

    #[test]
    fn a_jpeg_frame_of_65535_is_too_large() {
        let mut image = encoded(32, 32, ImageFormat::Jpeg);
        let frame = image
            .windows(2)
            .position(|pair| pair == [0xFF, 0xC0])
            .unwrap();
        image[frame + 5..frame + 9].fill(0xFF);
        assert_eq!(code(&image), Some("image_too_large"));
    }

    #[test]
    fn jpeg_segments_of_no_length_do_not_loop() {
        assert_eq!(
            code(&[0xFF, 0xD8, 0xFF, 0xE0, 0, 0, 0xFF, 0xC0]),
            Some("invalid_image")
        );
        let fill = [vec![0xFF, 0xD8], vec![0xFF; 1 << 20]].concat();
        assert_eq!(code(&fill), Some("invalid_image"));
    }

    #[test]
    fn bmp_rows_may_come_from_the_top_but_not_from_nowhere() {
        let mut image = encoded(4, 4, ImageFormat::Bmp);
        image[22..26].copy_from_slice(&(-4_i32).to_le_bytes());
        assert_eq!(size(&image), Some((4, 4)));
        image[22..26].copy_from_slice(&i32::MIN.to_le_bytes());
        assert_eq!(code(&image), Some("invalid_image"));
        image[18..22].copy_from_slice(&(-4_i32).to_le_bytes());
        assert_eq!(code(&image), Some("invalid_image"));
    }

    #[test]
    fn webp_of_all_three_kinds() {
        let riff = |chunk: &[u8]| [b"RIFF\0\0\0\0WEBP", chunk].concat();
        let extended = riff(b"VP8X\x0a\0\0\0\0\0\0\0\x1d\0\0\x13\0\0");
        assert_eq!(size(&extended), Some((30, 20)));
        let lossy = riff(b"VP8 \x20\0\0\0\x30\x01\0\x9d\x01\x2a\x1e\0\x14\0");
        assert_eq!(size(&lossy), Some((30, 20)));
        let width_0 = riff(b"VP8 \x20\0\0\0\x30\x01\0\x9d\x01\x2a\0\0\x14\0");
        assert_eq!(code(&width_0), Some("invalid_image"));
    }
}
