//! The `Idempotency-Key` request header: what makes a repeated request the same job. The store keeps which job a key has.

use axum::http::{HeaderMap, HeaderName};
use selvage_core::job::Idempotency;
use selvage_core::key::Digest;

use crate::http::error::{ApiError, Code};

/// `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key.
const MAX_KEY_BYTES: usize = 255;

/// A client's key, within the scope it was given in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(Digest);

impl IdempotencyKey {
    /// The key of a request of `caller`; `None` where it has none.
    ///
    /// # Errors
    /// `bad_request` for a key that is empty, longer than 255 bytes, not printable, or given twice.
    pub fn of(headers: &HeaderMap, caller: &str) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let text = value.to_str().ok().and_then(key);
        let (Some(key), None) = (text, values.next()) else {
            let detail =
                "Idempotency-Key: give one text of 1 to 255 printable characters, quoted or not";
            return Err(ApiError::new(Code::BadRequest, detail));
        };
        Ok(Some(Self(Digest::of_parts(&[
            caller.as_bytes(),
            key.as_bytes(),
        ]))))
    }

    /// The key of the job at that place of the request, made by a request with that fingerprint.
    #[must_use]
    pub fn idempotency(&self, index: usize, fingerprint: Digest) -> Idempotency {
        let index = index.to_be_bytes();
        Idempotency {
            key: Digest::of_parts(&[self.0.as_bytes(), &index]),
            fingerprint,
        }
    }
}

/// A structured field's string (RFC 8941 §3.3.3) without its quotes, or a bare token.
fn key(value: &str) -> Option<String> {
    let value = value.trim();
    let key = match value.strip_prefix('"') {
        None => value.to_owned(),
        Some(rest) => unquoted(rest.strip_suffix('"')?)?,
    };
    let printable = key.bytes().all(|b| (b' '..=b'~').contains(&b));
    (printable && (1..=MAX_KEY_BYTES).contains(&key.len())).then_some(key)
}

fn unquoted(text: &str) -> Option<String> {
    let mut key = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => key.push(
                characters
                    .next()
                    .filter(|next| matches!(next, '"' | '\\'))?,
            ),
            other => key.push(other),
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<IdempotencyKey>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, value[..].try_into().unwrap());
        }
        IdempotencyKey::of(&headers, "ann")
    }

    #[test]
    fn a_key_is_a_string_or_a_token() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[b"\"a b\""]).unwrap(), read(&[b"a b"]).unwrap());
        assert_eq!(read(&[b"\"a\\\"b\""]).unwrap(), read(&[b"a\"b"]).unwrap());
        assert_ne!(read(&[b"a"]).unwrap(), read(&[b"b"]).unwrap());
        let long = [b'x'; 255];
        assert!(read(&[&long]).unwrap().is_some());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = [b'x'; 256];
        let bad: [&[&[u8]]; 9] = [
            &[b""],
            &[b"\"\""],
            &[b"\"a"],
            &[b"\"a\"b\""],
            &[b"\"a\\n\""],
            &[b"a\tb"],
            &[b"\xc3\xa4"],
            &[&long],
            &[b"a", b"a"],
        ];
        for values in bad {
            assert_eq!(
                read(values).unwrap_err().code(),
                Code::BadRequest,
                "{values:?}"
            );
        }
    }

    #[test]
    fn keys_are_apart_by_caller_and_place() {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, "k".parse().unwrap())]);
        let of = |caller| IdempotencyKey::of(&headers, caller).unwrap().unwrap();
        assert_ne!(of("ann"), of("bob"));
        let (first, second) = (
            of("ann").idempotency(0, Digest::of(b"r")),
            of("ann").idempotency(1, Digest::of(b"r")),
        );
        assert!(first.key != second.key && first.fingerprint == second.fingerprint);
    }
}
