//! A hand on the broker for tests: does what no gateway or worker may do.

use std::fmt;
use std::sync::Arc;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};

use super::dial::{SocketGuard, dial};
use super::topology::{QueueLimits, Topology, table, text};
use crate::BoxError;
use crate::job::{ModelName, Priority};
use crate::program::config::{AmqpUrl, Prefix};

/// One connection with nothing behind it that would repair it.
pub struct Broker {
    connection: Connection,
    socket_guard: Arc<SocketGuard>,
    topology: Topology,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.socket_guard.cut();
    }
}

impl Broker {
    /// Connects; the prefix and the models are those of the fleet under test.
    ///
    /// # Errors
    /// Whatever the broker answers.
    pub async fn connect(
        url: &AmqpUrl,
        prefix: Prefix,
        models: Vec<ModelName>,
    ) -> Result<Self, BoxError> {
        let (connection, socket_guard) = dial(url, "selvage test").await?;
        Ok(Self {
            connection,
            socket_guard,
            topology: Topology {
                prefix,
                models,
                limits: QueueLimits::default(),
            },
        })
    }

    async fn channel(&self) -> Result<Channel, BoxError> {
        Ok(self.connection.create_channel().await?)
    }

    /// The name of a priority queue in RabbitMQ.
    #[must_use]
    pub fn priority(&self, model: &ModelName, priority: Priority) -> String {
        self.topology.queue(model, priority)
    }

    /// The name of the dead-letter queue.
    #[must_use]
    pub fn dead(&self) -> String {
        self.topology.dead()
    }

    /// Messages waiting in a queue; `None` where there is no such queue.
    ///
    /// # Errors
    /// Where the broker cannot be asked.
    pub async fn waiting(&self, queue: &str) -> Result<Option<u64>, BoxError> {
        let options = QueueDeclareOptions::durable().passive();
        let channel = self.channel().await?;
        let asking = channel.queue_declare(queue.into(), options, FieldTable::default());
        Ok(asking
            .await
            .ok()
            .map(|queue| u64::from(queue.message_count())))
    }

    /// Puts any bytes into a queue, as the broker would take them from anybody.
    ///
    /// # Errors
    /// Whatever the broker answers.
    pub async fn publish(&self, queue: &str, body: &[u8]) -> Result<(), BoxError> {
        self.put(queue, body, BasicProperties::default()).await
    }

    /// The same, with a header of a name that RabbitMQ uses, but of another type.
    ///
    /// # Errors
    /// Whatever the broker answers.
    pub async fn publish_with_strange_headers(
        &self,
        queue: &str,
        body: &[u8],
    ) -> Result<(), BoxError> {
        let headers = table([("x-delivery-count", text("many"))]);
        let properties = BasicProperties::default()
            .with_message_id("x".repeat(255).into())
            .with_headers(headers);
        self.put(queue, body, properties).await
    }

    async fn put(
        &self,
        queue: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), BoxError> {
        let channel = self.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let options = BasicPublishOptions::default();
        channel
            .basic_publish("".into(), queue.into(), options, body, properties)
            .await?
            .await?;
        Ok(())
    }

    /// Makes a durable queue with other arguments than a queue has.
    ///
    /// # Errors
    /// Whatever the broker answers.
    pub async fn declare_classic(&self, queue: &str) -> Result<(), BoxError> {
        let options = QueueDeclareOptions::durable();
        let arguments = table([("x-queue-type", text("classic"))]);
        self.channel()
            .await?
            .queue_declare(queue.into(), options, arguments)
            .await?;
        Ok(())
    }

    /// Deletes a queue with all that is in it.
    ///
    /// # Errors
    /// Whatever the broker answers.
    pub async fn delete(&self, queue: &str) -> Result<(), BoxError> {
        let options = QueueDeleteOptions::default();
        self.channel()
            .await?
            .queue_delete(queue.into(), options)
            .await?;
        Ok(())
    }

    /// Deletes the fleet's queues and exchange.
    ///
    /// # Errors
    /// Whatever the broker answers.
    pub async fn delete_fleet(&self) -> Result<(), BoxError> {
        for model in &self.topology.models {
            for priority in Priority::ALL {
                self.delete(&self.priority(model, priority)).await?;
            }
        }
        self.delete(&self.dead()).await?;
        let exchange = self.topology.dead_letter_exchange();
        self.channel()
            .await?
            .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
            .await?;
        Ok(())
    }
}
