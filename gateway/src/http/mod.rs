//! Everything HTTP: connections, routes, reading requests, writing responses. Only this room imports axum, hyper and tower.
//!
//! No decisions about jobs: handlers call [`crate::service`]. Nothing here is imported by another room but `program`.
//!
//! | module | contents |
//! |---|---|
//! | [`app`], [`limits`] | what handlers see, and what requests are bound by |
//! | [`server`] | connections: accepting, time limits, draining |
//! | `routes` | the route table and its handlers |
//! | [`access`], [`peer`] | API keys, rates, and the caller of a request |
//! | [`browsers`] | names in `Host`, allowed origins |
//! | [`upload`], [`options`], [`prefer`], [`idempotency`], [`depth`] | reading a request |
//! | [`view`], [`error`] | writing a response: the job object, problems |
//! | `pages` | the pages and their files |
//! | [`openapi`] | the API document |
//! | [`oip`] | the Open Inference Protocol: reading and writing its tensors |

pub mod access;
pub mod app;
pub mod browsers;
pub mod depth;
pub mod error;
pub mod idempotency;
pub mod limits;
pub mod oip;
pub mod openapi;
pub mod options;
mod pages;
pub mod peer;
pub mod prefer;
mod routes;
pub mod server;
pub mod upload;
pub mod view;
