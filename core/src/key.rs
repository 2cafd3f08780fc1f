//! Digests, and the key under which an answer is the same answer.
//!
//! Whatever changes a prediction belongs into [`PredictionKey`]; whatever only changes its presentation does not.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest; displayed and serialised as `sha256:<64 hex digits>`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^sha256:[0-9a-f]{64}$", example = "sha256:9f2c0e1d7a55b3c4d6e8f90123456789abcdef0123456789abcdef0123456789"))]
pub struct Digest([u8; 32]);

/// A text that is not `sha256:` followed by 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("not a digest of the form sha256:<64 hex digits>")]
pub struct InvalidDigest;

impl Digest {
    /// Digests bytes that are already in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// One digest of several texts; their lengths keep them apart.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut all = Vec::new();
        for part in parts {
            all.extend_from_slice(&part.len().to_be_bytes());
            all.extend_from_slice(part);
        }
        Self::of(&all)
    }

    /// Digests a stream to its end.
    ///
    /// # Errors
    /// Whatever reading returns.
    pub fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(Self(hasher.finalize().into())),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// The digest's 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 hex digits alone, as keys and queue arguments use them.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.hex().as_str().to_owned()
    }

    /// The digits on the stack: digests are written into every answer.
    fn hex(&self) -> Hex {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).expect("32 bytes are 64 digits");
        Hex(digits)
    }
}

/// 64 hex digits.
struct Hex([u8; 64]);

impl Hex {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        f.write_str(self.hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let digits = text.strip_prefix("sha256:").ok_or(InvalidDigest)?;
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidDigest)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// All that changes an answer: the model's file, how images are prepared for it, and the image's bytes.
///
/// Two requests with the same key have the same scores, on any machine, at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PredictionKey {
    /// Digest of the model file.
    pub model: Digest,
    /// Preparation: see [`crate::catalog::Model::preprocessing`].
    #[serde(rename = "prep")]
    pub preprocessing: u64,
    /// Digest of the image's bytes as they were sent; of these and the API key's name where each key has its own cache.
    /// Only gateways know which, so nothing else may compare it with the bytes.
    pub image: Digest,
}

impl fmt::Display for PredictionKey {
    /// `<model hex>:<preprocessing hex>:<image hex>`: the tail of the key in Redis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{:016x}:{}",
            self.model.hex().as_str(),
            self.preprocessing,
            self.image.hex().as_str()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_a_known_text_matches_fips_180_4() {
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), expected);
        assert_eq!(
            Digest::of_reader(&b"abc"[..]).unwrap().to_string(),
            expected
        );
        assert_eq!(expected.parse::<Digest>().unwrap(), Digest::of(b"abc"));
    }

    #[test]
    fn parts_are_kept_apart() {
        let of = Digest::of_parts;
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    }

    #[test]
    fn texts_that_are_no_digest_are_refused() {
        for text in ["", "sha256:", "sha256:zz", "ba7816bf", "md5:ba7816bf"] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_part_of_the_key_changes_its_text() {
        let key = PredictionKey {
            model: Digest::of(b"m"),
            preprocessing: 1,
            image: Digest::of(b"i"),
        };
        let others = [
            PredictionKey {
                model: Digest::of(b"n"),
                ..key
            },
            PredictionKey {
                preprocessing: 2,
                ..key
            },
            PredictionKey {
                image: Digest::of(b"j"),
                ..key
            },
        ];
        assert!(
            others
                .iter()
                .all(|other| other.to_string() != key.to_string())
        );
    }
}
