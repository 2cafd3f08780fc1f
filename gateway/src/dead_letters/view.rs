//! A dead letter as people see it: names, order and units of its JSON. Never its image.

use selvage_core::job::{JobId, Lane, ModelName};
use selvage_core::key_name::KeyName;
use selvage_core::queue::dead_letters::{Letter, Reason};
use serde::Serialize;
use utoipa::ToSchema;

use crate::view::Time;

/// Some of the letters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetters)]
pub struct Page {
    /// The letters, oldest first.
    pub items: Vec<LetterView>,
    /// How many there are in all.
    pub total: u64,
}

/// A letter without what it holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct LetterView {
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

impl LetterView {
    /// The letter, without what it holds.
    #[must_use]
    pub fn of(letter: &Letter) -> Self {
        let job = letter.job();
        let promise = job.and_then(|job| job.promise.as_ref());
        Self {
            id: letter.id,
            reason: letter.reason,
            attempts: letter.attempts,
            model: job.map(|job| job.model.clone()),
            lane: job.map(selvage_core::job::Job::lane),
            owner: promise.and_then(|promise| promise.owner.clone()),
            queue: letter.queue.clone(),
            size: letter.size(),
            died_at: Time(letter.died_at),
            replayable: job.is_some(),
        }
    }
}
