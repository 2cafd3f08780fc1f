//! What each route is described with in the OpenAPI document; the handlers are beside this folder, the table above it.

pub(super) mod dead_letters;
pub(super) mod inference;
pub(super) mod jobs;
pub(super) mod predictions;
pub(super) mod request;
pub(super) mod service;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, Schema, Type};
use utoipa::openapi::{Ref, RefOr, Required};

/// A parameter of a query.
fn query(name: &str, says: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(says))
        .schema(Some(schema))
        .build()
}

/// One event of the stream.
fn event(name: &str, schema: Ref) -> Object {
    let text = || Object::builder().schema_type(Type::String);
    let data = text()
        .content_media_type("application/json")
        .content_schema(Some(schema));
    Object::builder()
        .description(Some("Each event of the stream."))
        .property("event", text().enum_values(Some([name])))
        .property("id", text().pattern(Some("^[a-z]+[.][0-9]+$")))
        .property("retry", Object::with_type(Type::Integer))
        .property("data", data)
        .required("event")
        .required("data")
        .build()
}
