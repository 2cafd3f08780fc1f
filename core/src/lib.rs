//! What gateway and worker agree on. No HTTP and no ONNX Runtime in this crate.
//!
//! | module | owns |
//! |---|---|
//! | [`job`] | a job: identity, deadline, options, image bytes |
//! | [`key`] | digests and the key of a prediction: all that changes an answer |
//! | [`outcome`] | how a job ended, and what it cost |
//! | [`output`] | scores to labelled answers |
//! | [`catalog`] | the models folder: `model.toml`, checked |
//! | [`queue`] | trait [`queue::Queue`], wire format, in-memory and RabbitMQ backends |
//! | [`cache`] | trait [`cache::Cache`] and its in-memory backend |
//! | [`store`] | traits [`store::JobStore`] and [`store::WorkerStore`]: records of asynchronous jobs, and their in-memory backend |
//! | [`dead_letters`] | trait [`dead_letters::DeadLetterStore`]: messages no worker could use, and its in-memory backend |
//! | [`tensor`] | a tensor in the place of an image |
//! | [`preview`] | asking what a model is given to see |
//! | [`registry`] | trait [`registry::Fleet`]: which processes exist, and what they report |
//! | [`redis`] | the Redis backends of cache, store, dead letters and registry |
//! | [`clock`] | the time deadlines are measured by |
//! | [`image_format`] | the image formats, by their first bytes |
//! | [`key_name`] | who an asynchronous job belongs to |
//! | [`mod@metrics`] | tables of Prometheus metrics |
//! | [`program`] | what both programs do in the same way: settings, logs, traces, start and end |
//! | [`backends`] | opens RabbitMQ and Redis for a process of a fleet |

pub mod backends;
pub mod cache;
pub mod catalog;
pub mod clock;
pub mod dead_letters;
pub mod image_format;
pub mod job;
pub mod job_state;
pub mod key;
pub mod key_name;
pub mod metrics;
pub mod outcome;
pub mod output;
pub mod preview;
pub mod program;
pub mod queue;
pub mod redis;
pub mod registry;
pub mod store;
pub mod tensor;
pub mod webhook;

/// Any error behind a boundary, kept as the source of a typed one.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
