//! Errors an operation can answer: from codes, which know their statuses, to described answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::example::Example;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response};
use utoipa::{IntoResponses, ToSchema};

use super::headers;
use crate::http::error::{ApiError, Code, Problem};
use crate::http::oip::ErrorBody;

/// The form of an operation's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/problem+json`.
    Problem,
    /// That of the Open Inference Protocol.
    Inference,
}

/// The errors of an operation, for `responses(…)`. The codes are a [`set`].
#[derive(Debug)]
pub struct Errors<const CODES: u64>;

impl<const CODES: u64> IntoResponses for Errors<CODES> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(Form::Problem, CODES)
    }
}

/// The same for an operation of the Open Inference Protocol.
#[derive(Debug)]
pub struct InferenceErrors<const CODES: u64>;

impl<const CODES: u64> IntoResponses for InferenceErrors<CODES> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(Form::Inference, CODES)
    }
}

/// A set of codes as a number, because only numbers can be parameters of types: one bit per code.
#[must_use]
pub const fn set(mut codes: &[Code]) -> u64 {
    let mut set = 0;
    while let [code, rest @ ..] = codes {
        set |= 1 << *code as u64;
        codes = rest;
    }
    set
}

/// Adds the answers that these codes are to those that are described already.
pub(super) fn add(operation: &mut Operation, form: Form, codes: u64) {
    let described = &mut operation.responses.responses;
    for (status, new) in responses(form, codes) {
        match (described.get_mut(&status), new) {
            (Some(RefOr::T(old)), RefOr::T(new)) => join(old, new),
            (_, new) => {
                described.insert(status, new);
            }
        }
    }
}

/// One answer of what are two descriptions of it.
fn join(described: &mut Response, new: Response) {
    described.description = format!("{} {}", described.description, new.description);
    described.headers.extend(new.headers);
    for (kind, content) in new.content {
        match (described.content.get_mut(&kind), content) {
            (Some(RefOr::T(old)), RefOr::T(new)) => old.examples.extend(new.examples),
            (_, content) => {
                described.content.insert(kind, content);
            }
        }
    }
}

fn responses(form: Form, set_of_codes: u64) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in Code::ALL.iter().copied() {
        if set_of_codes & set(&[code]) != 0 {
            by_status
                .entry(code.status().as_u16())
                .or_default()
                .push(code);
        }
    }
    let described = |(status, codes): (u16, Vec<Code>)| {
        (status.to_string(), response(form, status, &codes).into())
    };
    by_status.into_iter().map(described).collect()
}

fn response(form: Form, status: u16, codes: &[Code]) -> Response {
    let line = |code: &Code| format!("`{}`: {}", code.as_str(), code.title());
    let lines: Vec<String> = codes.iter().map(line).collect();
    let mut response = Response::new(lines.join(". ") + ".");
    let (kind, schema) = match form {
        Form::Problem => ("application/problem+json", Problem::name()),
        Form::Inference => ("application/json", ErrorBody::name()),
    };
    let example = |code: &Code| {
        let value = example(form, *code);
        (code.as_str(), Example::builder().value(Some(value)))
    };
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .examples_from_iter(codes.iter().map(example));
    response
        .content
        .insert(kind.to_owned(), content.build().into());
    headers::add(
        &mut response,
        match status {
            401 => &["WWW-Authenticate"],
            429 | 503 => &["Retry-After"],
            409 if codes.contains(&Code::RequestInProgress) => &["Retry-After"],
            _ => &[],
        },
    );
    response
}

fn example(form: Form, code: Code) -> Value {
    let mut error = ApiError::new(code, code.title());
    if code == Code::RequestInProgress || matches!(code.status().as_u16(), 429 | 503) {
        error = error.retry_after(std::time::Duration::from_millis(1300));
    }
    match form {
        Form::Problem => serde_json::to_value(error.problem()).unwrap_or_default(),
        Form::Inference => json!({"error": code.title()}),
    }
}
