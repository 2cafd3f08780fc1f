//! One HTTP/1.1 connection: sends a request, receives its response. It knows nothing of images.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More headers than any server sends.
const MAX_HEADERS: usize = 64;
/// Responses of predictions are far smaller.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// An open connection without a request in progress.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: BytesMut,
}

/// One complete response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: BytesMut,
    /// The server closes the connection after it.
    pub(super) is_last: bool,
}

/// What the head of a response says.
#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    head_bytes: usize,
    total_bytes: usize,
    is_last: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If the server does not accept the connection.
    pub(super) async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server)
            .await
            .with_context(|| format!("cannot connect to {server}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: BytesMut::with_capacity(4096),
        })
    }

    /// Sends a whole request and receives its response.
    ///
    /// # Errors
    /// If the connection breaks or the response is not valid; do not use the connection again.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Response> {
        let sent = self.stream.write_all(request).await;
        let response = self.receive().await;
        // A server may reject a request and close the connection before it has read the body.
        sent.context("cannot send the request").or_else(|error| {
            let rejected = response.as_ref().is_ok_and(|response| response.is_last);
            if rejected { Ok(()) } else { Err(error) }
        })?;
        response
    }

    async fn receive(&mut self) -> Result<Response> {
        let head = loop {
            self.read_some().await?;
            if let Some(head) = parse_head(&self.received)? {
                break head;
            }
        };
        while self.received.len() < head.total_bytes {
            self.read_some().await?;
        }
        ensure!(
            self.received.len() == head.total_bytes,
            "the server sent more than the response"
        );
        let mut body = self.received.split();
        body.advance(head.head_bytes);
        self.received.reserve(4096);
        Ok(Response {
            status: head.status,
            body,
            is_last: head.is_last,
        })
    }

    async fn read_some(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.received).await;
        let count = read.context("the connection broke")?;
        ensure!(
            count > 0,
            "the server closed the connection before the end of the response"
        );
        Ok(())
    }
}

/// Reads the head, once it is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes);
    let httparse::Status::Complete(head_bytes) = parsed.context("the response is not HTTP/1.1")?
    else {
        ensure!(
            bytes.len() <= MAX_RESPONSE_BYTES,
            "the response is too large"
        );
        return Ok(None);
    };
    let value = |name: &str| {
        let mut headers = response.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let length = value("content-length").and_then(|text| text.parse::<usize>().ok());
    let length = length.context("the response has no content-length")?;
    ensure!(length <= MAX_RESPONSE_BYTES, "the response is too large");
    Ok(Some(Head {
        status: response.code.context("the response has no status")?,
        head_bytes,
        total_bytes: head_bytes + length,
        is_last: value("connection").is_some_and(|text| text.eq_ignore_ascii_case("close")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-LENGTH: 5\r\n\r\nhello";

    /// Serves one connection: reads a request of 4 bytes for each list of pieces, and writes the pieces one by one.
    async fn serve(pieces: Vec<Vec<&'static [u8]>>) -> (SocketAddr, impl Future<Output = ()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in pieces {
                stream.read_exact(&mut [0; 4]).await.unwrap();
                for piece in answer {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        };
        (address, server)
    }

    #[tokio::test]
    async fn answers_in_any_number_of_pieces_are_received_whole() {
        let single_bytes = ANSWER.chunks(1).collect();
        let (address, server) = serve(vec![vec![ANSWER], single_bytes, vec![ANSWER]]).await;
        let client = async {
            let mut connection = Connection::open(address).await.unwrap();
            for _ in 0..3 {
                let answer = connection.exchange(b"ping").await.unwrap();
                assert_eq!(
                    (answer.status, &answer.body[..], answer.is_last),
                    (200, &b"hello"[..], false)
                );
            }
        };
        tokio::join!(server, client);
    }

    #[tokio::test]
    async fn broken_answers_are_errors() {
        let cases: [&[u8]; 5] = [
            b"",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\n\r\nendless",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\ntwo",
            b"SSH-2.0-OpenSSH_9.2\r\n",
        ];
        for case in cases {
            let (address, server) = serve(vec![vec![case]]).await;
            let client = async {
                Connection::open(address)
                    .await
                    .unwrap()
                    .exchange(b"ping")
                    .await
            };
            let ((), answer) = tokio::join!(server, client);
            assert!(answer.is_err(), "{:?}", String::from_utf8_lossy(case));
        }
    }

    /// A gateway without a free place answers before it has read a large image.
    #[tokio::test]
    async fn a_rejection_before_the_end_of_the_body_is_received() {
        const REJECTED: &[u8] = b"HTTP/1.1 429 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            stream.write_all(REJECTED).await.unwrap();
            // Closed with unread bytes, so the client cannot send the rest.
        };
        let client = async {
            let mut connection = Connection::open(address).await.unwrap();
            let rejected = connection.exchange(&vec![0; 32 << 20]).await.unwrap();
            assert!(rejected.is_last && rejected.status == 429);
        };
        tokio::join!(server, client);
    }

    #[test]
    fn a_connection_that_will_close_is_marked() {
        let head = parse_head(b"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(head.is_last && head.status == 503 && head.total_bytes == head.head_bytes);
    }
}
