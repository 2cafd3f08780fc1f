//! HTTP that no ordinary client would send, over a plain socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use selvage_tests::{Deployment, pictures};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the gateway to answer or hang up; its own limits are well below.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn broken_http_is_refused(on: Arc<Deployment>) -> anyhow::Result<()> {
    let gateway = on.gateways[0];
    let many_headers: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
    let both_lengths = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
    let rows: [(&str, Vec<u8>, &[u16]); 13] = [
        (
            "500 headers",
            request("GET", "/livez", &many_headers, b""),
            &[431],
        ),
        (
            "header of 100 kB",
            request(
                "GET",
                "/livez",
                &format!("x: {}\r\n", "y".repeat(100_000)),
                b"",
            ),
            &[431],
        ),
        (
            "two hosts",
            request("GET", "/livez", "Host: localhost\r\n", b""),
            &[400],
        ),
        (
            "a transfer coding that is not known",
            request(
                "POST",
                "/jobs",
                "Transfer-Encoding: gzip, chunked\r\n",
                b"0\r\n\r\n",
            ),
            &[501],
        ),
        (
            "header of 1 MB",
            request(
                "GET",
                "/livez",
                &format!("x: {}\r\n", "y".repeat(1 << 20)),
                b"",
            ),
            &[431],
        ),
        (
            "request line of 1 MB",
            request("GET", &format!("/{}", "y".repeat(1 << 20)), "", b""),
            &[414, 431],
        ),
        (
            "length and chunks at once",
            request("POST", "/predict", both_lengths, b"0\r\n\r\n"),
            &[400],
        ),
        (
            "unknown method",
            request("BREW", "/predict", "", b""),
            &[405],
        ),
        ("HTTP/0.9", b"GET /livez\r\n".to_vec(), &[400]),
        (
            "HTTP/0.9 by name",
            b"GET /livez HTTP/0.9\r\n\r\n".to_vec(),
            &[400],
        ),
        ("no HTTP at all", b"hello\r\n\r\n".to_vec(), &[400]),
        (
            "TLS hello",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            &[400],
        ),
        ("endless chunks", endless_chunks(), &[413]),
    ];
    for (what, bytes, allowed) in rows {
        let status = exchange(gateway, &bytes)
            .await
            .with_context(|| what.to_owned())?;
        // A gateway that hangs up at once has refused as well; only an answer of another kind is wrong.
        assert!(
            status.is_none_or(|status| allowed.contains(&status)),
            "{what}: {status:?}, allowed {allowed:?}"
        );
    }
    on.client()
        .post_image("/predict", pictures::boot())
        .await?
        .expect(200);
    Ok(())
}

pub(super) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Twelve MiB of chunks and no end.
fn endless_chunks() -> Vec<u8> {
    let chunk = [b"10000\r\n".to_vec(), vec![0x89; 0x10000], b"\r\n".to_vec()].concat();
    request(
        "POST",
        "/predict",
        "Transfer-Encoding: chunked\r\n",
        &chunk.repeat(192),
    )
}

/// Sends bytes and reads the answer's status; `None` where the gateway hung up without one.
pub(super) async fn exchange(gateway: SocketAddr, bytes: &[u8]) -> anyhow::Result<Option<u16>> {
    timeout(ANSWER_LIMIT, async {
        let mut socket = TcpStream::connect(gateway).await?;
        // The gateway may answer and hang up while we still write; what it said is what counts.
        let _cut_short = socket.write_all(bytes).await;
        let mut answer = vec![0; 4096];
        let mut read = 0;
        while read < 12 {
            match socket.read(&mut answer[read..]).await {
                Ok(0) | Err(_) => break,
                Ok(n) => read += n,
            }
        }
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        Ok(text
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok()))
    })
    .await
    .context("neither an answer nor a hang-up")?
}
