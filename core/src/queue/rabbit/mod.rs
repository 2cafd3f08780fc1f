//! The RabbitMQ backend. The only import of `lapin` in the workspace.
//!
//! | file | owns |
//! |---|---|
//! | `settings` | how a process uses the broker |
//! | `dial` | opening a connection, and being able to end it |
//! | `connection` | keeping a connection up |
//! | `topology` | names and arguments of queues |
//! | `publish_buffer`, `publisher` | jobs to messages, one unconfirmed message per channel |
//! | `consumer`, `settle` | messages to deliveries, and their end |
//! | `replies` | reports on their way back |
//! | `dead_letters` | dead-lettered messages, until they are stored |
//!
//! Each process has two connections, because a broker that runs short of memory stops reading from those that publish,
//! and acknowledgements must get through all the same.

mod connection;
mod consumer;
mod counters;
mod dead_letters;
mod dial;
mod error;
mod probe;
mod publish_buffer;
mod publisher;
mod replies;
mod settings;
mod settle;
#[cfg(any(test, feature = "suite"))]
pub mod testing;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use counters::QueueCounters;
pub use publish_buffer::{Grouping, PublishBufferLimits};
pub use settings::{RabbitSettings, Role};
pub use topology::QueueLimits;

use self::connection::{Link, SetUp, Supervisor};
use self::consumer::Order;
use self::dead_letters::{RabbitDeadLetterQueue, unavailable};
use self::publish_buffer::PublishBuffer;
use self::publisher::{CONFIRM, Publishing};
use self::replies::{ConsumeSetUp, PublishSetUp, ReplyInbox, ReplySender, SharedChannel};
use self::topology::{Topology, waiting};
use super::dead_letters::DeadLetterQueue;
use super::{Consumer, Health, PublishError, Queue, QueueError, Reports};
use crate::job::{Job, ModelName, Priority, ReplyAddress};
use crate::outcome::Report;

/// Batches of reports that may wait for the gateway.
const WAITING_REPORTS: usize = 1024;
/// Longest wait for tasks to end after they were stopped.
const END: Duration = Duration::from_secs(5);

/// Jobs and reports through RabbitMQ.
#[derive(Debug)]
pub struct RabbitQueue {
    publishing: Arc<Publishing>,
    consuming: Link,
    address: watch::Receiver<Option<ReplyAddress>>,
    replies: ReplySender,
    /// Asked one question at a time: a queue that is missing closes the channel.
    asking: Mutex<SharedChannel>,
    dead_letters: Arc<RabbitDeadLetterQueue>,
    publishers: TaskTracker,
    supervisors: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl RabbitQueue {
    /// Connects, declares the queues, and keeps both so from now on.
    ///
    /// Waits for a broker that is away for as long as the settings say, then returns all the same: [`Queue::health`] is
    /// [`Health::Down`] until it comes. The reports of a worker end at once.
    ///
    /// # Errors
    /// [`QueueError::Refused`] for credentials, virtual host, permissions or queues with other arguments.
    pub async fn connect(settings: RabbitSettings) -> Result<(Arc<Self>, Reports), QueueError> {
        let start_up = settings.start_up;
        let (queue, reports) = Self::start(settings);
        let links = async {
            tokio::try_join!(
                queue.publishing.link.usable_or_refused(),
                queue.consuming.usable_or_refused(),
            )
        };
        match timeout(start_up, links).await {
            Ok(Ok(_)) | Err(_) => Ok((Arc::new(queue), reports)),
            Ok(Err(error)) => {
                queue.close().await;
                Err(error.into())
            }
        }
    }

    /// The dead-lettered messages that are not stored yet.
    #[must_use]
    pub fn dead_letters(&self) -> Arc<dyn DeadLetterQueue> {
        Arc::clone(&self.dead_letters) as _
    }

    fn start(settings: RabbitSettings) -> (Self, Reports) {
        let stop = CancellationToken::new();
        let supervisors = TaskTracker::new();
        let publishers = TaskTracker::new();
        let topology = Arc::new(Topology {
            prefix: settings.prefix.clone(),
            models: settings.models.clone(),
            limits: settings.limits,
        });
        let (sender, reports) = mpsc::channel(WAITING_REPORTS);
        let (address, current_address) = watch::channel(None);
        let inbox = (settings.role == Role::Gateway).then(|| ReplyInbox {
            reports: sender,
            address,
            tasks: supervisors.clone(),
            counters: settings.counters.clone(),
        });
        let supervise = |purpose: &str, set_up: Box<dyn SetUp>| {
            let supervisor = Supervisor {
                urls: settings.urls.clone(),
                name: format!(
                    "{} {} {purpose} {}",
                    settings.prefix.as_str(),
                    settings.role.as_str(),
                    std::process::id()
                ),
                set_up,
                lost: settings.counters.lost_connections.clone(),
                stop: stop.clone(),
            };
            let (link, keeping) = supervisor.link();
            supervisors.spawn(keeping);
            link
        };
        let publishing = supervise("publish", Box::new(PublishSetUp(Arc::clone(&topology))));
        let consuming = supervise(
            "consume",
            Box::new(ConsumeSetUp {
                topology: Arc::clone(&topology),
                inbox,
            }),
        );
        let shared = |link: &Link| SharedChannel::new(link.clone());
        if settings.role == Role::Gateway {
            let nowhere = topology.nowhere();
            supervisors.spawn(probe::probe(shared(&publishing), nowhere, stop.clone()));
        }
        let asking = Mutex::new(shared(&publishing));
        let replies = ReplySender {
            channel: shared(&publishing),
            topology: Arc::clone(&topology),
        };
        let publishing = Arc::new(Publishing {
            link: publishing,
            topology,
            publish_buffer: Arc::new(PublishBuffer::new(
                settings.publish_buffer,
                settings.grouping,
            )),
            counters: settings.counters,
            tasks: publishers.clone(),
            missing: parking_lot::Mutex::default(),
        });
        let queue = Self {
            replies,
            asking,
            dead_letters: Arc::new(RabbitDeadLetterQueue {
                channel: shared(&consuming),
                topology: Arc::clone(&publishing.topology),
                lost_settlements: publishing.counters.lost_settlements.clone(),
            }),
            publishing,
            consuming,
            address: current_address,
            publishers,
            supervisors,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        };
        for _ in 0..settings.publishers.max(1) {
            queue.publishers.spawn(Arc::clone(&queue.publishing).run());
        }
        (queue, reports)
    }
}

impl Drop for RabbitQueue {
    fn drop(&mut self) {
        self.publishing.publish_buffer.close();
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    async fn publish(&self, job: Job) -> Result<(), PublishError> {
        self.publishing.publish(job).await
    }

    async fn consume(
        &self,
        model: &ModelName,
        priority: Priority,
        prefetch: u16,
        stop: CancellationToken,
    ) -> Result<Box<dyn Consumer>, QueueError> {
        let order = Order {
            link: self.consuming.clone(),
            topology: Arc::clone(&self.publishing.topology),
            counters: self.publishing.counters.clone(),
            model: model.clone(),
            priority,
            prefetch,
            stop,
        };
        Ok(Box::new(order.open().await?))
    }

    fn reply_address(&self) -> Option<ReplyAddress> {
        self.address.borrow().clone()
    }

    async fn reply(&self, to: &ReplyAddress, reports: Vec<Report>) -> Result<(), QueueError> {
        let sent = self.replies.send(to, &reports).await;
        sent.map_err(unavailable)
    }

    async fn depth(&self, model: &ModelName, priority: Priority) -> Result<u64, QueueError> {
        let queue = self.publishing.topology.queue(model, priority);
        let channel = self.asking.lock().await;
        let asked = channel.run(async |channel| waiting(channel, queue).await);
        asked.await.map_err(unavailable)
    }

    fn health(&self) -> Health {
        self.publishing.link.health()
    }

    async fn close(&self) {
        // First what callers still wait for, then the connections it travels through.
        self.publishing.publish_buffer.close();
        self.publishers.close();
        let published = timeout(CONFIRM + END, self.publishers.wait()).await;
        self.stop.cancel();
        self.supervisors.close();
        let ended = timeout(END, self.supervisors.wait()).await;
        if published.is_err() || ended.is_err() {
            tracing::warn!("the queue was closed before all its tasks had ended");
        }
    }
}
