//! Attacks by thousands of slow connections: others are served meanwhile, and each attacker is cut and counted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use selvage_tests::usage::{allow_descriptors, memory_kib};
use selvage_tests::{Client, Deployment, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::raw_http::{exchange, request};

/// Connections of one attack.
const ATTACKERS: usize = 2_000;
/// Descriptors of this process while all attacks run at once.
const DESCRIPTORS: u64 = 3 * ATTACKERS as u64 + 1_000;
/// Longest time until all attackers are cut: three times the longest limit of the gateway that applies.
const END_LIMIT: Duration = Duration::from_secs(100);
/// How often an honest client comes, on a connection of its own.
const HONEST_EVERY: Duration = Duration::from_millis(20);
/// How often a dripping client sends something.
const DRIP_EVERY: Duration = Duration::from_secs(2);
/// Requests a client sends at once that never reads; their answers are far more than the sockets' buffers hold.
const UNREAD: usize = 400;

pub(super) async fn slow_heads_do_not_slow_others(on: Arc<Deployment>) -> anyhow::Result<()> {
    let counted = ("selvage_gateway_connections_cut_total", "slow_head");
    under_attack(&on, "slow heads", counted, drip_head).await
}

pub(super) async fn slow_bodies_do_not_slow_others(on: Arc<Deployment>) -> anyhow::Result<()> {
    let counted = ("selvage_gateway_http_requests_total", "code=\"408\"");
    under_attack(&on, "slow bodies", counted, stall_body).await
}

pub(super) async fn slow_readers_do_not_slow_others(on: Arc<Deployment>) -> anyhow::Result<()> {
    let counted = ("selvage_gateway_connections_cut_total", "slow_read");
    under_attack(&on, "slow readers", counted, never_read).await
}

/// Attacks until every attacker is counted as cut, and measures what honest clients see meanwhile.
async fn under_attack<A>(
    on: &Deployment,
    name: &str,
    (metric, with): (&str, &str),
    attack: fn(SocketAddr) -> A,
) -> anyhow::Result<()>
where
    A: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    allow_descriptors(DESCRIPTORS);
    let (gateway, client) = (on.gateways[0], on.client());
    let attackers: JoinSet<_> = (0..ATTACKERS).map(|_| attack(gateway)).collect();
    let took = Mutex::new(Vec::new());
    let all_cut = eventually("all attackers are cut and counted", END_LIMIT, || {
        let client: Client = client.clone();
        async move {
            let cut = client.metric(metric, with).await.ok()?;
            (cut >= ATTACKERS as f64).then_some(())
        }
    });
    let honest = async {
        loop {
            let began = Instant::now();
            let status = exchange(gateway, &request("GET", "/livez", "", b"")).await?;
            anyhow::ensure!(status == Some(200), "an honest client got {status:?}");
            took.lock().unwrap().push(began.elapsed());
            sleep(HONEST_EVERY).await;
        }
    };
    let refused: anyhow::Result<()> = tokio::select! {
        () = all_cut => Ok(()),
        refused = honest => refused,
    };
    refused?;
    let memory = on.with_gateways(|programs| memory_kib(programs[0].pid()));
    report(name, took.into_inner().unwrap(), memory);
    drop(attackers);
    eventually("their connections are gone", END_LIMIT, || {
        let client = client.clone();
        async move {
            let open = client
                .metric("selvage_gateway_connections", "")
                .await
                .ok()?;
            (open <= 2.0).then_some(())
        }
    })
    .await;
    Ok(())
}

fn report(name: &str, mut took: Vec<Duration>, memory_kib: u64) {
    took.sort();
    assert!(!took.is_empty(), "honest clients were answered meanwhile");
    let at = |hundredth: usize| took[(took.len() - 1) * hundredth / 100].as_secs_f64() * 1000.0;
    println!(
        "{name}: {ATTACKERS} connections; {} honest GET /livez, each on a new connection: p50 {:.1} ms, p99 {:.1} ms, \
         longest {:.1} ms; gateway's memory {} MiB",
        took.len(),
        at(50),
        at(99),
        at(100),
        memory_kib / 1024
    );
}

/// Begins a head, and adds a header now and then for as long as it is let.
async fn drip_head(gateway: SocketAddr) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(gateway).await?;
    socket
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        .await?;
    loop {
        sleep(DRIP_EVERY).await;
        socket.write_all(b"x: y\r\n").await?;
    }
}

/// Announces a body, sends its beginning, and waits for what the gateway says.
async fn stall_body(gateway: SocketAddr) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(gateway).await?;
    let start = request(
        "POST",
        "/predict",
        "Content-Length: 100000\r\n",
        &[0x89; 10],
    );
    socket.write_all(&start).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(())
}

/// Asks again and again and reads nothing.
pub(super) async fn never_read(gateway: SocketAddr) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut socket = socket.connect(gateway).await?;
    let ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(UNREAD);
    // The gateway stops reading when it cannot write, so this may not end.
    let _cut_off = socket.write_all(&ask).await;
    std::future::pending().await
}
