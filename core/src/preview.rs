//! Asks what a model is given to see, in the place of an image: the same picture, decoded and prepared, and no inference.
//!
//! Such a job travels as any other does. It ends with one value per pixel and channel, 0 to 255, row by row, channels
//! together, where others end with one score per label.

use bytes::{BufMut as _, Bytes, BytesMut};

/// No image format begins like this, and no tensor.
const MAGIC: [u8; 7] = *b"\x93SELSEE";

/// The question about one encoded image.
#[must_use]
pub fn ask(image: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(MAGIC.len() + image.len());
    bytes.put_slice(&MAGIC);
    bytes.put_slice(image);
    bytes.freeze()
}

/// The image of bytes that [`ask`] made; `None` for anything else.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(&MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{self, Datatype};

    #[test]
    fn what_is_asked_is_read_and_nothing_else_is() {
        assert_eq!(read(&ask(b"image")), Some(&b"image"[..]));
        assert_eq!(read(b"\x89PNG\r\n\x1a\n"), None);
        let mut given = BytesMut::new();
        tensor::write(Datatype::Uint8, &[1], &mut given);
        assert_eq!(read(&given), None);
        assert_eq!(tensor::read(&ask(b"image")), None);
    }
}
