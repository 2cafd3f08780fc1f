//! The content of a described body.

use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::schema::{Object, Schema, Type};
use utoipa::openapi::{Content, ContentBuilder, RefOr};

/// Content of that schema, with named examples.
pub fn content<'a>(
    schema: impl Into<RefOr<Schema>>,
    examples: impl IntoIterator<Item = (&'a str, Value)>,
) -> Content {
    let examples = examples.into_iter().map(|(name, value)| {
        let example = ExampleBuilder::new().value(Some(value)).build();
        (name.to_owned(), example)
    });
    ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples)
        .build()
}

/// Content that is text of no further description.
#[must_use]
pub fn text() -> Content {
    content(Object::with_type(Type::String), [])
}
