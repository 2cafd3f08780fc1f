//! The way to the collector: batches of spans, OTLP over HTTP, sent by a thread of its own.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};

use super::counted::{Entrance, Exit, Spans};
use crate::program::config::OtlpUrl;

/// Spans that may wait; what comes beyond is dropped and counted. About a kilobyte each.
const WAITING: usize = 8192;
/// Spans that are sent together.
const BATCH: usize = 512;
/// Longest time a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// Longest time the collector may take for one batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps that share of the traces that begin here, and those whose clients wanted them kept.
pub(super) fn provider(
    url: &OtlpUrl,
    sample: f64,
    service: &'static str,
) -> anyhow::Result<(SdkTracerProvider, Spans)> {
    const SETTING: &str = "--otlp-url / SELVAGE_OTLP_URL";
    // lapin brings in rustls with two providers, and then rustls picks none by itself but panics.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder()
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT)
        .no_proxy()
        .build()
        .context(SETTING)?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url.traces())
        .with_timeout(TIMEOUT)
        .build()
        .context(SETTING)?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let spans = Spans::new(WAITING)?;
    let exporter = Exit {
        within: exporter,
        spans: spans.clone(),
    };
    let within = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches)
        .build();
    let processor = Entrance {
        within,
        spans: spans.clone(),
    };
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            sample,
        ))))
        .with_resource(resource)
        .build();
    Ok((provider, spans))
}
