//! A fleet of its own on the broker of this test run: a random prefix, a gateway, a worker, and a hand on the broker.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use selvage_core::job::{Job, ModelName, Priority};
use selvage_core::program::config::{AmqpUrl, AmqpUrls, Prefix};
use selvage_core::queue::rabbit::testing::Broker;
use selvage_core::queue::rabbit::{RabbitQueue, RabbitSettings, Role};
use selvage_core::queue::suite::{CleanUp, Fixture, job};
use selvage_core::queue::{Consumer, Delivery, Queue, Reports};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const VARIABLE: &str = "SELVAGE_TEST_AMQP_URL";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The broker of this test run.
pub(crate) fn url() -> AmqpUrl {
    let url = env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set: run `make test`, or `scripts/services run -- cargo test …`")
    });
    url.parse().expect("the address of the test broker")
}

/// The same broker at another place, or with other credentials or another virtual host.
pub(crate) fn url_with(change: impl FnOnce(&mut url::Url)) -> AmqpUrl {
    let mut url = url().parts().clone();
    change(&mut url);
    url.as_str().parse().expect("a changed address")
}

pub(crate) struct Fleet {
    pub(crate) prefix: Prefix,
    pub(crate) model: ModelName,
    pub(crate) other_model: ModelName,
    pub(crate) broker: Arc<Broker>,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        let prefix: Prefix = format!("test-{:016x}", rand::random::<u64>())
            .parse()
            .unwrap();
        let model: ModelName = "first".parse().unwrap();
        let other_model: ModelName = "second".parse().unwrap();
        let models = vec![model.clone(), other_model.clone()];
        let broker = Broker::connect(&url(), prefix.clone(), models).await;
        Self {
            broker: Arc::new(broker.expect("the test broker answers")),
            prefix,
            model,
            other_model,
        }
    }

    pub(crate) fn settings(&self, role: Role, url: impl Into<AmqpUrls>) -> RabbitSettings {
        let models = vec![self.model.clone(), self.other_model.clone()];
        RabbitSettings::new(url, self.prefix.clone(), models, role)
    }

    pub(crate) async fn connect(
        &self,
        role: Role,
        url: impl Into<AmqpUrls>,
    ) -> (Arc<RabbitQueue>, Reports) {
        let settings = self.settings(role, url);
        RabbitQueue::connect(settings).await.unwrap()
    }

    pub(crate) fn interactive(&self) -> String {
        self.broker.priority(&self.model, Priority::Interactive)
    }

    pub(crate) fn job(&self, n: u32) -> Job {
        job(&self.model, n)
    }

    pub(crate) async fn consumer(&self, queue: &RabbitQueue, prefetch: u16) -> Box<dyn Consumer> {
        let stop = CancellationToken::new();
        let consuming = queue.consume(&self.model, Priority::Interactive, prefetch, stop);
        timeout(PATIENCE, consuming).await.unwrap().unwrap()
    }

    pub(crate) async fn end(&self, queues: &[&Arc<RabbitQueue>]) {
        for queue in queues {
            queue.close().await;
        }
        self.broker.delete_fleet().await.unwrap();
    }
}

pub(crate) async fn take(consumer: &mut Box<dyn Consumer>) -> Delivery {
    let next = timeout(PATIENCE, consumer.next()).await;
    next.expect("a delivery in time")
        .expect("a consumer that goes on")
}

#[async_trait]
impl CleanUp for Fleet {
    async fn clean_up(&self) {
        self.broker.delete_fleet().await.unwrap();
    }
}

/// What the suite runs on.
pub(crate) async fn fixture(capacity: usize) -> Fixture {
    let fleet = Fleet::new().await;
    let limited = |role| {
        let mut settings = fleet.settings(role, url());
        settings.limits.interactive_messages = u32::try_from(capacity).unwrap();
        settings
    };
    let (gateway, reports) = RabbitQueue::connect(limited(Role::Gateway)).await.unwrap();
    let (worker, _) = RabbitQueue::connect(limited(Role::Worker)).await.unwrap();
    Fixture {
        dead_letters: gateway.dead_letters(),
        gateway,
        reports,
        worker,
        model: fleet.model.clone(),
        other_model: fleet.other_model.clone(),
        capacity,
        sends_ahead: true,
        clean_up: Some(Box::new(fleet)),
    }
}
