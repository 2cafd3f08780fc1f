//! A server that answers by a script, one request per connection, and keeps what it was sent.

use std::sync::{Arc, Mutex};

use clap::Parser as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::arguments::{Arguments, Command, Look};
use crate::client::Client;
use crate::console::Console;

/// A running server; ends with its value.
pub(crate) struct Scripted {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Scripted {
    /// Gives these answers in order, raw as they are, and closes each connection.
    pub(crate) async fn start(answers: &[&str]) -> Self {
        Self::start_at("http://127.0.0.1:0", answers).await
    }

    /// The same at this address.
    pub(crate) async fn start_at(url: &str, answers: &[&str]) -> Self {
        let address = url.trim_start_matches("http://");
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&requests);
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                log.lock().unwrap().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self {
            url,
            requests,
            _serving: serving,
        }
    }

    /// A client of this server that makes three attempts.
    pub(crate) fn client(&self) -> Client {
        self.client_with(&["--attempts", "3"])
    }

    /// A client of this server with these options.
    pub(crate) fn client_with(&self, options: &[&str]) -> Client {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let line = ["selvage", "status", "--url", &self.url];
        match Arguments::parse_from(line.iter().chain(options)).command {
            Command::Status(Look { server, .. }) => {
                Client::new(&server, &Console::new(false)).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// An answer with a body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

/// A request's head and body.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return text;
        }
    }
}
