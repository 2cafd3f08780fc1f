//! Checked reading of little-endian fields, and writing that can be measured before it is done.

use std::ops::Range;

use super::error::WireError;

/// Takes bytes one field at a time.
pub(super) trait Sink {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts bytes instead of keeping them, so that a buffer can be made in its exact size.
#[derive(Default)]
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// Runs a writer twice: to measure, and into one buffer of exactly that size.
pub(super) fn write_exact(
    write: impl Fn(&mut dyn Sink) -> Result<(), WireError>,
) -> Result<Vec<u8>, WireError> {
    let mut length = Length::default();
    write(&mut length)?;
    let mut buffer = Vec::with_capacity(length.0);
    write(&mut buffer)?;
    debug_assert_eq!(buffer.len(), length.0, "both passes write the same");
    Ok(buffer)
}

/// Writes bytes after their length in 16 bits.
pub(super) fn put_short(
    sink: &mut dyn Sink,
    bytes: &[u8],
    field: &'static str,
) -> Result<(), WireError> {
    let length = u16::try_from(bytes.len()).map_err(|_| WireError::TooLong(field))?;
    sink.put(&length.to_le_bytes());
    sink.put(bytes);
    Ok(())
}

/// Writes bytes after their length in 32 bits.
pub(super) fn put_long(
    sink: &mut dyn Sink,
    bytes: &[u8],
    field: &'static str,
) -> Result<(), WireError> {
    let length = u32::try_from(bytes.len()).map_err(|_| WireError::TooLong(field))?;
    sink.put(&length.to_le_bytes());
    sink.put(bytes);
    Ok(())
}

/// Reads fields from the front; every read past the end is [`WireError::Cut`].
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes not read yet.
    pub(super) const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Where the next `length` bytes lie; steps over them.
    pub(super) fn range(&mut self, length: usize) -> Result<Range<usize>, WireError> {
        if length > self.remaining() {
            return Err(WireError::Cut);
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let range = self.range(length)?;
        Ok(&self.bytes[range])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let slice = self.slice(N)?;
        slice.try_into().map_err(|_| WireError::Cut)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 32-bit length, as a `usize`; not yet checked against what is left.
    pub(super) fn long_length(&mut self) -> Result<usize, WireError> {
        usize::try_from(self.u32()?).map_err(|_| WireError::Cut)
    }

    pub(super) fn short_text(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        let length = usize::from(self.u16()?);
        let bytes = self.slice(length)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::Malformed(field))
    }

    /// Refuses bytes that nobody has read.
    pub(super) const fn end(&self) -> Result<(), WireError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(WireError::Trailing)
        }
    }
}
