//! What a deployment is like: its shape, and what differs from a plain one.

/// The two shapes of the one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Gateway and worker in one process, no services.
    Embedded,
    /// Two gateways and two workers on RabbitMQ and Redis.
    Fleet,
}

impl Shape {
    /// Both shapes.
    pub const ALL: [Self; 2] = [Self::Embedded, Self::Fleet];

    /// The shape's name in test names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Fleet => "fleet",
        }
    }
}

/// What differs from a plain deployment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Gateways of a fleet.
    pub gateways: usize,
    /// Workers of a fleet.
    pub workers: usize,
    /// File descriptors each gateway is allowed; `None` leaves them as they are.
    pub descriptors: Option<u64>,
    /// Further settings of every program, as environment variables; they win over the deployment's own.
    pub environment: Vec<(&'static str, String)>,
    /// The key its clients show.
    pub key: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateways: 2,
            workers: 2,
            descriptors: None,
            environment: Vec::new(),
            key: None,
        }
    }
}

impl Settings {
    /// With one more environment variable.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.push((name, value.to_string()));
        self
    }

    /// With gateways that are allowed so many file descriptors.
    #[must_use]
    pub const fn descriptors(mut self, descriptors: u64) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// With so many workers.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }
}
