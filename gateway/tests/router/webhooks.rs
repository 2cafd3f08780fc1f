//! Webhooks: whose are sent while receivers hang.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use selvage_core::key::Digest;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::rig::{Plan, Rig, boots, eventually, png};

/// More than one gateway sends at once.
const HANGING: u8 = 150;

/// A receiver that takes messages and never answers, under all addresses of this machine.
struct Silent {
    port: u16,
    received: Arc<AtomicUsize>,
    /// Connections whose sender has given up.
    closed: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (received, closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&received), Arc::clone(&closed));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (received, closed) = counts.clone();
                connections.spawn(async move {
                    received.fetch_add(1, Ordering::SeqCst);
                    let mut bytes = [0; 4096];
                    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            port,
            received,
            closed,
            _serving: serving,
        }
    }

    /// Where a job's end is sent: each number is a host of its own.
    fn url(&self, host: u8) -> String {
        let address = Ipv4Addr::new(127, 0, 1, host);
        format!("http://{address}:{}/hook", self.port)
    }

    fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }

    fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

fn sending() -> Plan {
    let line = |name: &str| {
        let hash = Digest::of(format!("{name}-key").as_bytes()).to_hex();
        format!("{name} {hash}\n")
    };
    let mut plan = Plan {
        keys: Some(line("ann") + &line("bob")),
        ..Plan::default()
    };
    let secret = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
    plan.limits.webhooks.secret = Some(secret.parse().unwrap());
    plan.limits.webhooks.allow_private = true;
    plan
}

async fn submit(rig: &Rig, owner: &str, seed: u8, url: &str) {
    let body = json!({"image": BASE64_STANDARD.encode(png(seed)), "webhook": {"url": url}});
    let key = format!("Bearer {owner}-key");
    let headers = [
        (AUTHORIZATION.as_str(), key.as_str()),
        (CONTENT_TYPE.as_str(), "application/json"),
    ];
    let answer = rig.post_with("/jobs", body.to_string().into_bytes(), &headers);
    answer.await.expect(202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_of_one_owner_that_hang_do_not_hold_up_another_owners() {
    let rig = Rig::new(sending());
    let (silent, other) = (Silent::start().await, Silent::start().await);
    let hosts: HashSet<String> = (0..HANGING).map(|host| silent.url(host)).collect();
    assert_eq!(hosts.len(), usize::from(HANGING));
    for (seed, url) in (0..HANGING).zip(&hosts) {
        submit(&rig, "ann", seed, url).await;
    }
    rig.work(boots);
    eventually(async || silent.received() >= 8).await;
    submit(&rig, "bob", HANGING, &other.url(0)).await;
    eventually(async || other.received() == 1).await;
    assert_eq!(silent.closed(), 0, "it waited for a try of another owner");
}
