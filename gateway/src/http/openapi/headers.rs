//! Headers of requests and answers. Handlers name those of answers; `headers.json` says what they are, with an example.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{Header, RefOr, Required, Response};

/// Headers of answers as OpenAPI describes them, by name.
static KNOWN: LazyLock<BTreeMap<String, Header>> =
    LazyLock::new(|| serde_json::from_str(include_str!("headers.json")).unwrap_or_default());

/// Adds headers to an answer.
pub(super) fn add(response: &mut Response, names: &[&str]) {
    let headers = names
        .iter()
        .map(|name| ((*name).to_owned(), Header::default().into()));
    response.headers.extend(headers);
}

/// Adds the headers that every operation has, and says what the named ones are.
pub(super) fn complete(operation: &mut Operation) {
    let says = "Passed on to the worker and its logs; generated if absent.";
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(parameter("Request-Id", says).into());
    let described = &mut operation.responses.responses;
    if let Some(RefOr::T(found)) = described.get_mut("200")
        && found.headers.contains_key("ETag")
    {
        let mut unchanged = Response::new("It has not changed.");
        unchanged.headers = revalidated(found);
        described.insert("304".to_owned(), unchanged.into());
        let says = "The `ETag` of what the client has.";
        parameters.push(parameter("If-None-Match", says).into());
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Header
        {
            parameter.required = Required::False;
            let text = || Object::with_type(Type::String).into();
            parameter.schema.get_or_insert_with(text);
        }
    }
    let is_rate_limited = described.contains_key("429");
    for response in described.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        if is_rate_limited {
            add(response, &["RateLimit", "RateLimit-Policy"]);
        }
        if response.headers.contains_key("Location") {
            follow_job(response);
        }
        add(response, &["Request-Id", "Server-Timing"]);
        for (name, header) in &mut response.headers {
            if let (RefOr::T(header), Some(known)) = (header, KNOWN.get(name))
                && header.description.is_none()
            {
                header.description.clone_from(&known.description);
                header.example.clone_from(&known.example);
            }
        }
    }
}

pub(super) fn parameter(name: &str, says: &str) -> Parameter {
    let mut parameter = Parameter::new(name);
    parameter.parameter_in = ParameterIn::Header;
    parameter.description = Some(says.to_owned());
    parameter
}

/// The headers of a file: clients keep it, and ask whether it has changed.
fn revalidated(file: &mut Response) -> BTreeMap<String, RefOr<Header>> {
    let says = "Clients may store it, and must ask whether it has changed.";
    let mut cached = Header::default();
    cached.description = Some(says.to_owned());
    cached.example = Some("no-cache".into());
    let cache_control = file.headers.entry("Cache-Control".to_owned());
    cache_control.or_insert_with(|| cached.into());
    add(file, &["Vary"]);
    file.headers.clone()
}

/// What can be done with the job that an answer is about.
fn follow_job(response: &mut Response) {
    let links = ["showJob", "followJob", "cancelJob"].map(|operation| {
        let link = LinkBuilder::new().operation_id(operation);
        let link = link.parameter("id", "$response.body#/id").build();
        (operation.to_owned(), link.into())
    });
    response.links.extend(links);
}
