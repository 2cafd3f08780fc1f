//! Attacks by thousands of slow connections: others are served meanwhile, and each attacker is cut and counted.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use selvage_tests::usage::{allow_descriptors, memory_kib};
use selvage_tests::{Client, Deployment, eventually, pictures};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::raw_http::{exchange, request};

/// Connections of one attack.
const ATTACKERS: usize = 2_000;
/// Connections of a flood from few addresses, twice as many as there are slots.
const FLOOD: u8 = 128;
/// Requests of each kind that another address sends during each way of a flood.
const MEANWHILE: usize = 20;
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

fn report(name: &str, took: Vec<Duration>, memory_kib: u64) {
    println!(
        "{name}: {ATTACKERS} connections; honest GET /livez, each on a new connection: {}; gateway's memory {} MiB",
        percentiles(took),
        memory_kib / 1024
    );
}

/// Describes how long the requests took, in milliseconds.
fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort();
    assert!(!took.is_empty(), "honest clients were answered meanwhile");
    let at = |hundredth: usize| took[(took.len() - 1) * hundredth / 100].as_secs_f64() * 1000.0;
    format!(
        "{} requests, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        took.len(),
        at(50),
        at(99),
        at(100)
    )
}

/// Few addresses take all the slots they get, again and again and in each way; another address is answered meanwhile.
pub(super) async fn a_flood_from_few_addresses_silences_nobody(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let gateway = on.gateways[0];
    let ops = on.with_gateways(|programs| programs[0].ops_address(END_LIMIT));
    let open = || async {
        let client = Client::new(ops);
        client.metric("selvage_gateway_connections", "").await.ok()
    };
    for addresses in [2, 8, 32] {
        let (mut health, mut predictions) = (Vec::new(), Vec::new());
        for way in [Way::Idle, Way::HalfHead, Way::SlowBody] {
            let attackers: JoinSet<_> = (0..FLOOD)
                .map(|n| flood(Ipv4Addr::new(127, 0, 1, n % addresses + 1), gateway, way))
                .collect();
            eventually("most slots are taken", END_LIMIT, || async {
                open().await.filter(|open| *open > 32.0).map(drop)
            })
            .await;
            for _ in 0..MEANWHILE {
                // A client of its own for each request, so that each is a connection of its own.
                let (client, began) = (on.client(), Instant::now());
                client.get("/livez").await?.expect(200);
                health.push(began.elapsed());
                let (client, began) = (on.client(), Instant::now());
                let answer = client.post_image("/predict?wait=60", pictures::unique());
                answer.await?.expect(200);
                predictions.push(began.elapsed());
            }
            let open = open().await.unwrap_or_default();
            assert!(open > 32.0, "{addresses} {way:?}: {open} connections");
            drop(attackers);
        }
        println!(
            "flood from {addresses} addresses: GET /livez {}; POST /predict {}",
            percentiles(health),
            percentiles(predictions)
        );
    }
    Ok(())
}

/// How a connection takes up a slot.
#[derive(Clone, Copy, Debug)]
enum Way {
    Idle,
    HalfHead,
    SlowBody,
}

/// Holds one connection from that address, and makes another whenever it is closed.
async fn flood(address: Ipv4Addr, gateway: SocketAddr, way: Way) {
    let start = match way {
        Way::Idle => b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        Way::HalfHead => b"GET /livez HTTP/1.1\r\nHost: loc".to_vec(),
        Way::SlowBody => request("POST", "/predict", "Content-Length: 1000\r\n", b"\x89"),
    };
    let hold = async || {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        let mut socket = socket
            .connect((Ipv4Addr::LOCALHOST, gateway.port()).into())
            .await?;
        socket.write_all(&start).await?;
        let mut answer = [0; 1024];
        loop {
            tokio::select! {
                read = socket.read(&mut answer) => if read? == 0 { return Ok::<_, std::io::Error>(()) },
                () = sleep(DRIP_EVERY), if matches!(way, Way::SlowBody) => socket.write_all(b"x").await?,
            }
        }
    };
    loop {
        // Closed or refused, it comes again.
        let _closed = hold().await;
        sleep(HONEST_EVERY).await;
    }
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
