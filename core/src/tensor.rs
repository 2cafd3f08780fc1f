//! A tensor in the place of an encoded image: what clients of the Open Inference Protocol send instead of a picture.
//!
//! It travels and is cached as a job's image does; its first bytes are no image's, so neither is taken for the other.
//! What it means is settled by the job's model: exactly one image, in the model's channels, size and layout.

use bytes::{BufMut as _, BytesMut};

/// No image format begins like this.
const MAGIC: [u8; 7] = *b"\x93SELTEN";
/// Bytes before the values: the magic ones and the datatype.
pub const HEAD_BYTES: usize = MAGIC.len() + 1;

/// What a tensor's values are, by the protocol's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// Pixels from 0 to 255; they are normalised as an image's are.
    Uint8,
    /// Floats, little-endian; the model takes them as they are.
    Fp32,
}

impl Datatype {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Uint8, Self::Fp32];

    /// The protocol's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uint8 => "UINT8",
            Self::Fp32 => "FP32",
        }
    }

    /// Bytes of one value.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Uint8 => 1,
            Self::Fp32 => 4,
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Uint8 => 1,
            Self::Fp32 => 2,
        }
    }
}

/// Writes one image's values where a job's image is expected.
pub fn write(datatype: Datatype, values: &[u8], to: &mut BytesMut) {
    to.reserve(HEAD_BYTES + values.len());
    to.put_slice(&MAGIC);
    to.put_u8(datatype.tag());
    to.put_slice(values);
}

/// The values of bytes that [`write()`] wrote; `None` for anything else.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(Datatype, &[u8])> {
    let (&tag, values) = bytes.strip_prefix(&MAGIC)?.split_first()?;
    let datatype = Datatype::ALL.into_iter().find(|kind| kind.tag() == tag)?;
    Some((datatype, values))
}

/// Little-endian floats, and whether all of them are numbers.
#[must_use]
pub fn floats(values: &[u8]) -> Option<Vec<f32>> {
    let (floats, rest) = values.as_chunks::<4>();
    let floats: Vec<f32> = floats
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    (rest.is_empty() && floats.iter().all(|value| value.is_finite())).then_some(floats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        for datatype in Datatype::ALL {
            let mut bytes = BytesMut::new();
            write(datatype, &[1, 2, 3, 4], &mut bytes);
            assert_eq!(read(&bytes), Some((datatype, &[1, 2, 3, 4][..])));
            for cut in 0..HEAD_BYTES {
                assert_eq!(read(&bytes[..cut]), None);
            }
            bytes[HEAD_BYTES - 1] = 9;
            assert_eq!(read(&bytes), None);
        }
        assert_eq!(read(b"\x89PNG\r\n\x1a\n"), None);
    }

    #[test]
    fn floats_are_whole_and_finite() {
        let bytes = |value: f32| value.to_le_bytes();
        assert_eq!(floats(&bytes(-1.5)), Some(vec![-1.5]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(floats(&bytes(bad)), None);
        }
        assert_eq!(floats(&[0, 0, 0]), None);
    }
}
