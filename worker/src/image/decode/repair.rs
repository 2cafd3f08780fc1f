//! Faults in headers that every viewer forgives and the decoders do not: they get a mended copy.

use std::borrow::Cow;

use selvage_core::image_format::{self, ImageFormat as Format};

/// Bytes of a BMP's file header and of Windows' first header behind it.
const HEADER: usize = 54;
/// The last chunk of a PNG (PNG specification, 11.2.5).
const PNG_END: &[u8; 12] = b"\0\0\0\0IEND\xAE\x42\x60\x82";

/// The file as its decoder can read it; borrowed if there is nothing to mend.
pub(super) fn mended(format: Format, bytes: &[u8]) -> Cow<'_, [u8]> {
    let mended = match format {
        Format::Png => png(bytes),
        Format::WebP => webp(bytes),
        Format::Gif => gif(bytes),
        Format::Bmp => bmp(bytes),
        Format::Jpeg => None,
    };
    mended.map_or(Cow::Borrowed(bytes), Cow::Owned)
}

/// A PNG without its last chunk, or with a part of it only.
fn png(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes.get(8..)?;
    while let Some((header, body)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, kind @ ..] = *header;
        if kind == *b"IEND" {
            break;
        }
        let length = u32::from_be_bytes([a, b, c, d]);
        rest = body.get((length as usize).checked_add(4)?..)?;
    }
    let is_cut = rest.len() < PNG_END.len() && PNG_END.starts_with(rest);
    is_cut.then(|| [&bytes[..bytes.len() - rest.len()], PNG_END].concat())
}

/// An extended WebP whose flags announce chunks that are not there (RFC 9649, 2.7): the flags are cleared.
fn webp(bytes: &[u8]) -> Option<Vec<u8>> {
    let flags = *bytes.get(20).filter(|_| bytes[12..16] == *b"VP8X")?;
    let mut found = !(0x20 | 0x10 | 0x08 | 0x04);
    let mut rest = &bytes[12..];
    while let Some((header, body)) = rest.split_first_chunk::<8>() {
        let [kind @ .., a, b, c, d] = *header;
        found |= match &kind {
            b"ICCP" => 0x20,
            b"ALPH" | b"VP8L" | b"ANMF" => 0x10,
            b"EXIF" => 0x08,
            b"XMP " => 0x04,
            _ => 0,
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        rest = body.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    (flags & !found != 0).then(|| {
        let mut mended = bytes.to_vec();
        mended[20] &= found;
        mended
    })
}

/// A GIF with bytes between its blocks that begin no block, or with a first frame that is larger than the screen, which may
/// have no size at all: the bytes go, and the screen grows.
fn gif(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut before, frame) = image_format::before_gif_frame(bytes)?;
    let extent = image_format::gif_frame_extent(bytes, frame)?;
    for (side, extent) in before[6..10].as_chunks_mut().0.iter_mut().zip(extent) {
        *side = u16::from_le_bytes(*side).max(extent).to_le_bytes();
    }
    let (old, frames) = bytes.split_at(frame);
    (before != old).then(|| [&before, frames].concat())
}

/// A BMP without planes, with more palette entries than its pixels can name, or with the header of OS/2 2.x.
fn bmp(bytes: &[u8]) -> Option<Vec<u8>> {
    let long = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let length = long(14)?;
    let (mut header, rest) = match length {
        12 | 40 | 52 | 56 | 108 | 124 => {
            let (header, rest) = bytes.split_at_checked(HEADER)?;
            (header.to_vec(), rest)
        }
        16..=64 => from_os2(bytes, length)?,
        _ => return None,
    };
    let planes = if length == 12 { 22 } else { 26 };
    header[planes..planes + 2].copy_from_slice(&[1, 0]);
    let named = u32::from_le_bytes(*header[46..].first_chunk()?);
    if length > 12 && header[28] <= 8 && named > 1 << header[28] {
        header[46..50].fill(0);
    }
    (!bytes.starts_with(&header)).then(|| [&header, rest].concat())
}

/// The header with the 40 bytes of Windows' first one, and what follows it: fields that OS/2's lacks are zero, and its own are left
/// out.
fn from_os2(bytes: &[u8], length: u32) -> Option<(Vec<u8>, &[u8])> {
    let (file, rest) = bytes.split_at_checked(14)?;
    let (header, rest) = rest.split_at_checked(length as usize)?;
    let mut mended = [file, &header[..header.len().min(40)]].concat();
    mended.resize(HEADER, 0);
    // Its other compressions are not those of Windows.
    if mended[30] > 2 {
        return None;
    }
    mended[14..18].copy_from_slice(&40_u32.to_le_bytes());
    let pixels = u32::from_le_bytes(*file.last_chunk()?);
    let pixels = pixels.checked_add(40)?.checked_sub(length)?;
    mended[10..14].copy_from_slice(&pixels.to_le_bytes());
    Some((mended, rest))
}
