//! A dead letter as people see it: names, order and units of its JSON. Never its image.

use selvage_core::dead_letters::{self, Reason, Summary};
use selvage_core::job::{JobId, Lane, ModelName};
use selvage_core::key_name::KeyName;
use serde::Serialize;
use utoipa::ToSchema;

use crate::view::Time;

/// Some of the dead letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetters)]
pub struct Page {
    /// The dead letters, oldest first.
    pub items: Vec<DeadLetterView>,
    /// How many there are in all.
    pub total: u64,
}

/// A dead letter without what it holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct DeadLetterView {
    /// The job's id, or one of its own.
    pub id: JobId,
    /// Why it was set aside.
    pub reason: Reason,
    /// How often its job was started, or handed out.
    pub attempts: u32,
    /// The model its job asks; `None` where nobody can read it.
    pub model: Option<ModelName>,
    /// The lane its job travelled.
    pub lane: Option<Lane>,
    /// The API key its job was asked for with.
    pub owner: Option<KeyName>,
    /// The queue it was set aside from.
    pub queue: String,
    /// Bytes of the image, or of what nobody can read.
    pub size: usize,
    /// When it was set aside.
    pub(crate) died_at: Time,
    /// Whether it holds a job.
    pub replayable: bool,
}

impl From<dead_letters::Page> for Page {
    fn from(page: dead_letters::Page) -> Self {
        Self {
            items: page.items.into_iter().map(DeadLetterView::from).collect(),
            total: page.total,
        }
    }
}

impl From<Summary> for DeadLetterView {
    fn from(letter: Summary) -> Self {
        Self {
            id: letter.id,
            reason: letter.reason,
            attempts: letter.attempts,
            replayable: letter.model.is_some(),
            model: letter.model,
            lane: letter.lane,
            owner: letter.owner,
            queue: letter.queue,
            size: letter.size,
            died_at: Time(letter.died_at),
        }
    }
}
