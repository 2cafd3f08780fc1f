//! Traces by OpenTelemetry: one per request, from HTTP through the message into the worker. Off unless a collector is named;
//! then every call here is a look at an empty cell. The only import of the `opentelemetry` crates.
//!
//! Spans of a worker are made when a job has ended, from the times it was measured by anyway, so the engine knows nothing of
//! them. Exporting is a thread's work with a bounded queue: what does not fit is dropped, and nobody waits for a collector.

mod counted;
mod exporter;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};
use prometheus::Registry;

use super::config::OtlpUrl;
use crate::job::Job;
use crate::outcome::Cost;
use crate::queue::{PublishError, Queue};

static TRACING: OnceLock<Tracing> = OnceLock::new();
/// The one field of W3C Trace Context that is carried; <https://www.w3.org/TR/trace-context/#traceparent-header>.
const TRACEPARENT: &str = "traceparent";
/// Longest time the last spans are waited for once the program has drained.
const FLUSH: Duration = Duration::from_secs(2);

/// Settings of tracing, shared by both programs.
#[derive(Clone, Debug, Args)]
pub struct TraceSettings {
    /// OpenTelemetry collector for traces, as `http://host:4318`: OTLP over HTTP, at its path /v1/traces. None without it.
    #[arg(long = "otlp-url", env = "SELVAGE_OTLP_URL", value_name = "URL")]
    #[arg(hide_env_values = true)]
    pub otlp_url: Option<OtlpUrl>,
    /// Share of the traces that begin here and are kept, from 0 to 1; a client that brings a trace decides for it.
    #[arg(long = "trace-sample", env = "SELVAGE_TRACE_SAMPLE", default_value_t = 1.0, value_name = "SHARE",
          value_parser = share)]
    pub trace_sample: f64,
}

fn share(text: &str) -> Result<f64, &'static str> {
    let share: f64 = text.parse().map_err(|_| "a number from 0 to 1")?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("a number from 0 to 1")
    }
}

struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    spans: counted::Spans,
}

/// Starts tracing, if a collector is named; before the runtime, whose threads must not wait for the exporter's client.
///
/// # Errors
/// When the exporter cannot be made; the message names the setting.
pub fn start(settings: &TraceSettings, service: &'static str) -> anyhow::Result<()> {
    if let Some(url) = &settings.otlp_url {
        let (provider, spans) = exporter::provider(url, settings.trace_sample, service)?;
        let tracing = Tracing {
            tracer: provider.tracer("selvage"),
            provider,
            spans,
        };
        // A second start changes nothing.
        TRACING.set(tracing).ok();
    }
    Ok(())
}

/// Shows what becomes of spans, where traces are kept.
///
/// # Errors
/// When the registry has these metrics already.
pub fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    TRACING
        .get()
        .map_or(Ok(()), |tracing| tracing.spans.register(registry))
}

/// Sends what is left; at most two seconds, whatever the collector does.
pub fn flush() {
    if let Some(tracing) = TRACING.get()
        && let Err(error) = tracing.provider.shutdown_with_timeout(FLUSH)
    {
        tracing::warn!(%error, "the last traces were not sent");
    }
}

/// A step that is under way; it ends with its value.
#[derive(Debug)]
pub struct Span(SdkSpan);

impl Span {
    fn start(builder: SpanBuilder, parent: Option<&str>) -> Option<Self> {
        let tracing = TRACING.get()?;
        let span = tracing.tracer.build_with_context(builder, &context(parent));
        Some(Self(span))
    }

    /// What carries this step to the next process; `None` where it is unknown.
    #[must_use]
    pub fn traceparent(&self) -> Option<Arc<str>> {
        let mut carrier: HashMap<String, String> = HashMap::new();
        let context = Context::new().with_remote_span_context(self.0.span_context().clone());
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        carrier.remove(TRACEPARENT).map(Into::into)
    }

    /// The step has failed.
    pub fn fail(&mut self, why: impl Into<Cow<'static, str>>) {
        self.0.set_status(Status::error(why));
    }

    /// The status a request was answered with.
    pub fn answer(&mut self, status: u16) {
        let attribute = KeyValue::new("http.response.status_code", i64::from(status));
        self.0.set_attribute(attribute);
        if status >= 500 {
            self.fail("");
        }
    }
}

/// A request that was received, as part of the client's trace where it brought one.
#[must_use]
pub fn request(method: &str, route: &str, parent: Option<&str>) -> Option<Span> {
    TRACING.get()?;
    let builder = SpanBuilder::from_name(format!("{method} {route}"))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("http.route", route.to_owned()),
        ]);
    Span::start(builder, parent)
}

/// Publishes a job in a span of its own; the message carries it on.
///
/// # Errors
/// As [`Queue::publish`].
pub async fn publish(queue: &dyn Queue, mut job: Job) -> Result<(), PublishError> {
    let mut span = publishing(&job);
    if let Some(traceparent) = span.as_ref().and_then(Span::traceparent) {
        job.traceparent = Some(traceparent);
    }
    let published = queue.publish(job).await;
    if let (Some(span), Err(error)) = (&mut span, &published) {
        span.fail(error.to_string());
    }
    published
}

/// A job that is handed to the broker.
fn publishing(job: &Job) -> Option<Span> {
    TRACING.get()?;
    let builder = SpanBuilder::from_name(format!("send {}", queue_name(job)))
        .with_kind(SpanKind::Producer)
        .with_attributes(about(job));
    Span::start(builder, job.traceparent.as_deref())
}

/// A job that has left the engine of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Processed<'a> {
    /// The job.
    pub job: &'a Job,
    /// When its delivery arrived.
    pub arrived: Instant,
    /// When it left the engine.
    pub left: Instant,
    /// What its steps took.
    pub cost: &'a Cost,
    /// How it ended.
    pub outcome: &'static str,
    /// Which start this was.
    pub attempt: u32,
}

/// Tells of a job that is finished: its steps in the worker, up to now.
pub fn processed(processed: &Processed<'_>) {
    let Some(tracing) = TRACING.get() else {
        return;
    };
    let job = processed.job;
    if job.traceparent.is_none() {
        return;
    }
    // The trace has wall time, measured are spans of the monotonic clock; the end of both is now.
    let (now, wall) = (Instant::now(), SystemTime::now());
    let at = |instant: Instant| wall - now.saturating_duration_since(instant);
    let builder = SpanBuilder::from_name(format!("process {}", queue_name(job)))
        .with_kind(SpanKind::Consumer)
        .with_start_time(at(processed.arrived))
        .with_attributes(about(job).into_iter().chain([
            KeyValue::new("selvage.outcome", processed.outcome),
            KeyValue::new("selvage.attempt", i64::from(processed.attempt)),
        ]));
    let parent = context(job.traceparent.as_deref());
    let mut whole = tracing.tracer.build_with_context(builder, &parent);
    if processed.outcome == "failed" {
        whole.set_status(Status::error(""));
    }
    if whole.is_recording() {
        let within = Context::new().with_remote_span_context(whole.span_context().clone());
        for (name, from, to) in steps(processed, now) {
            let mut builder = SpanBuilder::from_name(name).with_start_time(at(from));
            if name == INFERENCE {
                let size = i64::from(processed.cost.batch_size);
                builder = builder.with_attributes([KeyValue::new("selvage.batch.size", size)]);
            }
            let mut step = tracing.tracer.build_with_context(builder, &within);
            step.end_with_timestamp(at(to));
        }
    }
    whole.end_with_timestamp(wall);
}

const INFERENCE: &str = "inference";

/// The steps of a job up to now; none that were not taken.
fn steps(processed: &Processed<'_>, now: Instant) -> Vec<(&'static str, Instant, Instant)> {
    let Processed {
        arrived,
        left,
        cost,
        ..
    } = *processed;
    let micros = |micros: u32| Duration::from_micros(u64::from(micros));
    let decoding = arrived + micros(cost.waited_us);
    let decoded = decoding + micros(cost.decode_us);
    let mut steps = vec![("wait", arrived, decoding.min(left))];
    if cost.decode_us > 0 {
        steps.push(("decode", decoding, decoded.min(left)));
    }
    if cost.batch_size > 0 {
        let began = left.checked_sub(micros(cost.inference_us));
        let began = began.unwrap_or(decoded).max(decoded).min(left);
        steps.push(("batch wait", decoded.min(began), began));
        steps.push((INFERENCE, began, left));
    }
    steps.push(("finish", left, now));
    steps
}

/// The context that a text carries; a fresh one where there is none or it is malformed.
fn context(traceparent: Option<&str>) -> Context {
    let carried = traceparent.map(|text| (TRACEPARENT.to_owned(), text.to_owned()));
    let carrier: HashMap<String, String> = carried.into_iter().collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

fn queue_name(job: &Job) -> String {
    format!("{}.{}", job.model, job.priority().as_str())
}

fn about(job: &Job) -> [KeyValue; 3] {
    [
        KeyValue::new("messaging.destination.name", queue_name(job)),
        KeyValue::new("messaging.message.id", job.id.to_string()),
        KeyValue::new(
            "messaging.message.body.size",
            i64::try_from(job.image.len()).unwrap_or(i64::MAX),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_within_its_bounds() {
        assert_eq!(share("0.25"), Ok(0.25));
        for wrong in ["", "x", "-0.1", "1.1", "NaN"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_context_is_carried_and_a_malformed_one_is_not() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let carried = context(Some(text)).span().span_context().clone();
        assert_eq!(
            carried.trace_id().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert!(carried.is_sampled() && carried.is_remote());
        for text in [
            None,
            Some("00-zz"),
            Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        ] {
            assert!(!context(text).span().span_context().is_valid(), "{text:?}");
        }
    }

    #[test]
    fn without_a_collector_nothing_is_traced() {
        assert!(request("GET", "/models", None).is_none());
        flush();
    }
}
