//! The RabbitMQ and Redis that `scripts/services run` started for this test run.

use std::env;

/// Addresses of the services under test.
#[derive(Clone, Debug)]
pub struct Services {
    /// RabbitMQ.
    pub amqp_url: String,
    /// Redis.
    pub redis_url: String,
}

impl Services {
    /// The services of this run.
    ///
    /// # Panics
    /// When there are none: a fleet test that quietly passes without a broker proves nothing.
    #[must_use]
    pub fn from_environment() -> Self {
        let url = |name: &str| {
            env::var(name).unwrap_or_else(|_| {
                panic!(
                    "{name} is not set: run `make test`, or `scripts/services run -- cargo test …`"
                )
            })
        };
        Self {
            amqp_url: url("SELVAGE_TEST_AMQP_URL"),
            redis_url: url("SELVAGE_TEST_REDIS_URL"),
        }
    }
}
