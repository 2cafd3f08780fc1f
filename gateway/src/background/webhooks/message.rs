//! What a webhook says, signed. Its id is the same at every attempt, so that its receiver can tell a repeat.

use selvage_core::store::Record;

use crate::service::gateway::Gateway;
use crate::service::webhooks::secret::Secrets;

/// A signed message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) timestamp: i64,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// The message about an ended job; `None` where it cannot be written or signed.
pub(super) fn message(gateway: &Gateway, record: &Record, secrets: &Secrets) -> Option<Message> {
    let now = gateway.predictions.clock.now();
    let state = record.state.as_str();
    let body = (gateway.webhooks.write_body)(record, now, gateway.predictions.durable)?;
    let id = format!("{}.{state}", record.seed.id);
    let timestamp = i64::try_from(now.0 / 1000).ok()?;
    let signature = secrets.sign(
        record.seed.submission.owner.as_ref(),
        (&id, timestamp),
        &body,
    )?;
    Some(Message {
        id,
        timestamp,
        signature,
        body,
    })
}
