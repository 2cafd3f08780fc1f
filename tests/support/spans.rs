//! Spans as a collector received them: read from OTLP, put in order, shown as a tree.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message as _;

use crate::receiver::Received;

/// One span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// Its parent's id; empty at a root.
    pub parent: String,
    /// The program it is of.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Begin and end, in Unix nanoseconds.
    pub time: (u64, u64),
    /// Its attributes that are texts or whole numbers.
    pub attributes: Vec<(String, String)>,
}

impl Span {
    /// An attribute; empty where it is missing.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        text_of(&self.attributes, name)
    }
}

/// All spans in what a receiver was sent.
///
/// # Panics
/// When a message is no OTLP.
#[must_use]
pub fn spans(received: &[Received]) -> Vec<Span> {
    let mut spans = Vec::new();
    for message in received {
        assert!(message.path.ends_with("/v1/traces"), "{}", message.path);
        assert_eq!(message.header("content-type"), "application/x-protobuf");
        let request = ExportTraceServiceRequest::decode(message.body.as_slice());
        for resource in request.expect("the body is OTLP").resource_spans {
            let about = attributes(&resource.resource.unwrap_or_default().attributes);
            let all = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                service: text_of(&about, "service.name").to_owned(),
                name: span.name,
                time: (span.start_time_unix_nano, span.end_time_unix_nano),
                attributes: attributes(&span.attributes),
            }));
        }
    }
    spans.sort_by_key(|span| span.time.0);
    spans
}

/// The spans below one, each with its begin and its length in milliseconds since `from`.
#[must_use]
pub fn tree(spans: &[Span], parent: &str, depth: usize, from: u64) -> String {
    let mut text = String::new();
    for span in spans.iter().filter(|span| span.parent == parent) {
        let millis = |nanos: u64| nanos as f64 / 1e6;
        let (begin, length) = (span.time.0.saturating_sub(from), span.time.1 - span.time.0);
        let name = format!("{}{}", "  ".repeat(depth), span.name);
        let _ = writeln!(
            text,
            "{name:<44} {:<16} {:>8.2} ms {:>+9.2} ms",
            span.service,
            millis(length),
            millis(begin)
        );
        text.push_str(&tree(spans, &span.id, depth + 1, from));
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |attribute: &KeyValue| match attribute.value.clone()?.value? {
        any_value::Value::StringValue(text) => Some((attribute.key.clone(), text)),
        any_value::Value::IntValue(number) => Some((attribute.key.clone(), number.to_string())),
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

fn text_of<'a>(attributes: &'a [(String, String)], name: &str) -> &'a str {
    let found = attributes.iter().find(|(key, _)| key == name);
    found.map_or("", |(_, value)| value)
}
