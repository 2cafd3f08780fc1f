//! Webhooks: telling a client's server that its job has ended, by the Standard Webhooks specification.
//!
//! | file | owns |
//! |---|---|
//! | `address` | which addresses are allowed: checked when a job is taken, and again at each connection |
//! | `secret` | what it is signed with, for each API key |
//!
//! `background::webhooks` delivers them.

pub(crate) mod address;
pub(crate) mod secret;

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect;
use selvage_core::clock::UnixMillis;
use selvage_core::store::Record;
use selvage_core::webhook::Webhook;

use address::Addresses;
use secret::Secrets;

pub use secret::{Secret, ShowSecret};

/// Longest time for one attempt, from the look-up of its address to the answer's head.
pub(crate) const TRY_LIMIT: Duration = Duration::from_secs(10);

/// How webhooks are sent.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// What they are signed with; without it none are taken.
    pub secret: Option<Secret>,
    /// What they were signed with before, while receivers change theirs: a second signature.
    pub previous_secret: Option<Secret>,
    /// Private addresses, plain HTTP and any port are allowed.
    pub allow_private: bool,
    /// From the first attempt to the second; each further one waits six times as long, up to four hours.
    pub first_retry: Duration,
}

/// Why a webhook could never be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ForbiddenWebhook(pub &'static str);

/// Writes what is delivered of an ended job, now; the flag says whether jobs outlive this process.
pub type WriteBody = fn(&Record, UnixMillis, bool) -> Option<Vec<u8>>;

/// What sends webhooks; without a secret nothing does.
#[derive(Clone, Debug)]
pub struct Webhooks {
    pub(crate) addresses: Addresses,
    pub(crate) sender: Option<Sender>,
    pub(crate) first_retry: Duration,
    pub(crate) write_body: WriteBody,
}

#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) client: reqwest::Client,
    pub(crate) secrets: Secrets,
}

impl Webhooks {
    /// A sender with these settings, of bodies that `write_body` writes. One whose client cannot be made refuses webhooks, and says why once.
    #[must_use]
    pub fn new(settings: &WebhookSettings, write_body: WriteBody) -> Self {
        let addresses = Addresses {
            allow_private: settings.allow_private,
        };
        let sender = settings.secret.clone().and_then(|secret| {
            let client = client(addresses)
                .inspect_err(|error| tracing::error!(%error, "webhooks cannot be sent: {error}"));
            Some(Sender {
                client: client.ok()?,
                secrets: Secrets {
                    current: secret,
                    previous: settings.previous_secret.clone(),
                },
            })
        });
        Self {
            addresses,
            sender,
            first_retry: settings.first_retry,
            write_body,
        }
    }

    /// Refuses a webhook that could never be delivered.
    ///
    /// # Errors
    /// [`ForbiddenWebhook`].
    pub fn admit(&self, webhook: &Webhook) -> Result<(), ForbiddenWebhook> {
        if self.sender.is_none() {
            return Err(ForbiddenWebhook(
                "this gateway sends no webhooks: its operator has set no secret",
            ));
        }
        let checked = self.addresses.check(&webhook.url);
        checked.map(drop).map_err(ForbiddenWebhook)
    }
}

fn client(addresses: Addresses) -> reqwest::Result<reqwest::Client> {
    // Where another part of the program has chosen its provider of cryptography already, that one is as good.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(TRY_LIMIT)
        .pool_max_idle_per_host(1)
        .dns_resolver(Arc::new(addresses))
        .user_agent(concat!("selvage/", env!("CARGO_PKG_VERSION")))
        .build()
}
