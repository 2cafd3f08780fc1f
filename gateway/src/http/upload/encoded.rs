//! Base64 as people send it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::http::error::{ApiError, Code};

/// Padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes base64 in the standard or the URL alphabet (RFC 4648), with or without padding and line breaks.
///
/// # Errors
/// `bad_base64`.
pub(super) fn from_base64(text: &[u8]) -> Result<Bytes, ApiError> {
    let plain = |byte: &u8| !matches!(byte, b'-' | b'_' | b'\r' | b'\n');
    let text = if text.iter().all(plain) {
        Cow::Borrowed(text)
    } else {
        let standard = |byte: &u8| match byte {
            b'-' => Some(b'+'),
            b'_' => Some(b'/'),
            b'\r' | b'\n' => None,
            other => Some(*other),
        };
        Cow::Owned(text.iter().filter_map(standard).collect())
    };
    let decoded = BASE64.decode(&*text);
    let failed = |error| ApiError::new(Code::BadBase64, "the image is not base64").because(error);
    Ok(decoded.map_err(failed)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_padding_and_line_breaks_are_understood() {
        for text in [
            "+/+/aQ==",
            "-_-_aQ==",
            "-_-_aQ",
            "+/+/\r\naQ==\r\n",
            "\n+/-_\naQ",
        ] {
            let decoded = from_base64(text.as_bytes()).unwrap();
            assert_eq!(&*decoded, b"\xFB\xFF\xBFi", "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["aGVs bG8=", "aGk=aGk=", "a*b=", "a", "aGk\t", "data:aGk="] {
            let error = from_base64(text.as_bytes()).unwrap_err();
            assert_eq!(error.code(), Code::BadBase64, "{text:?}");
        }
    }
}
