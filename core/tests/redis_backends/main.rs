//! The Redis backends on a real Redis: the contract suites, what only Redis can get wrong, and faults.
//!
//! Run by `make test`, which starts a Redis; without one these tests fail, they are never skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod dead_letters;
mod fleet;
mod keys;
mod model;
mod outages;
mod private;
mod properties;
mod proxy;
mod refusals;
mod sentinel;
mod store;
mod support;
