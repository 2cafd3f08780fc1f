//! Errors an operation can answer: from codes, which know their statuses, to described answers.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::path::Operation as Described;
use utoipa::openapi::{Ref, RefOr, Response};

use super::content::content;
use super::examples;
use super::headers::Header;
use crate::http::error::{Code, Problem};
use crate::http::oip::ErrorBody;

/// The form of an operation's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/problem+json`.
    Problem,
    /// That of the Open Inference Protocol.
    Inference,
}

/// Adds the answers that these codes are, to those that are described already.
pub fn problems(operation: &mut Described, form: Form, codes: &[Code]) {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        let of_status = by_status.entry(code.status().as_u16()).or_default();
        if !of_status.contains(code) {
            of_status.push(*code);
        }
    }
    for (status, codes) in by_status {
        let new = response(form, status, &codes);
        let described = &mut operation.responses.responses;
        match described.get_mut(&status.to_string()) {
            Some(RefOr::T(described)) => join(described, new),
            Some(RefOr::Ref(_)) | None => {
                described.insert(status.to_string(), new.into());
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

fn response(form: Form, status: u16, codes: &[Code]) -> Response {
    let line = |code: &Code| format!("`{}`: {}", code.as_str(), code.title());
    let lines: Vec<String> = codes.iter().map(line).collect();
    let mut response = Response::new(lines.join(". ") + ".");
    let example = |code: Code| match form {
        Form::Problem => (code.as_str(), examples::problem(code)),
        Form::Inference => (code.as_str(), json!({"error": code.title()})),
    };
    let (kind, schema) = match form {
        Form::Problem => ("application/problem+json", Problem::name()),
        Form::Inference => ("application/json", ErrorBody::name()),
    };
    let schema = Ref::from_schema_name(schema);
    let content = content(schema, codes.iter().map(|code| example(*code)));
    response.content.insert(kind.to_owned(), content.into());
    let headers: &[Header] = match status {
        401 => &[Header::WWW_AUTHENTICATE],
        429 | 503 => &[Header::RETRY_AFTER],
        409 if codes.contains(&Code::RequestInProgress) => &[Header::RETRY_AFTER],
        _ => &[],
    };
    for header in headers {
        let (name, header) = header.build();
        response.headers.insert(name, header.into());
    }
    response
}
