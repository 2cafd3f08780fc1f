//! Where a fault plays: private services behind proxies, two gateways, two workers, and what is checked afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use selvage_tests::history::History;
use selvage_tests::private::{Private, Service, socket_of, through};
use selvage_tests::program::Program;
use selvage_tests::proxy::Proxy;
use selvage_tests::services::Services;
use selvage_tests::{Deployment, Settings, eventually, pictures};

/// Longest recovery that is waited for.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// Descriptors a program may hold more than right after its start: connections it makes when they are first needed.
const SPARE_DESCRIPTORS: usize = 8;

/// A fleet on services of its own.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Gateways and workers.
    pub(crate) fleet: Deployment,
    /// Between programs and RabbitMQ.
    pub(crate) broker_line: Proxy,
    /// Between programs and Redis.
    pub(crate) redis_line: Proxy,
    /// The services themselves.
    pub(crate) private: Private,
    seed: u64,
}

impl Stage {
    /// Starts everything.
    pub(crate) async fn set(settings: Settings, seed: u64) -> Self {
        let private = tokio::task::spawn_blocking(Private::start)
            .await
            .expect("services start");
        let services = private.services();
        let broker_line = Proxy::before(socket_of(&services.amqp_url)).await;
        let redis_line = Proxy::before(socket_of(&services.redis_url)).await;
        let proxied = Services {
            amqp_url: through(&services.amqp_url, broker_line.address()),
            redis_url: through(&services.redis_url, redis_line.address()),
        };
        // A job may live so long: short enough that a test sees its end, long enough for every fault.
        let mut settings = settings;
        if settings
            .environment
            .iter()
            .all(|(name, _)| *name != "SELVAGE_JOB_DEADLINE")
        {
            settings = settings.with("SELVAGE_JOB_DEADLINE", 60);
        }
        let fleet = Deployment::start_on(Some(proxied), settings).await;
        Self {
            fleet,
            broker_line,
            redis_line,
            private,
            seed,
        }
    }

    /// The choices a fault makes: the same seed, the same choices.
    pub(crate) fn choices(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed)
    }

    /// The gateways' addresses.
    pub(crate) fn gateways(&self) -> &[SocketAddr] {
        &self.fleet.gateways
    }

    /// Does something to a service; returns when it has had its effect.
    pub(crate) fn control(&self, service: Service, action: &'static str) {
        tokio::task::block_in_place(|| self.private.control(service, action));
    }

    /// Waits until answers and accepted jobs come in, so that the fault meets a working fleet.
    pub(crate) async fn wait_until_work_flows(&self, history: &History) {
        let flows = || async {
            let verdict = history.verdict();
            (verdict.answered + verdict.accepted >= 10 && verdict.answered >= 5).then_some(())
        };
        eventually("work flows", RECOVERY_LIMIT, flows).await;
    }

    /// One more gateway on the same services, with no traffic.
    pub(crate) async fn idle_gateway(&self) -> Deployment {
        let mut settings = Settings::default().workers(0);
        settings.gateways = 1;
        Deployment::start_on(Some(self.private.services()), settings).await
    }

    /// Waits until every gateway answers a new image and accepts a job.
    pub(crate) async fn wait_until_served(&self) {
        for gateway in 0..self.gateways().len() {
            let client = self.fleet.client_of(gateway);
            let served = || async {
                let answer = client
                    .post_image("/predict?wait=5", pictures::unique())
                    .await
                    .ok()?;
                let job = client.post_image("/jobs", pictures::unique()).await.ok()?;
                (answer.status == 200 && job.status == 202).then_some(())
            };
            eventually("a gateway serves again", RECOVERY_LIMIT, served).await;
        }
    }

    /// What is left behind although everything has ended.
    pub(crate) async fn leaks(&self, before: &[(u32, usize)]) -> Vec<String> {
        let quiet = || async { self.busy_queues().is_empty().then_some(()) };
        let drained = tokio::time::timeout(
            RECOVERY_LIMIT,
            eventually("queues drain", RECOVERY_LIMIT * 2, quiet),
        )
        .await;
        let mut leaks = if drained.is_err() {
            self.busy_queues()
        } else {
            Vec::new()
        };
        let base = || async {
            let more = self.more_descriptors(before);
            more.is_empty().then_some(())
        };
        let closed = eventually("descriptors are closed", RECOVERY_LIMIT * 2, base);
        if tokio::time::timeout(RECOVERY_LIMIT, closed).await.is_err() {
            leaks.extend(self.more_descriptors(before));
        }
        let overdue = self.private.redis(&["--scan", "--pattern", "*:deadlines"]);
        for key in overdue.lines() {
            let now = self.private.redis(&["TIME"]);
            let now_ms = now
                .lines()
                .next()
                .and_then(|s| s.parse::<u64>().ok())
                .unwrap_or_default()
                * 1000;
            let late = (now_ms.saturating_sub(10_000)).to_string();
            let ids = self.private.redis(&["ZRANGEBYSCORE", key, "-inf", &late]);
            leaks.extend(
                ids.lines()
                    .filter(|id| !id.is_empty())
                    .map(|id| format!("{id} is past its deadline")),
            );
        }
        leaks
    }

    /// Open descriptors of each program, by its process id.
    pub(crate) fn descriptors(&self) -> Vec<(u32, usize)> {
        let count = |programs: &mut Vec<Program>| -> Vec<_> {
            programs
                .iter()
                .filter_map(|program| Some((program.pid(), program.descriptors()?)))
                .collect()
        };
        let mut all = self.fleet.with_gateways(count);
        all.extend(self.fleet.with_workers(count));
        all
    }

    /// Programs that hold more descriptors than before; what a started program opens lazily is let pass.
    fn more_descriptors(&self, before: &[(u32, usize)]) -> Vec<String> {
        let more = |(pid, now): (u32, usize)| {
            let (_, base) = before.iter().find(|(other, _)| *other == pid)?;
            (now > base + SPARE_DESCRIPTORS)
                .then(|| format!("process {pid} holds {now} descriptors, {base} before"))
        };
        self.descriptors().into_iter().filter_map(more).collect()
    }

    /// Queues of jobs with messages ready or unacknowledged.
    fn busy_queues(&self) -> Vec<String> {
        let list = tokio::task::block_in_place(|| {
            self.private.rabbitmqctl(&[
                "--quiet",
                "list_queues",
                "--no-table-headers",
                "name",
                "messages",
            ])
        });
        let busy = |line: &str| {
            let (name, messages) = line.split_once('\t')?;
            let is_priority_queue = name.ends_with(".interactive") || name.ends_with(".batch");
            (is_priority_queue && messages.trim() != "0")
                .then(|| format!("{name} still holds {}", messages.trim()))
        };
        list.lines().filter_map(busy).collect()
    }

    /// The last log lines of every program.
    pub(crate) fn logs(&self) -> String {
        let gateways = self
            .fleet
            .with_gateways(|programs| programs.iter().map(|p| p.tail()).collect::<Vec<_>>());
        let workers = self
            .fleet
            .with_workers(|programs| programs.iter().map(|p| p.tail()).collect::<Vec<_>>());
        format!(
            "gateways:\n{}\nworkers:\n{}",
            gateways.join("\n"),
            workers.join("\n")
        )
    }
}
