//! The gateway from request to answer, on memory backends and a scripted worker; no sockets, no model.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test they help"
)]

mod access;
mod answers;
mod batches;
mod browsers;
mod dead_letters;
mod described;
mod down;
mod drains;
mod events;
mod gated;
mod home;
mod idempotency;
mod jobs;
mod leaving;
mod lists;
mod oip;
mod openapi;
mod rates;
mod refusals;
mod rig;
mod stats;
mod webhooks;
mod worker;
