//! The orientation in an EXIF block.

use image::metadata::Orientation;

/// What precedes the block in a JPEG, and by mistake in some other files.
pub(super) const PREFIX: &[u8] = b"Exif\0\0";
/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;

/// How the picture is to be turned; a damaged block says nothing.
pub(super) fn orientation(mut block: &[u8]) -> Orientation {
    while let Some(rest) = block.strip_prefix(PREFIX) {
        block = rest;
    }
    stored(block)
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

/// The value in the first directory. It should be a SHORT; some programs write a LONG, or one with a sign.
fn stored(block: &[u8]) -> Option<u8> {
    let little = match block.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *block.get(at..)?.first_chunk()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let long = |at: usize| {
        let bytes = *block.get(at..)?.first_chunk()?;
        Some(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = (0..usize::from(short(directory)?)).map(|entry| directory + 2 + 12 * entry);
    for entry in entries {
        block.get(entry..entry + 12)?;
        if short(entry)? == ORIENTATION {
            let value = match (short(entry + 2)?, long(entry + 4)?) {
                (3 | 8, 1) => u32::from(short(entry + 8)?),
                (4 | 9, 1) => long(entry + 8)?,
                _ => return None,
            };
            return u8::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_store_the_orientation_is_read() {
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let long = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06";
        let second = b"MM\0*\0\0\0\x08\0\x02\x01\x10\0\x03\0\0\0\x01\0\x02\0\0\
                       \x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        for block in [&little[..], long, second] {
            assert_eq!(orientation(block), Orientation::Rotate90, "{block:x?}");
            for prefixes in 1..3 {
                let prefixed = [&PREFIX.repeat(prefixes), block].concat();
                assert_eq!(orientation(&prefixed), Orientation::Rotate90);
            }
        }
    }

    #[test]
    fn damaged_blocks_say_nothing() {
        let good = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        for cut in 0..good.len() {
            assert_eq!(
                orientation(&good[..cut]),
                Orientation::NoTransforms,
                "{cut}"
            );
        }
        let far = b"II*\0\xFF\xFF\xFF\xFF\x01\0";
        let two_values = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x02\0\x06\0\0";
        let nine = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0";
        for block in [&far[..], two_values, nine] {
            assert_eq!(orientation(block), Orientation::NoTransforms, "{block:x?}");
        }
    }
}
