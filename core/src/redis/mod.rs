//! The Redis backends of cache, store, dead letters and fleet; the only import of the `redis` crate.
//!
//! Each backend has a connection of its own, so that the cache's 50 ms are not spent behind the store's scripts.
//! A supervisor makes the connection and makes it again, a breaker stops calls to a server that has fallen silent, and every
//! call has a time in which it is answered or fails.

mod breaker;
mod cache;
mod dead_letters;
mod error;
mod failover;
mod fit;
mod gather;
mod link;
mod record;
mod registry;
mod scripts;
mod source;
mod store;
mod supervisor;

pub use cache::RedisCache;
pub use dead_letters::RedisDeadLetters;
pub use error::OpenError;
pub use fit::Unfit;
pub use registry::RedisFleet;
pub use store::RedisStore;
