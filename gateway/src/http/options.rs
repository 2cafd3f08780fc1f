//! What a request may ask for besides its image: names, ranges and defaults, the same in JSON, multipart and query.
//!
//! Unknown names and wrong values are refused here, each with a pointer to its place.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use selvage_core::job::CachePolicy;
use selvage_core::job_state::JobState;
use selvage_core::webhook::Webhook;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{PartialSchema as _, ToSchema};

use crate::http::error::ApiError;

/// Labels an answer lists unless the request says otherwise.
const DEFAULT_TOP_K: u16 = 3;
/// Most labels an answer can be asked to list.
const MAX_TOP_K: u16 = 1000;
/// Longest metadata, in bytes as they were sent.
const MAX_METADATA_BYTES: usize = 1024;
/// Longest span that is distinguished; configured maxima are far below.
const MAX_SPAN_S: f64 = 86_400.0;

const WRONG_WAIT: &str = "must be seconds, 0 or more";

/// The states a webhook can tell of.
const ENDS: [JobState; 4] = [
    JobState::Succeeded,
    JobState::Failed,
    JobState::Canceled,
    JobState::Expired,
];

/// The options of a request.
#[derive(Clone, Debug, PartialEq, ToSchema)]
pub struct Options {
    /// The model's name; the default model if it is left out.
    #[schema(value_type = String)]
    pub model: Option<String>,
    /// The version that the client relies on; 404 if the model has another one.
    #[schema(value_type = String)]
    pub version: Option<String>,
    /// Labels in the answer.
    #[schema(minimum = 1, maximum = 1000, default = 3)]
    pub top_k: u16,
    /// The job's lifetime from its acceptance; the server's maximum may be shorter.
    #[schema(rename = "timeout_ms", value_type = usize, minimum = 1)]
    pub timeout: Option<Duration>,
    /// `wait` of the query.
    #[schema(ignore)]
    pub wait: Option<Duration>,
    /// The client's own data, at most 1 KiB; returned unchanged.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Where the job's webhook is delivered.
    #[schema(schema_with = WebhookOption::schema)]
    pub webhook: Option<Webhook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: None,
            version: None,
            top_k: DEFAULT_TOP_K,
            timeout: None,
            wait: None,
            metadata: Map::new(),
            webhook: None,
        }
    }
}

/// Where an option was given; it decides the form of the pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterSource {
    /// A field of the body.
    Body,
    /// A query parameter.
    Query,
}

/// A value as it was given.
#[derive(Clone, Copy, Debug)]
pub enum ParameterValue<'a> {
    /// Text of a query parameter or a multipart field.
    Text(&'a str),
    /// A JSON value, not yet read.
    Json(&'a str),
}

impl ParameterValue<'_> {
    fn string(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.to_owned()),
            Self::Json(raw) => serde_json::from_str(raw).ok(),
        }
    }

    /// A whole number, however JSON may write it: `20.0` and `2e1` are 20.
    fn integer(self) -> Option<u64> {
        let (Self::Text(text) | Self::Json(text)) = self;
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // More digits than fit are a very large number, which every range has its own word about.
            return Some(text.parse().unwrap_or(u64::MAX));
        }
        let number: f64 = serde_json::from_str(text).ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is whole and not negative; what is too large is the largest there is"
        )]
        (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
    }

    fn object(self) -> Option<Map<String, Value>> {
        let (Self::Text(text) | Self::Json(text)) = self;
        serde_json::from_str(text).ok()
    }

    const fn len(self) -> usize {
        let (Self::Text(text) | Self::Json(text)) = self;
        text.len()
    }
}

/// Gathers options from the places of one request.
#[derive(Debug, Default)]
pub struct Reader {
    options: Options,
    seen: Vec<&'static str>,
}

impl Reader {
    /// Takes one option.
    ///
    /// # Errors
    /// `invalid_option` for an unknown name, a wrong value, or one that was given before.
    pub fn take(
        &mut self,
        source: ParameterSource,
        name: &str,
        given: ParameterValue<'_>,
    ) -> Result<(), ApiError> {
        let wrong = |detail: &'static str| ApiError::option(pointer(source, name), detail);
        let known = match name {
            "model" => "model",
            "version" => "version",
            "top_k" => "top_k",
            "timeout_ms" => "timeout_ms",
            "metadata" => "metadata",
            "wait" if matches!(given, ParameterValue::Text(_)) => "wait",
            "webhook" if matches!(given, ParameterValue::Json(_)) => "webhook",
            "webhook" => return Err(wrong("a webhook can only be given in a JSON body")),
            _ => return Err(wrong("there is no such option")),
        };
        if self.seen.contains(&known) {
            return Err(wrong("was given twice"));
        }
        self.seen.push(known);
        let options = &mut self.options;
        match known {
            "model" => options.model = Some(given.string().ok_or_else(|| wrong("must be text"))?),
            "version" => {
                options.version = Some(given.string().ok_or_else(|| wrong("must be text"))?);
            }
            "top_k" => {
                options.top_k = top_k(given).ok_or_else(|| wrong("must be 1 to 1000"))?;
            }
            "timeout_ms" => {
                let millis = given.integer().filter(|millis| *millis > 0);
                let millis = millis.ok_or_else(|| wrong("must be a positive number of ms"))?;
                options.timeout = Some(Duration::from_millis(millis));
            }
            "wait" => {
                let wait = match given {
                    ParameterValue::Text(text) => seconds(text),
                    ParameterValue::Json(_) => None,
                };
                options.wait = Some(wait.ok_or_else(|| wrong(WRONG_WAIT))?);
            }
            "webhook" => options.webhook = Some(webhook(given).map_err(&wrong)?),
            _ => {
                let small = given.len() <= MAX_METADATA_BYTES;
                let object = small.then(|| given.object()).flatten();
                options.metadata =
                    object.ok_or_else(|| wrong("must be a JSON object of at most 1 KiB"))?;
            }
        }
        Ok(())
    }

    /// Takes every parameter of a query.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn take_query(&mut self, query: &Query) -> Result<(), ApiError> {
        for (name, value) in &query.0 {
            self.take(ParameterSource::Query, name, ParameterValue::Text(value))?;
        }
        Ok(())
    }

    /// All that was taken; defaults for the rest.
    #[must_use]
    pub fn finish(self) -> Options {
        self.options
    }
}

/// Where the job's webhook is delivered; for all terminal states if `events` is left out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookOption {
    #[schema(format = "uri")]
    url: String,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 4, pattern = "^(succeeded|failed|canceled|expired)$")]
    events: Option<Vec<JobState>>,
}

fn webhook(given: ParameterValue<'_>) -> Result<Webhook, &'static str> {
    let (ParameterValue::Text(text) | ParameterValue::Json(text)) = given;
    let WebhookOption { url, events } = serde_json::from_str(text)
        .map_err(|_| "must be an object of `url` and, if wanted, `events`")?;
    let mut events = events.unwrap_or_else(|| ENDS.to_vec());
    events.dedup();
    if events.is_empty()
        || events.len() > ENDS.len()
        || !events.iter().all(|state| state.is_terminal())
    {
        return Err("`events` are some of succeeded, failed, canceled, expired");
    }
    Ok(Webhook { url, events })
}

fn top_k(given: ParameterValue<'_>) -> Option<u16> {
    let number = u16::try_from(given.integer()?).ok()?;
    (1..=MAX_TOP_K).contains(&number).then_some(number)
}

/// Seconds as a query has them, fractions allowed.
fn seconds(text: &str) -> Option<Duration> {
    // As JSON writes numbers: no words, so no NaN, but an infinity there can be.
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let seconds: f64 = plain.then(|| text.parse().ok()).flatten()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_SPAN_S)))
}

/// A place in a request, for `errors[].pointer`: `#/name` in a body (RFC 6901), `?name` in a query.
fn pointer(source: ParameterSource, name: &str) -> String {
    let shown: String = name.chars().take(64).collect();
    match source {
        ParameterSource::Body => format!("#/{}", shown.replace('~', "~0").replace('/', "~1")),
        ParameterSource::Query => format!("?{shown}"),
    }
}

/// A query's parameters in their order, percent-decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    ///
    /// # Errors
    /// `bad_request` where it cannot be read.
    pub fn of(uri: &axum::http::Uri) -> Result<Self, ApiError> {
        if uri.query().is_none_or(str::is_empty) {
            return Ok(Self::default());
        }
        let unreadable = |_| {
            ApiError::new(
                crate::http::error::Code::BadRequest,
                "the query is malformed",
            )
        };
        let axum::extract::Query(pairs) =
            axum::extract::Query::try_from_uri(uri).map_err(unreadable)?;
        Ok(Self(pairs))
    }

    /// The query, if it has no parameters but these, each at most once.
    ///
    /// # Errors
    /// `invalid_option` for any other parameter, or one that was given twice.
    pub fn only(self, names: &[&str]) -> Result<Self, ApiError> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            let wrong = |detail: &'static str| {
                ApiError::option(pointer(ParameterSource::Query, name), detail)
            };
            if !names.contains(&name.as_str()) {
                return Err(wrong("there is no such option here"));
            }
            if self.0[..index].iter().any(|(other, _)| other == name) {
                return Err(wrong("was given twice"));
            }
        }
        Ok(self)
    }

    /// Nothing, for endpoints that know no parameter.
    ///
    /// # Errors
    /// `invalid_option` for the first parameter.
    pub fn nothing(self) -> Result<(), ApiError> {
        self.only(&[]).map(drop)
    }

    /// The value of a parameter, if it is given.
    ///
    /// # Errors
    /// `invalid_option` with this detail for a value that cannot be read.
    pub fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Result<Option<T>, ApiError> {
        let given = self.0.iter().find(|(known, _)| known == name);
        let value = given.map(|(_, text)| read(text).ok_or_else(|| detail.into()));
        let value = value.transpose();
        value.map_err(|detail| ApiError::option(pointer(ParameterSource::Query, name), detail))
    }

    /// A whole number within its bounds.
    ///
    /// # Errors
    /// `invalid_option` for anything else.
    pub fn number<N: TryFrom<u64> + PartialOrd + Display>(
        &self,
        name: &str,
        bounds: RangeInclusive<N>,
    ) -> Result<Option<N>, ApiError> {
        let detail = format!("must be {} to {}", bounds.start(), bounds.end());
        let read = |text: &str| {
            let number = N::try_from(ParameterValue::Text(text).integer()?).ok()?;
            bounds.contains(&number).then_some(number)
        };
        self.read(name, read, detail)
    }

    /// The `wait` of a query that may have nothing else.
    ///
    /// # Errors
    /// `invalid_option` for any other parameter, or a wrong wait.
    pub fn only_wait(self) -> Result<Option<Duration>, ApiError> {
        self.only(&["wait"])?.read("wait", seconds, WRONG_WAIT)
    }
}

/// How the request may use the cache: `Cache-Control: no-cache` computes again, `no-store` leaves the cache alone.
#[must_use]
pub fn cache_policy(headers: &HeaderMap) -> CachePolicy {
    let mut policy = CachePolicy::default();
    let values = headers.get_all(CACHE_CONTROL).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    for directive in texts.flat_map(|text| text.split(',')).map(str::trim) {
        let no_store = directive.eq_ignore_ascii_case("no-store");
        if no_store || directive.eq_ignore_ascii_case("no-cache") {
            policy.read = false;
        }
        if no_store {
            policy.write = false;
        }
    }
    policy
}

#[cfg(test)]
mod tests;
