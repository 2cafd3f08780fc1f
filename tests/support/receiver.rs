//! A server that takes webhooks and answers as configured: what a client of ours runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::identity::Identity;

/// How one message is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// With that status.
    Status(u16),
    /// With 301, to this very server.
    Redirect,
    /// With 200 and a body of a gigabyte.
    Huge,
    /// Never.
    Hang,
}

/// One message as it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// The request's path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header's value; empty where it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A running receiver; ends with its value.
#[derive(Debug)]
pub struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
    _serving: JoinSet<()>,
}

impl Receiver {
    /// Starts a receiver that gives these replies in order, then 204.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(replies: &[Reply]) -> Self {
        Self::listen(replies, None).await
    }

    /// The same over TLS, with an identity for this machine.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start_tls(identity: &Identity) -> Self {
        let acceptor = identity.acceptor();
        Self::listen(&[], Some(acceptor)).await
    }

    async fn listen(replies: &[Reply], tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let replies = Arc::new(Mutex::new(VecDeque::from(replies.to_vec())));
        let log = Arc::clone(&received);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, replies) = (Arc::clone(&log), Arc::clone(&replies));
                let tls = tls.clone();
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &log, &replies).await.ok(),
                        Some(tls) => {
                            let stream = tls.accept(stream).await.ok()?;
                            serve(stream, &log, &replies).await.ok()
                        }
                    }
                });
            }
        });
        Self {
            url: format!("{scheme}://{address}/hook"),
            received,
            _serving: serving,
        }
    }

    /// Where webhooks are to be sent.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// All messages so far.
    ///
    /// # Panics
    /// When a connection's task panicked.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// Takes one message and answers it; each connection carries one.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Mutex<Vec<Received>>,
    replies: &Mutex<VecDeque<Reply>>,
) -> std::io::Result<()> {
    let Some(received) = read(&mut stream).await? else {
        return Ok(());
    };
    log.lock().unwrap().push(received);
    let reply = replies.lock().unwrap().pop_front();
    let head =
        |status: u16, more: &str| format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{more}\r\n");
    match reply.unwrap_or(Reply::Status(204)) {
        Reply::Status(status) => stream.write_all(head(status, "").as_bytes()).await,
        Reply::Redirect => {
            stream
                .write_all(head(301, "location: /elsewhere\r\n").as_bytes())
                .await
        }
        Reply::Huge => {
            let length = 1_u64 << 30;
            let more = format!("content-length: {length}\r\n");
            stream.write_all(head(200, &more).as_bytes()).await?;
            for _ in 0..length >> 16 {
                stream.write_all(&[b'x'; 1 << 16]).await?;
            }
            Ok(())
        }
        Reply::Hang => std::future::pending().await,
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Received>> {
    let mut bytes = Vec::new();
    let mut length = 0;
    let mut end = None;
    while end.is_none_or(|end| bytes.len() < end + length) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        if end.is_none()
            && let Some(found) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            end = Some(found + 4);
            length = head(&bytes[..found])
                .header("content-length")
                .parse()
                .unwrap_or(0);
        }
    }
    let end = end.unwrap_or_default();
    let mut received = head(&bytes[..end]);
    received.body = bytes.split_off(end);
    Ok(Some(received))
}

fn head(bytes: &[u8]) -> Received {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or_default();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Received {
        path: path.to_owned(),
        headers: lines.filter_map(header).collect(),
        body: Vec::new(),
    }
}
