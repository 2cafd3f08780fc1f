//! Jobs and reports as bytes. Knows nothing of brokers; a new layout gets a new version and the old one stays readable.
//!
//! Every message begins with a version byte and two magic bytes that say what it carries, then a count:
//!
//! ```text
//! version u8 = 1 | "SJ" jobs, "SR" reports | count u16 | that many entries
//! ```
//! Numbers are little-endian, texts and images are preceded by their length. Nothing is reserved ahead of what has
//! really arrived, so a lying length costs nothing.

mod bytes;
mod error;
mod jobs;
mod reports;
#[cfg(test)]
mod tests;

pub use error::WireError;
pub use jobs::{decode_jobs, encode_jobs};
pub use reports::{decode_reports, encode_reports};

use ::bytes::{Buf as _, BufMut as _, Bytes};

use self::bytes::array;

/// The layout this build writes, and the newest one it reads.
const VERSION: u8 = 1;

/// Writes the head of a message.
fn write_head(out: &mut Vec<u8>, magic: [u8; 2], count: usize) -> Result<(), WireError> {
    let count = u16::try_from(count).map_err(|_| WireError::TooLong("count"))?;
    if count == 0 {
        return Err(WireError::Empty);
    }
    out.put_u8(VERSION);
    out.put_slice(&magic);
    out.put_u16_le(count);
    Ok(())
}

/// Reads the head of a message; the number of its entries.
fn read_head(message: &mut Bytes, magic: [u8; 2]) -> Result<usize, WireError> {
    let version = message.try_get_u8()?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    if array(message)? != magic {
        return Err(WireError::Kind);
    }
    match message.try_get_u16_le()? {
        0 => Err(WireError::Empty),
        count => Ok(usize::from(count)),
    }
}
