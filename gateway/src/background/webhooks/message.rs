//! What a webhook says, signed. Its id is the same at every try, so that its receiver can tell a repeat.

use selvage_core::store::Record;
use serde::Serialize;

use crate::http::view::{JobView, Time};
use crate::service::gateway::App;
use crate::service::webhooks::secret::Secrets;

/// A signed message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) timestamp: i64,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    timestamp: Time,
    data: JobView<'a>,
}

/// The message about an ended job; `None` where it cannot be written or signed.
pub(super) fn message(app: &App, record: &Record, secrets: &Secrets) -> Option<Message> {
    let now = app.predictions.clock.now();
    let state = record.state.as_str();
    let body = Body {
        r#type: format!("job.{state}"),
        timestamp: Time(record.finished_at.unwrap_or(now)),
        data: JobView::recorded(record, None, app.predictions.durable),
    };
    let body = serde_json::to_vec(&body).ok()?;
    let id = format!("{}.{state}", record.seed.id);
    let timestamp = i64::try_from(now.0 / 1000).ok()?;
    let signature = secrets.sign(record.seed.owner.as_ref(), (&id, timestamp), &body)?;
    Some(Message {
        id,
        timestamp,
        signature,
        body,
    })
}
