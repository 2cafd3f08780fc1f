//! The Redis backends of cache, store and fleet; the only import of the `redis` crate.
