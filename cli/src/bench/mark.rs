//! Copies of an image that differ in bytes, but not in pixels: no cache has a result for them.

/// A format whose files can be made to differ without changing a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A `tEXt` chunk before the closing `IEND` makes a difference (PNG specification, 11.3.3.2).
    Png,
    /// A comment segment after the opening marker makes a difference (ITU T.81, B.2.4.5).
    Jpeg,
}

/// Bytes of the closing `IEND` chunk.
const IEND_BYTES: usize = 12;
/// Bytes of the opening marker of a JPEG.
const SOI_BYTES: usize = 2;

impl Format {
    /// The format of a file, if it is one of these.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] if bytes.len() > IEND_BYTES => {
                Some(Self::Png)
            }
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            _ => None,
        }
    }

    /// The file in two parts, between which a [`Mark`] belongs.
    pub(super) fn split(self, file: &[u8]) -> (&[u8], &[u8]) {
        match self {
            Self::Png => file.split_at(file.len() - IEND_BYTES),
            Self::Jpeg => file.split_at(SOI_BYTES),
        }
    }

    /// Bytes that [`Mark::write`] adds.
    pub(super) const fn mark_bytes(self) -> usize {
        match self {
            Self::Png => 4 + 4 + TEXT_BYTES + 4,
            Self::Jpeg => 2 + 2 + TEXT_BYTES,
        }
    }
}

/// Makes the copies of an image differ from each other, and from those of other runs.
#[derive(Debug)]
pub(super) struct Mark {
    run: u64,
    next: u64,
}

/// Bytes of [`Mark::text`]: a keyword of the PNG specification (11.3.3.1) and two numbers.
const TEXT_BYTES: usize = 8 + 16 + 16;

impl Mark {
    /// Marks with a random number, so that no other run has the same.
    pub(super) fn new() -> Self {
        let run = rand::random();
        Self { run, next: 0 }
    }

    /// Appends the next chunk or segment.
    pub(super) fn write(&mut self, format: Format, to: &mut Vec<u8>) {
        let text = self.text();
        match format {
            Format::Png => {
                to.extend_from_slice(&(TEXT_BYTES as u32).to_be_bytes());
                let start = to.len();
                to.extend_from_slice(b"tEXt");
                to.extend_from_slice(text.as_bytes());
                to.extend_from_slice(&crc32fast::hash(&to[start..]).to_be_bytes());
            }
            Format::Jpeg => {
                to.extend_from_slice(&[0xFF, 0xFE]);
                to.extend_from_slice(&(2 + TEXT_BYTES as u16).to_be_bytes());
                to.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn text(&mut self) -> String {
        self.next += 1;
        format!("Comment\0{:016x}{:016x}", self.run, self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &[u8] = include_bytes!("../../../models/fashion-mnist/samples/9-ankle-boot.png");

    fn marked(mark: &mut Mark) -> Vec<u8> {
        let format = Format::of(BOOT).unwrap();
        let (before, after) = format.split(BOOT);
        let mut bytes = before.to_vec();
        mark.write(format, &mut bytes);
        bytes.extend_from_slice(after);
        assert_eq!(bytes.len(), BOOT.len() + format.mark_bytes());
        bytes
    }

    #[test]
    fn every_copy_of_every_run_is_another_file() {
        let mut mark = Mark::new();
        assert_ne!(marked(&mut mark), marked(&mut mark));
        assert_ne!(marked(&mut Mark::new()), marked(&mut Mark::new()));
    }

    #[test]
    fn the_chunk_of_a_png_has_its_length_and_checksum() {
        let bytes = marked(&mut Mark::new());
        let chunk = &bytes[BOOT.len() - IEND_BYTES..bytes.len() - IEND_BYTES];
        let (length, rest) = chunk.split_first_chunk::<4>().unwrap();
        let (text, crc) = rest.split_last_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, text.len() - 4);
        assert_eq!(u32::from_be_bytes(*crc), crc32fast::hash(text));
        assert!(text.starts_with(b"tEXtComment\0"));
    }

    #[test]
    fn the_segment_of_a_jpeg_comes_after_the_opening_marker() {
        let file = [0xFF, 0xD8, 0xFF, 0xDB];
        let format = Format::of(&file).unwrap();
        assert_eq!(format.split(&file).0, [0xFF, 0xD8]);
        let mut segment = Vec::new();
        Mark::new().write(format, &mut segment);
        assert_eq!(segment[..2], [0xFF, 0xFE]);
        // The length counts itself, but not the marker.
        assert_eq!(segment[2..4], (segment.len() as u16 - 2).to_be_bytes());
        assert_eq!(segment.len(), format.mark_bytes());
    }

    #[test]
    fn other_formats_have_no_place_for_a_mark() {
        assert_eq!(Format::of(b"GIF89a"), None);
    }
}
