//! The gateway: HTTP in, jobs out.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | settings |
//! | [`server`], [`descriptors`] | connections: accepting, time limits, draining, how many there can be |
//! | `routes` | the route table and its handlers: HTTP to service and back |
//! | [`access`], [`peer`] | who may ask and how often: API keys, rates, and the caller a request has become |
//! | [`browsers`] | what pages in browsers may ask: names in `Host`, origins |
//! | [`upload`], [`options`], [`prefer`], [`idempotency`], [`depth`] | reading a request |
//! | [`view`], [`error`] | writing an answer |
//! | `pages` | the pages for people and their files |
//! | [`openapi`] | what routes are described with, and the document made of it |
//! | [`oip`] | the Open Inference Protocol: reading and writing its tensors |
//! | [`predictions`] | the service: cache, computation, asynchronous job |
//! | [`inflight`], [`admission`], [`submit`] | its parts: who shares, who may begin, how a job is submitted |
//! | [`watch`], [`sweeper`], [`webhooks`] | background tasks: polls and streams, overdue records, delivery |
//! | [`stats`], [`queues`] | the fleet in numbers, read in the background; estimates |
//! | [`models`], [`changes`] | which model and file a request means; a file that changes |
//! | [`dead_letters`] | messages no worker could use: taken in, listed, replayed |
//! | [`start`], [`fleet`], `embedded` | from settings to a running gateway, in either mode |

pub mod access;
pub mod admission;
pub mod app;
mod assemble;
pub mod browsers;
pub mod changes;
pub mod config;
pub mod dead_letters;
pub mod depth;
pub mod descriptors;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
pub mod fleet;
pub mod idempotency;
pub mod inflight;
pub mod lifecycle;
pub mod metrics;
pub mod models;
pub mod oip;
pub mod openapi;
pub mod options;
mod pages;
pub mod peer;
pub mod predictions;
pub mod prefer;
pub mod queues;
mod routes;
pub mod run;
pub mod server;
pub mod start;
pub mod start_error;
pub mod stats;
pub mod submit;
pub mod sweeper;
pub mod upload;
pub mod view;
pub mod watch;
pub mod webhooks;

pub use app::{App, Backends, Gateway};
pub use server::serve;
