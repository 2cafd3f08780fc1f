//! The parts of a message. Integers are little-endian; texts and bodies have their length before them.

use ::bytes::{Buf as _, BufMut as _, Bytes, TryGetError};

use super::error::WireError;

/// Bytes with their length in 16 bits before them.
pub(super) fn put_short(
    out: &mut Vec<u8>,
    bytes: &[u8],
    field: &'static str,
) -> Result<(), WireError> {
    out.put_u16_le(u16::try_from(bytes.len()).map_err(|_| WireError::TooLong(field))?);
    out.put_slice(bytes);
    Ok(())
}

/// Bytes with their length in 32 bits before them.
pub(super) fn put_long(
    out: &mut Vec<u8>,
    bytes: &[u8],
    field: &'static str,
) -> Result<(), WireError> {
    out.put_u32_le(u32::try_from(bytes.len()).map_err(|_| WireError::TooLong(field))?);
    out.put_slice(bytes);
    Ok(())
}

/// The next bytes; shares the message's memory.
pub(super) fn take(message: &mut Bytes, length: usize) -> Result<Bytes, WireError> {
    if length > message.len() {
        return Err(WireError::Cut);
    }
    Ok(message.split_to(length))
}

/// What [`put_short`] wrote, as text.
pub(super) fn short_text(message: &mut Bytes, field: &'static str) -> Result<String, WireError> {
    let length = message.try_get_u16_le()?;
    text(&take(message, length.into())?, field)
}

/// What [`put_long`] wrote.
pub(super) fn long(message: &mut Bytes) -> Result<Bytes, WireError> {
    let length = message.try_get_u32_le()?;
    take(
        message,
        usize::try_from(length).map_err(|_| WireError::Cut)?,
    )
}

pub(super) fn text(bytes: &[u8], field: &'static str) -> Result<String, WireError> {
    let text = std::str::from_utf8(bytes).map_err(|_| WireError::Malformed(field))?;
    Ok(text.to_owned())
}

pub(super) fn array<const N: usize>(message: &mut Bytes) -> Result<[u8; N], WireError> {
    let mut array = [0; N];
    message.try_copy_to_slice(&mut array)?;
    Ok(array)
}

/// Nothing may be left.
pub(super) fn end(message: &Bytes) -> Result<(), WireError> {
    match message.is_empty() {
        true => Ok(()),
        false => Err(WireError::Trailing),
    }
}

impl From<TryGetError> for WireError {
    fn from(_: TryGetError) -> Self {
        Self::Cut
    }
}
