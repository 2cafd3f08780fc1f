//! A job's record as a Redis hash: reads what the scripts write (`scripts/prelude.lua` names the fields).

use std::collections::HashMap;
use std::str::FromStr;

use redis::{RedisError, Value};
use serde::Deserialize as _;
use serde::de::{DeserializeOwned, IntoDeserializer as _};

use crate::clock::UnixMillis;
use crate::job_state::JobState;
use crate::output::Output;
use crate::store::{End, Record, Seed};

/// The error code of a command on a key that holds another type.
pub(super) const WRONG_TYPE: &str = "WRONGTYPE";

/// What is wrong with a hash that should be a record.
#[derive(Debug, thiserror::Error)]
#[error("its field {field} is missing or wrong")]
pub(super) struct Damage {
    field: &'static str,
    #[source]
    source: Option<serde_json::Error>,
}

impl Damage {
    /// That field is not what it should be.
    pub(super) const fn of(field: &'static str) -> Self {
        Self {
            field,
            source: None,
        }
    }
}

/// Why a reply is no record.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The server answered with an error.
    Refused(RedisError),
    /// The hash is not a record.
    Damaged(Damage),
}

impl Unreadable {
    /// Whether other records may be readable all the same.
    pub(super) fn is_about_the_record(&self) -> bool {
        match self {
            Self::Refused(error) => error.code() == Some(WRONG_TYPE),
            Self::Damaged(_) => true,
        }
    }
}

/// The fields of one hash.
struct Fields(HashMap<String, String>);

impl Fields {
    fn text(&self, field: &'static str) -> Result<&str, Damage> {
        let text = self.0.get(field).map(String::as_str);
        text.ok_or(Damage::of(field))
    }

    fn number<N: FromStr>(&self, field: &'static str) -> Result<N, Damage> {
        let number = self.text(field)?.parse();
        number.map_err(|_| Damage::of(field))
    }

    fn json<T: DeserializeOwned>(&self, field: &'static str) -> Result<T, Damage> {
        serde_json::from_str(self.text(field)?).map_err(|source| Damage {
            field,
            source: Some(source),
        })
    }

    /// The result. Records of an earlier version do not name the task, which was to classify.
    fn output(&self) -> Result<Output, Damage> {
        let mut json: serde_json::Value = self.json("answer")?;
        if let Some(fields) = json.as_object_mut() {
            fields.entry("task").or_insert("classify".into());
        }
        Output::deserialize(json).map_err(|source| Damage {
            field: "answer",
            source: Some(source),
        })
    }

    /// What `read` reads, where there is such a field.
    fn optional<T>(
        &self,
        field: &'static str,
        read: impl FnOnce(&Self, &'static str) -> Result<T, Damage>,
    ) -> Result<Option<T>, Damage> {
        let is_there = self.0.contains_key(field);
        is_there.then(|| read(self, field)).transpose()
    }
}

/// Reads the reply of `HGETALL`; `None` where there is no such hash.
pub(super) fn read(reply: Value) -> Result<Option<Record>, Unreadable> {
    let reply = reply.extract_error().map_err(Unreadable::Refused)?;
    let fields: HashMap<String, String> =
        redis::from_redis_value(reply).map_err(|error| Unreadable::Refused(error.into()))?;
    if fields.is_empty() {
        return Ok(None);
    }
    record(&Fields(fields))
        .map(Some)
        .map_err(Unreadable::Damaged)
}

/// The state of that name.
pub(super) fn state(name: &str) -> Result<JobState, Damage> {
    let state = JobState::deserialize(name.into_deserializer());
    state.map_err(|_: serde::de::value::Error| Damage::of("state"))
}

fn record(fields: &Fields) -> Result<Record, Damage> {
    let state = state(fields.text("state")?)?;
    let (succeeded, failed) = (state == JobState::Succeeded, state == JobState::Failed);
    Ok(Record {
        seed: fields.json::<Seed>("seed")?,
        number: fields.optional("number", Fields::number)?,
        state,
        attempts: fields.number("attempts")?,
        started_at: fields.optional("started", Fields::number)?.map(UnixMillis),
        finished_at: fields.optional("finished", Fields::number)?.map(UnixMillis),
        expires_at: UnixMillis(fields.number("expires")?),
        output: succeeded.then(|| fields.output()).transpose()?,
        failure: failed.then(|| fields.json("answer")).transpose()?,
        cost: fields.optional("cost", Fields::json)?.unwrap_or_default(),
        cached: fields.optional("cached", Fields::number::<u8>)? == Some(1),
        delivery: fields.optional("delivery", Fields::json)?,
    })
}

/// What an end keeps besides its state, as JSON; empty where that is nothing.
pub(super) fn answer(end: &End) -> serde_json::Result<String> {
    match end {
        End::Succeeded(output) => serde_json::to_string(output),
        End::Failed(failure) => serde_json::to_string(failure),
        End::Canceled | End::Expired => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Idempotency;
    use crate::key::Digest;
    use crate::store::suite::{answer as output, assert_sound, failure, seed};

    fn hash(fields: &[(&str, &str)]) -> Value {
        let bulk = |text: &str| Value::BulkString(text.into());
        let pairs = fields.iter().map(|(name, value)| (bulk(name), bulk(value)));
        Value::Map(pairs.collect())
    }

    fn fields<'a>(seed: &'a str, answer: &'a str) -> Vec<(&'static str, &'a str)> {
        vec![
            ("seed", seed),
            ("deadline", "5"),
            ("state", "succeeded"),
            ("attempts", "1"),
            ("number", "7"),
            ("started", "3"),
            ("finished", "4"),
            ("expires", "9"),
            ("cached", "1"),
            (
                "cost",
                r#"{"waited_us":1,"decode_us":2,"inference_us":3,"batch_size":4}"#,
            ),
            ("answer", answer),
        ]
    }

    #[test]
    fn a_whole_record_is_read_and_no_hash_is_none() {
        let (seed, answer) = (seed(), answer(&End::Succeeded(output())).unwrap());
        let text = serde_json::to_string(&seed).unwrap();
        let record = read(hash(&fields(&text, &answer))).unwrap().unwrap();
        assert_sound(&record);
        assert_eq!((record.seed, record.output), (seed, Some(output())));
        assert_eq!(
            (record.number, record.expires_at, record.cost.batch_size),
            (Some(7), UnixMillis(9), 4)
        );
        assert!(read(Value::Map(Vec::new())).unwrap().is_none());
    }

    #[test]
    fn a_result_of_an_earlier_version_is_a_classification() {
        let text = serde_json::to_string(&seed()).unwrap();
        let answer = answer(&End::Succeeded(output())).unwrap();
        let earlier = answer.replacen(r#""task":"classify","#, "", 1);
        assert_ne!(earlier, answer);
        let record = read(hash(&fields(&text, &earlier))).unwrap().unwrap();
        assert_eq!(record.output, Some(output()));
    }

    /// Programs of two versions share the records during a rolling update.
    #[test]
    fn stored_names_stay_what_they_were() {
        let mut seed = seed();
        let (key, fingerprint) = (Digest::of(b"key"), Digest::of(b"request"));
        seed.submission.idempotency = Some(Idempotency { key, fingerprint });
        let json = serde_json::to_value(&seed).unwrap();
        assert!(json["once"]["key"].is_string(), "{json}");
        assert!(json["key"]["prep"].is_u64(), "{json}");
    }

    #[test]
    fn a_damaged_record_is_an_error_that_names_the_field() {
        let text = serde_json::to_string(&seed()).unwrap();
        let good_answer = answer(&End::Succeeded(output())).unwrap();
        let good = fields(&text, &good_answer);
        let wrong_answer = answer(&End::Failed(failure())).unwrap();
        let broken = [
            ("seed", "{}"),
            ("state", "asleep"),
            ("attempts", "-1"),
            ("number", "last"),
            ("started", "yesterday"),
            ("finished", "1.5"),
            ("expires", ""),
            ("cached", "maybe"),
            ("cost", "[]"),
            ("answer", wrong_answer.as_str()),
        ];
        for (name, value) in broken {
            let mut fields = good.clone();
            fields.retain(|(field, _)| *field != name);
            fields.push((name, value));
            let Err(Unreadable::Damaged(damage)) = read(hash(&fields)) else {
                panic!("{name} was taken");
            };
            assert_eq!(damage.field, name);
        }
    }
}
