//! Publishes groups of jobs, one unconfirmed message per channel.
//!
//! One at a time, because lapin pairs a returned message with a confirm by their order, not by their numbers; and because
//! the jobs that arrive meanwhile make the next message fuller.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::connection::Link;
use super::counters::QueueCounters;
use super::error::RabbitError;
use super::publish_buffer::{Group, Pending, PublishBuffer};
use super::topology::{Topology, in_time};
use crate::job::{Job, Priority};
use crate::program::failpoint;
use crate::queue::PublishError;
use crate::queue::wire::encode_jobs;

/// From a job's entry into the buffer to the broker's confirm; afterwards its caller gets an error.
pub(super) const CONFIRM: Duration = Duration::from_secs(5);
/// What the last job of a long row still gets, so that its message is not given up as soon as it is sent.
const LEAST: Duration = Duration::from_millis(500);
/// Largest message: RabbitMQ 4 refuses more than 16 MiB. <https://www.rabbitmq.com/docs/limits>
const MAX_MESSAGE: usize = 15 * 1024 * 1024;
/// `delivery_mode` of a message that is kept on disk.
const PERSISTENT: u8 = 2;

/// How long a deleted queue stays away, for the broker to cancel its consumers. RabbitMQ 3.10 moves a consumer that it has
/// not canceled yet to a new queue of the same name, and then takes the new messages' numbers for old ones: it counts them
/// as delivered and delivers none.
pub(super) const REDECLARE_DELAY: Duration = Duration::from_secs(1);

/// What all publishers of a process share.
#[derive(Debug)]
pub(super) struct Publishing {
    pub(super) link: Link,
    pub(super) topology: Arc<Topology>,
    pub(super) publish_buffer: Arc<PublishBuffer>,
    pub(super) counters: QueueCounters,
    pub(super) tasks: TaskTracker,
    /// Queues that were missing and are about to be made again.
    pub(super) missing: Mutex<HashSet<String>>,
}

impl Publishing {
    /// Hands one job over and waits until its message is confirmed.
    pub(super) async fn publish(&self, job: Job) -> Result<(), PublishError> {
        if job.image.len() > MAX_MESSAGE {
            return Err(PublishError::TooLarge);
        }
        self.link.now()?;
        let (verdict, answer) = oneshot::channel();
        let give_up = Instant::now() + CONFIRM;
        self.publish_buffer.push(Pending {
            job,
            verdict,
            give_up,
        })?;
        // A publisher gives its verdict by then; otherwise none was free to give one in time.
        match timeout_at(give_up + LEAST, answer).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) | Err(_) => Err(RabbitError::Slow("a confirm", CONFIRM).into()),
        }
    }

    /// Publishes group after group until the buffer is closed and empty.
    pub(super) async fn run(self: Arc<Self>) {
        let mut channel = None;
        while let Some(mut group) = self.publish_buffer.next().await {
            let pending = std::mem::take(&mut group.pending);
            let now = Instant::now();
            let (jobs, callers): (Vec<_>, Vec<_>) = pending
                .into_iter()
                .filter(|pending| pending.give_up > now)
                .map(|pending| (pending.job, (pending.verdict, pending.give_up)))
                .unzip();
            let Some(first) = callers.first() else {
                continue;
            };
            let deadline = first.1.max(now + LEAST);
            let outcome = self.send(&mut channel, &group, jobs, deadline).await;
            self.count(&outcome, callers.len());
            for (caller, _) in callers {
                // A caller that went away does not unsend its job.
                let _ = caller.send(outcome.clone().into());
            }
        }
    }

    async fn send(
        self: &Arc<Self>,
        channel: &mut Option<Channel>,
        group: &Group,
        jobs: Vec<Job>,
        deadline: Instant,
    ) -> Outcome {
        let message = match Message::new(&self.topology, group, &jobs) {
            Ok(message) => message,
            Err(outcome) => return outcome,
        };
        // The bytes are in the message now: only one copy of each image stays.
        drop(jobs);
        let mut outcome = self.attempt(channel, &message, deadline).await;
        // A job that somebody waits for is its own retry. An asynchronous one gets a second try after an error, but not after
        // silence, which has used up the time. It keeps its message id, and may arrive twice.
        let again = matches!(&outcome, Outcome::Failed(error) if error.may_pass());
        if again && group.priority == Priority::Batch {
            outcome = match timeout_at(deadline, self.link.usable()).await {
                Ok(_) => self.attempt(channel, &message, deadline).await,
                Err(_) => outcome,
            };
        }
        outcome
    }

    /// Sends one message and waits for its confirm. A channel on which anything went wrong is not used again.
    async fn attempt(
        self: &Arc<Self>,
        slot: &mut Option<Channel>,
        message: &Message,
        deadline: Instant,
    ) -> Outcome {
        let sending = async {
            // Opening has an end of its own. Cut off earlier it would leave a half-open channel behind each time, and a
            // silent broker would never be found out.
            let channel = match slot.take().filter(|channel| channel.status().connected()) {
                Some(channel) => channel,
                None => self.open().await?,
            };
            let too_late = RabbitError::Slow("a confirm", CONFIRM);
            if Instant::now() >= deadline {
                return Err(too_late);
            }
            match timeout_at(deadline, message.send_on(&channel)).await {
                Ok(confirmation) => Ok((channel, confirmation?)),
                Err(_) => Err(too_late),
            }
        };
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            error = self.link.not_usable() => Err(error),
        };
        match sent {
            Ok((channel, confirmation)) => {
                *slot = Some(channel);
                self.judge(&confirmation, message)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    fn judge(self: &Arc<Self>, confirmation: &Confirmation, message: &Message) -> Outcome {
        match confirmation {
            Confirmation::Ack(None) => Outcome::Confirmed,
            Confirmation::Ack(Some(_)) => {
                self.redeclare(&message.queue);
                Outcome::Returned(message.queue.clone())
            }
            Confirmation::Nack(_) => Outcome::Full,
            Confirmation::NotRequested => Outcome::Failed(RabbitError::NotConfirmed),
        }
    }

    async fn open(&self) -> Result<Channel, RabbitError> {
        let channel = self.link.now()?.channel().await?;
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Makes a missing queue again, in the background, once at a time, and not before [`REDECLARE_DELAY`] is over. No other queue: one
    /// that was deleted a moment ago would come back before its consumers were canceled.
    fn redeclare(self: &Arc<Self>, queue: &str) {
        if !self.missing.lock().insert(queue.to_owned()) {
            return;
        }
        let (this, queue) = (Arc::clone(self), queue.to_owned());
        self.tasks.spawn(async move {
            sleep(REDECLARE_DELAY).await;
            if let Ok(live) = this.link.now() {
                match this.topology.declare_named(&live, &queue).await {
                    Ok(()) => {
                        tracing::warn!(queue, "a queue was missing and has been declared again")
                    }
                    Err(error) => {
                        tracing::warn!(queue, %error, "a missing queue cannot be declared")
                    }
                }
            }
            this.missing.lock().remove(&queue);
        });
    }

    fn count(&self, outcome: &Outcome, jobs: usize) {
        match outcome {
            Outcome::Confirmed => {
                self.counters.envelopes.inc();
                let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
                self.counters.jobs_per_envelope.observe(f64::from(jobs));
            }
            Outcome::Full => self.counters.nacked.inc(),
            Outcome::Returned(_) => self.counters.returned.inc(),
            Outcome::Failed(_) => self.counters.unconfirmed.inc(),
            Outcome::TooLarge => {}
        }
    }
}

/// What became of a message, and so of every job in it.
#[derive(Clone, Debug)]
enum Outcome {
    Confirmed,
    Full,
    TooLarge,
    Returned(String),
    Failed(RabbitError),
}

impl From<Outcome> for Result<(), PublishError> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Confirmed => Ok(()),
            Outcome::Full => Err(PublishError::Full),
            Outcome::TooLarge => Err(PublishError::TooLarge),
            Outcome::Returned(queue) => Err(RabbitError::NoQueue(queue).into()),
            Outcome::Failed(error) => Err(error.into()),
        }
    }
}

/// A message ready to be sent, once or twice.
struct Message {
    queue: String,
    body: Vec<u8>,
    properties: BasicProperties,
    /// A fault test ends this process once the message is on its way.
    crashes: bool,
}

impl Message {
    fn new(topology: &Topology, group: &Group, jobs: &[Job]) -> Result<Self, Outcome> {
        let body = encode_jobs(jobs).map_err(|_| Outcome::TooLarge)?;
        if body.len() > MAX_MESSAGE {
            return Err(Outcome::TooLarge);
        }
        let submitted = jobs.iter().filter(|job| job.submission.is_some());
        let id = jobs.first().map(|job| job.id.to_string());
        Ok(Self {
            queue: topology.queue(&group.model, group.priority),
            body,
            properties: BasicProperties::default()
                .with_delivery_mode(PERSISTENT)
                .with_message_id(id.unwrap_or_default().into()),
            crashes: failpoint::is_set("after_publish", submitted.map(|job| &job.image)),
        })
    }

    /// Publishes it through the default exchange, and waits for the broker's word.
    async fn send_on(&self, channel: &Channel) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let queue = self.queue.as_str().into();
        let properties = self.properties.clone();
        let confirm = channel
            .basic_publish("".into(), queue, options, &self.body, properties)
            .await?;
        if self.crashes {
            std::process::abort();
        }
        confirm.await
    }
}
