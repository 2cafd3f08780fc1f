//! How an image and what is asked about it can be sent: one list of options for queries, forms and JSON.

use serde_json::{Value, json};
use utoipa::openapi::encoding::EncodingBuilder;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{ContentBuilder, KnownFormat, ObjectBuilder, RefOr, Required};

use super::query;
use crate::http::openapi::{content, header_parameter};
use crate::http::options::{ENDS, MAX_TOP_K};
use crate::http::upload::{Count, MAX_BATCH};

/// The media types an image is usually sent as.
const IMAGES: [&str; 6] = [
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "image/bmp",
    "application/octet-stream",
];
/// One black pixel as PNG.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";

/// An option: its name, what it says, its schema.
type ParameterValue = (&'static str, &'static str, ObjectBuilder);

fn typed(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

/// What can be asked in every place.
fn options() -> [ParameterValue; 5] {
    [
        (
            "model",
            "The model's name; the default model answers where it is left out.",
            typed(Type::String),
        ),
        (
            "version",
            "The version that is relied on; another one is 404.",
            typed(Type::String),
        ),
        (
            "top_k",
            "Labels in the answer.",
            typed(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(MAX_TOP_K))
                .default(Some(json!(3))),
        ),
        (
            "timeout_ms",
            "The job's life from its acceptance; the server's maximum may be shorter.",
            typed(Type::Integer).minimum(Some(1)),
        ),
        (
            "metadata",
            "Data of the client's own, at most 1 KiB; given back as it is.",
            typed(Type::Object).additional_properties(Some(AdditionalProperties::FreeForm(true))),
        ),
    ]
}

/// The options as parameters of a query.
pub(in crate::http::routes) fn in_query() -> impl Iterator<Item = Parameter> {
    options().into_iter().map(|(name, says, schema)| {
        if name == "metadata" {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(says))
                .content("application/json", content(schema, []));
            return parameter.build();
        }
        query(name, says, schema)
    })
}

/// How long to wait.
pub(in crate::http::routes) fn wait() -> Parameter {
    let seconds = typed(Type::Number).minimum(Some(0));
    query("wait", "Seconds to wait for the end, at most 60.", seconds)
}

/// Headers that every request for predictions may have.
pub(in crate::http::routes) fn headers() -> [Parameter; 4] {
    [
        ("Prefer", "`wait=N` or `respond-async` (RFC 7240); wins over `wait`."),
        (
            "Idempotency-Key",
            "Quoted or bare text of 1 to 255 printable characters: the same key with the same request is the same job.",
        ),
        ("Cache-Control", "`no-cache` computes again, `no-store` leaves the cache alone."),
        ("traceparent", "W3C trace context; carried to the worker."),
    ]
    .map(|(name, says)| header_parameter(name, says))
}

/// Every form of body that has so many images.
pub(in crate::http::routes) fn body(count: Count) -> RequestBody {
    let body = match count {
        Count::One => raw(),
        Count::Batch => required(),
    };
    body.content("multipart/form-data", form(count))
        .content("application/json", json(count))
        .build()
}

/// An image as the body, and no other form.
pub(in crate::http::routes) fn image() -> RequestBody {
    raw().build()
}

fn raw() -> RequestBodyBuilder {
    IMAGES.into_iter().fold(required(), |body, kind| {
        body.content(kind, content(binary(), []))
    })
}

fn required() -> RequestBodyBuilder {
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .description(Some(
            "What the content is, its first bytes decide, not its type.",
        ))
}

/// Bytes.
pub(in crate::http::routes) fn binary() -> Object {
    let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
    typed(Type::String).format(Some(format)).build()
}

fn form(count: Count) -> utoipa::openapi::Content {
    let says = match count {
        Count::One => "A form with one part `image`; `file` is taken for it.",
        Count::Batch => "A form with 1 to 64 parts `image`; `file` is taken for it.",
    };
    let object = closed(says).property("image", images(count, binary()));
    let object = options()
        .into_iter()
        .fold(object, |object, (name, says, schema)| {
            object.property(name, schema.description(Some(says)))
        });
    let image = EncodingBuilder::new().content_type(Some(IMAGES[..5].join(", ")));
    ContentBuilder::new()
        .schema(Some(object.required("image")))
        .encoding("image", image)
        .build()
}

fn json(count: Count) -> utoipa::openapi::Content {
    let text = typed(Type::String)
        .format(Some(SchemaFormat::Custom("base64-image".to_owned())))
        .description(Some("The image in base64, or as a `data:` URI."))
        .build();
    let (field, example) = match count {
        Count::One => ("image", json!({"image": PIXEL, "top_k": 1})),
        Count::Batch => ("images", json!({"images": [PIXEL, PIXEL]})),
    };
    let object =
        closed("The image and what is asked about it.").property(field, images(count, text));
    let object = options()
        .into_iter()
        .fold(object, |object, (name, says, schema)| {
            let schema = schema.description(Some(says)).build();
            object.property(name, nullable(schema))
        });
    let object = object
        .property("webhook", nullable(webhook()))
        .required(field);
    content(object, [("example", example)])
}

fn images(count: Count, image: Object) -> RefOr<Schema> {
    match count {
        Count::One => RefOr::T(image.into()),
        Count::Batch => {
            let list = ArrayBuilder::new().items(image);
            let list = list.min_items(Some(1)).max_items(Some(MAX_BATCH));
            RefOr::T(list.build().into())
        }
    }
}

/// Where the webhook is delivered.
fn webhook() -> Object {
    let ends: Vec<Value> = ENDS.iter().map(|state| state.as_str().into()).collect();
    let events = ArrayBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Array, Type::Null]))
        .items(typed(Type::String).enum_values(Some(ends)))
        .min_items(Some(1))
        .max_items(Some(ENDS.len()));
    let uri = SchemaFormat::Custom("uri".to_owned());
    closed(
        "Where the job's webhook is delivered; for all terminal states where `events` is left out.",
    )
    .property("url", typed(Type::String).format(Some(uri)))
    .property("events", events)
    .required("url")
    .build()
}

/// An object that has no other fields.
fn closed(says: &str) -> ObjectBuilder {
    typed(Type::Object)
        .description(Some(says))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// An option that may be `null`, which is to leave it out.
fn nullable(mut schema: Object) -> Object {
    if let SchemaType::Type(kind) = schema.schema_type {
        schema.schema_type = SchemaType::Array(vec![kind, Type::Null]);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::options::{ParameterSource, ParameterValue, Reader};

    #[test]
    fn every_option_that_is_described_is_known_and_the_other_way_round() {
        let values = [
            ("model", "\"m\""),
            ("version", "\"1\""),
            ("top_k", "3"),
            ("timeout_ms", "5"),
            ("metadata", "{}"),
        ];
        let mut reader = Reader::default();
        for (name, value) in values {
            reader
                .take(ParameterSource::Body, name, ParameterValue::Json(value))
                .unwrap();
        }
        let hook = r#"{"url": "https://example.org", "events": null}"#;
        reader
            .take(ParameterSource::Body, "webhook", ParameterValue::Json(hook))
            .unwrap();
        assert_eq!(
            options().map(|(name, ..)| name),
            values.map(|(name, _)| name)
        );
    }
}
