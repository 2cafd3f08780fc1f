//! Where connections end: the cap, no descriptors left, and clients that will not go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use selvage_tests::usage::{cpu_time, descriptors};
use selvage_tests::{Deployment, Shape, eventually, pictures};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::flood::never_read;
use super::raw_http::request;

/// Longest wait for something that happens at once on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);
/// The gateway's longest time from SIGTERM to its end, unless it is set.
const DRAIN: Duration = Duration::from_secs(20);
/// How long processor time is counted.
const COUNTED: Duration = Duration::from_secs(3);

const ALIVE: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Reads until the text has come.
async fn read_until(socket: &mut TcpStream, text: &str) -> anyhow::Result<String> {
    let mut read = Vec::new();
    loop {
        let came = socket.read_buf(&mut read).await?;
        let so_far = String::from_utf8_lossy(&read);
        anyhow::ensure!(came > 0, "it hung up after {so_far:?}");
        if so_far.contains(text) {
            return Ok(so_far.into_owned());
        }
    }
}

pub(super) async fn connections_beyond_the_cap_take_the_slots_of_idle_ones(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let gateway = on.gateways[0];
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut socket = TcpStream::connect(gateway).await?;
        socket.write_all(ALIVE).await?;
        read_until(&mut socket, "200 OK").await?;
        held.push(socket);
    }
    let mut beyond = TcpStream::connect(gateway).await?;
    beyond.write_all(ALIVE).await?;
    read_until(&mut beyond, "200 OK").await?;
    // It ends, whether by a reset or without: the oldest has been closed.
    let _closed = timeout(LIMIT, held[0].read_to_end(&mut Vec::new())).await?;
    held[1].write_all(METRICS).await?;
    let metrics = read_until(&mut held[1], "selvage_gateway_workers ").await?;
    for line in [
        "\nselvage_gateway_connections 8\n",
        "\nselvage_gateway_connections_cut_total{reason=\"pressure\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    Ok(())
}

/// A connection from that address of this machine, which has asked for something.
async fn connect_from(address: &str, gateway: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(address.parse()?, 0))?;
    let mut socket = socket.connect(gateway).await?;
    // A gateway that has closed it by now may say so here or when it is read.
    let _closed = socket.write_all(ALIVE).await;
    Ok(socket)
}

pub(super) async fn one_address_leaves_places_to_others(on: Arc<Deployment>) -> anyhow::Result<()> {
    let gateway = on.gateways[0];
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut socket = connect_from("127.0.0.2", gateway).await?;
        read_until(&mut socket, "200 OK").await?;
        held.push(socket);
    }
    for _ in 0..3 {
        let mut beyond = connect_from("127.0.0.2", gateway).await?;
        let mut answer = Vec::new();
        let closed = timeout(LIMIT, beyond.read_to_end(&mut answer)).await?;
        assert!(closed.is_err() || answer.is_empty(), "answered: {answer:?}");
    }
    let mut other = connect_from("127.0.0.3", gateway).await?;
    read_until(&mut other, "200 OK").await?;
    let client = on.client();
    let cut = client
        .metric("selvage_gateway_connections_cut_total", "address")
        .await?;
    assert_eq!(cut, 3.0);
    held.pop();
    let again = || async {
        let mut socket = connect_from("127.0.0.2", gateway).await.ok()?;
        read_until(&mut socket, "200 OK").await.ok()
    };
    eventually("a place that is free is given again", LIMIT, again).await;
    Ok(())
}

pub(super) async fn a_gateway_without_descriptors_rests_and_recovers(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let gateway = on.gateways[0];
    let pid = on.with_gateways(|programs| programs[0].pid());
    // The kernel accepts them; the gateway cannot.
    let held = try_join_all((0..200).map(|_| TcpStream::connect(gateway))).await?;
    eventually("all descriptors are taken", LIMIT, || async {
        (descriptors(pid) >= 64).then_some(())
    })
    .await;
    let before = cpu_time(pid);
    sleep(COUNTED).await;
    let spent = cpu_time(pid) - before;
    assert_eq!(descriptors(pid), 64, "still none left");
    println!("without descriptors: {spent:?} of processor time in {COUNTED:?}");
    assert!(spent < COUNTED / 4, "it spins: {spent:?} in {COUNTED:?}");
    drop(held);
    let client = on.client();
    let served = || async { client.get("/livez").await.ok().filter(|a| a.status == 200) };
    eventually("it serves again", LIMIT, served).await;
    let failed = client
        .metric("selvage_gateway_accept_errors_total", "")
        .await?;
    assert!(failed >= 1.0, "it is counted");
    client
        .post_image("/predict?wait=30", pictures::boot())
        .await?
        .expect(200);
    Ok(())
}

/// While a gateway says that it will leave, each answer ends its connection: a request that is on its way when an idle
/// connection is closed would be cut.
pub(super) async fn answers_before_a_drain_close_their_connections(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    assert_eq!(client.get("/readyz").await?.header("connection"), "");
    on.with_gateways(|programs| programs[0].signal("TERM"));
    let leaving = || async {
        let answer = client.get("/readyz").await.ok()?;
        (answer.status == 503).then_some(answer)
    };
    let answer = eventually("the gateway says that it leaves", LIMIT, leaving).await;
    assert_eq!(answer.header("connection"), "close");
    Ok(())
}

pub(super) async fn stuck_clients_do_not_hold_up_a_drain(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let gateway = on.gateways[0];
    let half_body = request("POST", "/predict", "Content-Length: 1000\r\n", b"half");
    let mut stuck = Vec::new();
    for bytes in [b"".as_slice(), b"GET /livez HT", &half_body] {
        for _ in 0..20 {
            let mut socket = TcpStream::connect(gateway).await?;
            socket.write_all(bytes).await?;
            stuck.push(socket);
        }
    }
    let readers: JoinSet<_> = (0..20).map(|_| never_read(gateway)).collect();
    let client = on.client();
    let connected = || async {
        let open = client
            .metric("selvage_gateway_connections", "")
            .await
            .ok()?;
        (open >= 80.0).then_some(())
    };
    eventually("all are connected", LIMIT, connected).await;
    let waits = client.post_image("/predict?wait=60", pictures::unique());
    let stop = async {
        if on.shape == Shape::Fleet {
            let waiting = || async {
                let in_flight = client.metric("selvage_gateway_in_flight", "").await.ok()?;
                (in_flight >= 1.0).then_some(())
            };
            eventually("somebody waits", LIMIT, waiting).await;
        }
        on.with_gateways(|programs| programs[0].signal("TERM"));
        let on = Arc::clone(&on);
        tokio::task::spawn_blocking(move || {
            on.with_gateways(|programs| programs[0].wait_for_end(DRAIN))
        })
        .await
    };
    let (answer, status) = tokio::join!(waits, stop);
    assert!(status?.success(), "a drain ends with code 0");
    // No worker in the fleet: the request became an asynchronous job.
    answer?.expect(if on.shape == Shape::Fleet { 202 } else { 200 });
    drop((stuck, readers));
    Ok(())
}
