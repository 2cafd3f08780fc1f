//! Selvage as it is deployed: one embedded gateway, or gateways and workers on a real broker and store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Mutex;
use std::time::Duration;

use crate::client::Client;
use crate::eventually::eventually;
use crate::program::{self, Program, project};
use crate::services::Services;
use crate::settings::{Settings, Shape};

/// Longest start that is waited for; programs on a machine that compiles beside them are slow.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running deployment; its processes end with it.
#[derive(Debug)]
pub struct Deployment {
    /// Its shape.
    pub shape: Shape,
    /// Its gateways' addresses; one in the embedded shape.
    pub gateways: Vec<SocketAddr>,
    environment: Mutex<Vec<(&'static str, String)>>,
    key: Option<&'static str>,
    // Workers first: fields are dropped in order, and a worker without a gateway is idle, not confused.
    workers: Mutex<Vec<Program>>,
    gateway_programs: Mutex<Vec<Program>>,
    models: tempfile::TempDir,
}

impl Deployment {
    /// Starts a deployment with the shipped models and a small one and waits until it is ready.
    ///
    /// # Panics
    /// When a program does not become ready; the message has its log.
    pub async fn start(shape: Shape, settings: Settings) -> Self {
        let services = (shape == Shape::Fleet).then(Services::from_environment);
        Self::start_on(services, settings).await
    }

    /// Starts a fleet on these services, or an embedded gateway where there are none.
    ///
    /// # Panics
    /// As [`Deployment::start`].
    pub async fn start_on(services: Option<Services>, settings: Settings) -> Self {
        let shape = if services.is_some() {
            Shape::Fleet
        } else {
            Shape::Embedded
        };
        let models = models_folder();
        let mut environment = vec![
            ("SELVAGE_LISTEN", "127.0.0.1:0".to_owned()),
            ("SELVAGE_OPS_LISTEN", "127.0.0.1:0".to_owned()),
            ("SELVAGE_MODELS", models.path().display().to_string()),
            ("SELVAGE_SESSIONS", "1".to_owned()),
        ];
        if let Some(services) = services {
            let prefix = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
            environment.push(("SELVAGE_AMQP_URL", services.amqp_url));
            environment.push(("SELVAGE_REDIS_URL", services.redis_url));
            environment.push(("SELVAGE_PREFIX", prefix));
        }
        environment.extend(settings.environment);
        let count = if shape == Shape::Fleet {
            settings.gateways
        } else {
            1
        };
        let gateway_programs: Vec<Program> = (0..count)
            .map(|_| match settings.descriptors {
                None => Program::start("selvage-gateway", &environment),
                Some(n) => Program::start_with_descriptors("selvage-gateway", &environment, n),
            })
            .collect();
        let gateways = gateway_programs
            .iter()
            .map(|program| program.address(START_LIMIT))
            .collect();
        let deployment = Self {
            shape,
            gateways,
            environment: Mutex::new(environment),
            key: settings.key,
            workers: Mutex::default(),
            gateway_programs: Mutex::new(gateway_programs),
            models,
        };
        if shape == Shape::Fleet {
            deployment.add_workers(settings.workers);
        }
        for gateway in 0..deployment.gateways.len() {
            deployment.wait_until_ready(gateway).await;
        }
        if shape == Shape::Fleet && settings.workers > 0 {
            deployment.wait_for_workers(settings.workers).await;
        }
        deployment
    }

    /// A fleet that somebody else has started and ends, known by the address of its gateway only.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    #[must_use]
    pub fn attached(gateway: SocketAddr) -> Self {
        Self {
            shape: Shape::Fleet,
            gateways: vec![gateway],
            environment: Mutex::default(),
            key: None,
            workers: Mutex::default(),
            gateway_programs: Mutex::default(),
            models: models_folder(),
        }
    }

    /// Starts so many more workers; they join by themselves.
    ///
    /// # Panics
    /// When a worker cannot be started.
    pub fn add_workers(&self, count: usize) {
        self.add_workers_with(count, &[]);
    }

    /// Starts so many more workers with settings of their own.
    ///
    /// # Panics
    /// When a worker cannot be started.
    pub fn add_workers_with(&self, count: usize, settings: &[(&'static str, &str)]) {
        let mut environment = self.environment.lock().unwrap().clone();
        environment.extend(
            settings
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let started = (0..count).map(|_| Program::start("selvage-worker", &environment));
        self.workers.lock().unwrap().extend(started);
    }

    /// Starts another worker in the place of each that has ended; returns how many.
    ///
    /// # Panics
    /// When a worker cannot be started.
    pub fn revive_workers(&self) -> usize {
        let environment = self.environment.lock().unwrap().clone();
        let mut revived = 0;
        for worker in self.workers.lock().unwrap().iter_mut().filter_map(ended) {
            *worker = Program::start("selvage-worker", &environment);
            revived += 1;
        }
        revived
    }

    /// Starts another gateway, on the same address, in the place of each that has ended; returns how many.
    ///
    /// # Panics
    /// When a gateway cannot be started.
    pub fn revive_gateways(&self) -> usize {
        let mut environment = self.environment.lock().unwrap().clone();
        let mut revived = 0;
        let mut programs = self.gateway_programs.lock().unwrap();
        for (program, address) in programs.iter_mut().zip(&self.gateways) {
            if let Some(gateway) = ended(program) {
                environment.push(("SELVAGE_LISTEN", address.to_string()));
                *gateway = Program::start("selvage-gateway", &environment);
                revived += 1;
            }
        }
        revived
    }

    /// What the names of its queues and keys begin with; empty in the embedded shape.
    ///
    /// # Panics
    /// When another test thread panicked while it held the settings.
    #[must_use]
    pub fn prefix(&self) -> String {
        let environment = self.environment.lock().unwrap();
        let prefix = environment
            .iter()
            .find(|(name, _)| *name == "SELVAGE_PREFIX");
        prefix.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Gives a setting to every program that is started from now on.
    ///
    /// # Panics
    /// When another test thread panicked while it held the settings.
    pub fn set(&self, name: &'static str, value: String) {
        self.forget(name);
        self.environment.lock().unwrap().push((name, value));
    }

    /// Leaves a setting out of every program that is started from now on.
    ///
    /// # Panics
    /// When another test thread panicked while it held the settings.
    pub fn forget(&self, name: &str) {
        self.environment
            .lock()
            .unwrap()
            .retain(|(setting, _)| *setting != name);
    }

    /// Runs a command of the gateway's program with the deployment's settings, to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Output {
        let environment = self.environment.lock().unwrap().clone();
        program::output("selvage-gateway", arguments, &environment)
    }

    /// Runs `with` on the workers.
    ///
    /// # Panics
    /// When another test thread panicked while it held them.
    pub fn with_workers<T>(&self, with: impl FnOnce(&mut Vec<Program>) -> T) -> T {
        with(&mut self.workers.lock().unwrap())
    }

    /// Runs `with` on the gateways' programs.
    ///
    /// # Panics
    /// When another test thread panicked while it held them.
    pub fn with_gateways<T>(&self, with: impl FnOnce(&mut Vec<Program>) -> T) -> T {
        with(&mut self.gateway_programs.lock().unwrap())
    }

    /// A client of the first gateway.
    ///
    /// # Panics
    /// When no client can be made.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// A client of that gateway, with the deployment's key.
    ///
    /// # Panics
    /// When no client can be made.
    #[must_use]
    pub fn client_of(&self, gateway: usize) -> Client {
        let client = Client::new(self.gateways[gateway]);
        match self.key {
            Some(key) => client.with_key(key),
            None => client,
        }
    }

    /// A client of the last gateway; in a fleet another one than [`Deployment::client`]'s.
    ///
    /// # Panics
    /// When no client can be made.
    #[must_use]
    pub fn other_client(&self) -> Client {
        self.client_of(self.gateways.len() - 1)
    }

    /// The folder of models this deployment serves.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.models.path().to_owned()
    }

    /// Waits until a gateway is ready.
    ///
    /// # Panics
    /// When it is not within the limit.
    pub async fn wait_until_ready(&self, gateway: usize) {
        let client = Client::new(self.gateways[gateway]);
        let ready = || async {
            client
                .get("/readyz")
                .await
                .ok()
                .filter(|answer| answer.status == 200)
                .map(drop)
        };
        eventually("a gateway becomes ready", START_LIMIT, ready).await;
    }

    /// Waits until the first gateway knows of so many workers of its first model.
    ///
    /// # Panics
    /// When they do not within the limit.
    pub async fn wait_for_workers(&self, count: usize) {
        let client = self.client();
        let known = || async {
            let models = client.get("/models").await.ok()?;
            let name = models.json["models"][0]["name"].as_str()?.to_owned();
            let answer = client.get(&format!("/models/{name}")).await.ok()?;
            (answer.json["workers"].as_array()?.len() >= count).then_some(())
        };
        eventually("the workers announce themselves", START_LIMIT, known).await;
    }
}

fn ended(program: &mut Program) -> Option<&mut Program> {
    if program.is_alive() {
        None
    } else {
        Some(program)
    }
}

/// A models folder with the shipped models and the small RGB one, in a place of its own.
fn models_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, source) in [
        ("clothing", "models/clothing"),
        ("fashion-mnist", "models/fashion-mnist"),
        ("rgb-tiny", "tests/fixtures/rgb-tiny"),
    ] {
        let target = folder.path().join(name);
        std::fs::create_dir(&target).expect("a folder of its own");
        for file in ["model.toml", "model.onnx"] {
            let source = project().join(source).join(file);
            std::fs::copy(&source, target.join(file)).unwrap_or_else(|error| {
                panic!("{} is part of the project: {error}", source.display())
            });
        }
    }
    folder
}
