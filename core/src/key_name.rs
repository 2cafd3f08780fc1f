//! The name of an API key: who a job belongs to. The key itself never leaves the gateway that is shown it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A key's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit; safe in logs, labels and Redis keys.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", example = "acme"))]
pub struct KeyName(Arc<str>);

/// A text that cannot be a key's name.
#[derive(Debug, thiserror::Error)]
#[error("a key's name is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit")]
pub struct InvalidKeyName;

impl KeyName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = InvalidKeyName;

    fn from_str(text: &str) -> Result<Self, InvalidKeyName> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if starts_well && text.len() <= 64 && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidKeyName)
        }
    }
}

impl TryFrom<String> for KeyName {
    type Error = InvalidKeyName;

    fn try_from(text: String) -> Result<Self, InvalidKeyName> {
        text.parse()
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_alphabet() {
        for good in ["a", "Acme-2", "team.b_c"] {
            assert_eq!(good.parse::<KeyName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", "-a", "a b", "a:b", "a\n", "ä", long.as_str()] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad:?}");
        }
    }
}
