//! A dead letter as people see it: names, order and units of its JSON. Never its image.

use selvage_core::dead_letters::{self, Reason, Summary};
use selvage_core::job::{JobId, ModelName, Priority};
use selvage_core::key_name::KeyName;
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::time::Time;

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
    /// Why it was dead-lettered.
    pub reason: Reason,
    /// How often its job was started, or handed out.
    pub attempts: u32,
    /// The model its job asks; `None` where nobody can read it.
    pub model: Option<ModelName>,
    /// The priority of its job.
    pub priority: Option<Priority>,
    /// The API key its job was asked for with.
    pub owner: Option<KeyName>,
    /// The queue it was dead-lettered from.
    pub queue: String,
    /// Bytes of the image, or of what nobody can read.
    pub size: usize,
    /// When it was dead-lettered.
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
    fn from(dead_letter: Summary) -> Self {
        Self {
            id: dead_letter.id,
            reason: dead_letter.reason,
            attempts: dead_letter.attempts,
            replayable: dead_letter.model.is_some(),
            model: dead_letter.model,
            priority: dead_letter.priority,
            owner: dead_letter.owner,
            queue: dead_letter.queue,
            size: dead_letter.size,
            died_at: Time(dead_letter.died_at),
        }
    }
}
