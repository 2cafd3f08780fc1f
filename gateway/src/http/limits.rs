//! What requests and connections are bound by.

use std::time::Duration;

use crate::http::browsers::BrowserRules;
use crate::service::webhooks::WebhookSettings;

/// What requests are bound by.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Memory for all bodies, in bytes.
    pub max_buffered: usize,
    /// Largest image, in pixels.
    pub max_pixels: u64,
    /// The wait where none is asked for.
    pub default_wait: Duration,
    /// The longest wait.
    pub max_wait: Duration,
    /// Most jobs that are waited for.
    pub max_in_flight: usize,
    /// Life of an asynchronous job.
    pub job_deadline: Duration,
    /// How long the record of a finished job is kept.
    pub retention: Duration,
    /// From the signal to the end.
    pub drain: Duration,
    /// Most connections.
    pub max_connections: usize,
    /// Most connections of one address.
    pub max_connections_per_address: usize,
    /// That of one address shrinks while most are taken.
    pub connection_shares_shrink: bool,
    /// What pages in browsers may ask.
    pub browsers: BrowserRules,
    /// API keys share one cache.
    pub shared_cache: bool,
    /// How webhooks are sent.
    pub webhooks: WebhookSettings,
}
