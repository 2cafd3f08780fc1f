//! How images and options can be sent: the same options in a query, a form and JSON.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, Schema, SchemaType, Type,
};
use utoipa::openapi::{ContentBuilder, RefOr, Required};
use utoipa::{IntoParams, PartialSchema as _, ToSchema};

use super::headers;
use crate::http::options::Options;
use crate::http::upload::MAX_BATCH;

/// The only option that cannot be given as text.
const WEBHOOK: &str = "webhook";

/// Bytes.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Binary(());

/// The image in base64 (standard or URL alphabet, line breaks allowed), or as a `data:` URI.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = "base64-image")]
pub struct Base64Image(());

/// How long to wait.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Seconds to wait for the end of the job, at most 60.
    #[param(minimum = 0)]
    pub wait: Option<f64>,
}

/// The options in a query, and the headers that belong to them.
impl IntoParams for Options {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let options = options().filter(|(name, _)| name != WEBHOOK);
        let in_query = options.map(|(name, mut option)| {
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(option.description.take());
            if option.schema_type == SchemaType::Type(Type::Object) {
                let json = ContentBuilder::new().schema(Some(option)).build();
                return parameter.content("application/json", json).build();
            }
            parameter.schema(Some(option)).build()
        });
        let headers = [
            (
                "Prefer",
                "`wait=N` or `respond-async` (RFC 7240); wins over `wait`.",
            ),
            (
                "Idempotency-Key",
                "Quoted or bare text of 1 to 255 printable characters: the same key with the same request is the same job.",
            ),
            (
                "Cache-Control",
                "`no-cache` computes again, `no-store` leaves the cache alone.",
            ),
            ("traceparent", "W3C trace context; passed on to the worker."),
        ];
        let headers = headers.map(|(name, says)| headers::parameter(name, says));
        in_query.chain(headers).collect()
    }
}

/// The bodies of requests for predictions. They are closed, so that no type could be flattened into them.
pub(super) fn bodies() -> [(String, RefOr<Schema>); 4] {
    let (one, several) = (
        "A form with one part `image`; `file` is an alias.",
        "A form with 1 to 64 parts `image`; `file` is an alias.",
    );
    let (bytes, text) = (Binary::schema, Base64Image::schema);
    [
        ("ImageForm", form(one, bytes())),
        ("ImagesForm", form(several, list(bytes()))),
        ("ImageJson", json("image", text())),
        ("ImagesJson", json("images", list(text()))),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

fn form(says: &str, image: RefOr<Schema>) -> RefOr<Schema> {
    let options = options().filter(|(name, _)| name != WEBHOOK);
    body(says, ("image", image), options)
}

/// In JSON, an option that is `null` is left out.
fn json(field: &str, image: RefOr<Schema>) -> RefOr<Schema> {
    let options = options().map(|(name, mut option)| {
        if let SchemaType::Type(kind) = option.schema_type {
            option.schema_type = SchemaType::Array(vec![kind, Type::Null]);
        }
        (name, option)
    });
    body("The image and its options.", (field, image), options)
}

fn body(
    says: &str,
    (field, image): (&str, RefOr<Schema>),
    options: impl Iterator<Item = (String, Object)>,
) -> RefOr<Schema> {
    let image = Object::builder()
        .schema_type(Type::Object)
        .description(Some(says))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .property(field, image)
        .required(field);
    let object = options.fold(image, |object, (name, option)| {
        object.property(name, option)
    });
    object.into()
}

fn list(image: RefOr<Schema>) -> RefOr<Schema> {
    let list = ArrayBuilder::new().items(image);
    list.min_items(Some(1)).max_items(Some(MAX_BATCH)).into()
}

/// The fields of [`Options`].
fn options() -> impl Iterator<Item = (String, Object)> {
    let fields = match Options::schema() {
        RefOr::T(Schema::Object(options)) => options.properties,
        _ => Object::new().properties,
    };
    fields
        .into_iter()
        .filter_map(|(name, schema)| match schema {
            RefOr::T(Schema::Object(option)) => Some((name, option)),
            _ => None,
        })
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
            (
                "webhook",
                r#"{"url": "https://example.org", "events": null}"#,
            ),
        ];
        let mut reader = Reader::default();
        for (name, value) in values {
            reader
                .take(ParameterSource::Body, name, ParameterValue::Json(value))
                .unwrap();
        }
        let mut described: Vec<String> = options().map(|(name, _)| name).collect();
        let mut known = values.map(|(name, _)| name);
        described.sort();
        known.sort_unstable();
        assert_eq!(described, known);
    }
}
