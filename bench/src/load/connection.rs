//! One HTTP/1.1 connection: bytes out, one answer in. It knows nothing of pictures or of what is right.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More headers than any server measured here sends.
const MAX_HEADERS: usize = 32;
/// An answer larger than this is not one of ours.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// An open connection without a request under way.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: BytesMut,
}

/// One complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: BytesMut,
    /// Head and body together.
    pub(super) total_bytes: usize,
    /// The server closes the connection after it.
    pub(super) is_last: bool,
}

/// What an answer's head says.
#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    head_bytes: usize,
    body_bytes: usize,
    is_last: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
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

    /// Sends a whole request and receives its answer.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not understood; the connection is of no use then.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream
            .write_all(request)
            .await
            .context("the request was not taken")?;
        let head = loop {
            if self
                .stream
                .read_buf(&mut self.received)
                .await
                .context("no answer came")?
                == 0
            {
                bail!("the server closed the connection instead of answering");
            }
            if let Some(head) = parse_head(&self.received)? {
                break head;
            }
        };
        let total_bytes = head.head_bytes + head.body_bytes;
        while self.received.len() < total_bytes {
            if self
                .stream
                .read_buf(&mut self.received)
                .await
                .context("the answer was cut off")?
                == 0
            {
                bail!("the server closed the connection within an answer");
            }
        }
        ensure!(
            self.received.len() == total_bytes,
            "more came than the answer"
        );
        let mut body = self.received.split();
        body.advance(head.head_bytes);
        self.received.reserve(4096);
        Ok(Answer {
            status: head.status,
            body,
            total_bytes,
            is_last: head.is_last,
        })
    }
}

/// Reads a head if it has arrived whole.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    ensure!(
        bytes.len() <= MAX_ANSWER_BYTES,
        "the answer is larger than any of ours"
    );
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_bytes) = response
        .parse(bytes)
        .context("the answer is not HTTP/1.1")?
    else {
        return Ok(None);
    };
    let value = |name: &str| {
        let header = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let body_bytes = value("content-length")
        .and_then(|text| text.parse().ok())
        .context("the answer has no length")?;
    ensure!(
        body_bytes <= MAX_ANSWER_BYTES,
        "the answer is larger than any of ours"
    );
    let is_last = value("connection").is_some_and(|text| text.eq_ignore_ascii_case("close"));
    let status = response.code.context("the answer has no status")?;
    Ok(Some(Head {
        status,
        head_bytes,
        body_bytes,
        is_last,
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
                assert_eq!(answer.total_bytes, ANSWER.len());
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

    #[test]
    fn a_server_that_will_close_is_noticed() {
        let head = parse_head(b"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(head.is_last && head.status == 503 && head.body_bytes == 0);
    }
}
