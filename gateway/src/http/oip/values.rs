//! A tensor's values as JSON has them, flat or nested, to the bytes the binary extension would have.

use std::fmt;

use selvage_core::tensor::Datatype;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

/// Reads exactly `count` numbers. `count` is a claim: nothing is reserved for it.
///
/// # Errors
/// A sentence about the first value that is wrong, or about their number.
pub(super) fn read(json: &str, datatype: Datatype, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let values = Values {
        datatype,
        most: count,
        bytes: &mut bytes,
        nested: false,
    };
    values
        .deserialize(&mut deserializer)
        .map_err(|error| error.to_string().chars().take(200).collect::<String>())?;
    let found = bytes.len() / datatype.size();
    if found == count {
        Ok(bytes)
    } else {
        Err(format!("has {found} values, its shape says {count}"))
    }
}

struct Values<'a> {
    datatype: Datatype,
    most: usize,
    bytes: &'a mut Vec<u8>,
    /// Inside a list, where a number may stand.
    nested: bool,
}

impl Values<'_> {
    fn push<E: Error>(self, value: Option<&[u8]>) -> Result<(), E> {
        if !self.nested {
            return Err(E::custom("must be a list"));
        }
        let Some(value) = value else {
            let kind = match self.datatype {
                Datatype::Uint8 => "must have whole numbers from 0 to 255",
                Datatype::Fp32 => "must have numbers that FP32 can hold",
            };
            return Err(E::custom(kind));
        };
        if self.bytes.len() / self.datatype.size() >= self.most {
            return Err(E::custom("has more values than its shape says"));
        }
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn push_float<E: Error>(self, value: f64) -> Result<(), E> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to FP32 is what is asked for"
        )]
        let float = value as f32;
        let fits = self.datatype == Datatype::Fp32 && float.is_finite();
        self.push(fits.then_some(&float.to_le_bytes()))
    }
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or lists of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            let next = Values {
                nested: true,
                bytes: &mut *self.bytes,
                ..self
            };
            if list.next_element_seed(next)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.datatype {
            Datatype::Uint8 => {
                let byte = u8::try_from(value).ok();
                self.push(byte.map(|byte| [byte]).as_ref().map(|byte| &byte[..]))
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "rounding to FP32 is what is asked for"
            )]
            Datatype::Fp32 => self.push_float(value as f64),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "rounding to FP32 is what is asked for"
        )]
        self.push_float(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push_float(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_and_nested_lists_are_the_same() {
        for json in ["[0,255,7,8]", "[[0,255],[7,8]]", "[[[0],[255]],7,8]"] {
            assert_eq!(
                read(json, Datatype::Uint8, 4),
                Ok(vec![0, 255, 7, 8]),
                "{json}"
            );
        }
        let floats = read("[1, -2, 0.5, 1e3]", Datatype::Fp32, 4).unwrap();
        let expected: Vec<u8> = [1.0_f32, -2.0, 0.5, 1000.0]
            .iter()
            .flat_map(|f| f.to_le_bytes())
            .collect();
        assert_eq!(floats, expected);
    }

    #[test]
    fn what_is_no_value_or_too_many_is_refused() {
        for json in [
            "[256]", "[-1]", "[1.5]", "[true]", "[null]", "[\"1\"]", "[{}]", "1", "[1,2]", "[]",
            "[[]]", "[1",
        ] {
            assert!(read(json, Datatype::Uint8, 1).is_err(), "{json}");
        }
        for json in [
            "[1e39]",
            "[-1e39]",
            "[1e999]",
            "[NaN]",
            "[Infinity]",
            "[true]",
            "7",
        ] {
            assert!(read(json, Datatype::Fp32, 1).is_err(), "{json}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep, Datatype::Fp32, 1).is_err());
    }
}
