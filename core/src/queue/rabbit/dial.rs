//! Opens one AMQP connection, with a hold on its socket so that it can always be ended.
//!
//! lapin runs each connection on a thread that waits for the broker. A broker that accepts and then stays silent would
//! keep that thread and its socket for ever, once per attempt, and dropping the connection only asks it to close.
//! Shutting the socket down ends both at once.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::error::RabbitError;
use crate::program::config::AmqpUrl;

/// From the first packet to the end of the handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// Seconds; the broker is given up after two of these in silence. RabbitMQ advises 5 to 20:
/// <https://www.rabbitmq.com/docs/heartbeats#heartbeats-timeout>.
const HEARTBEAT: u16 = 10;

/// A hold on a connection's socket.
#[derive(Debug, Default)]
pub(super) struct SocketGuard(Mutex<Hold>);

#[derive(Debug, Default)]
enum Hold {
    #[default]
    Nothing,
    Socket(TcpStream),
    Cut,
}

impl SocketGuard {
    /// Ends the socket, now or as soon as there is one.
    pub(super) fn cut(&self) {
        let mut hold = self.0.lock();
        if let Hold::Socket(socket) = std::mem::replace(&mut *hold, Hold::Cut) {
            // It fails where the peer was faster, which is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn tie(&self, socket: TcpStream) {
        let mut hold = self.0.lock();
        match *hold {
            Hold::Cut => {
                let _ = socket.shutdown(Shutdown::Both);
            }
            Hold::Nothing | Hold::Socket(_) => *hold = Hold::Socket(socket),
        }
    }
}

/// Shuts the socket down unless the connection was returned to the caller.
struct CutOnDrop(Option<Arc<SocketGuard>>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(socket_guard) = &self.0 {
            socket_guard.cut();
        }
    }
}

/// Connects and logs in; `name` is what operators see in the broker's list of connections.
pub(super) async fn dial(
    url: &AmqpUrl,
    name: &str,
) -> Result<(Connection, Arc<SocketGuard>), RabbitError> {
    let uri = amqp_uri(url)?;
    let socket_guard = Arc::new(SocketGuard::default());
    let mut guard = CutOnDrop(Some(Arc::clone(&socket_guard)));
    let tied = Arc::clone(&socket_guard);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connector(
        uri,
        lapin::runtime::default_runtime()?,
        async move |uri: AMQPUri, runtime| {
            let opening = async {
                let host = uri.authority.host.as_str();
                let addresses: Vec<_> = lookup_host((host, uri.authority.port)).await?.collect();
                let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                if let AsyncTcpStream::Plain(socket) = &stream {
                    tied.tie(socket.get_ref().as_fd().try_clone_to_owned()?.into());
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => stream.into_tls(host, TLSConfig::default()).await,
                }
            };
            // The thread that runs this outlives the caller's patience, so it needs an end of its own.
            let opened = timeout(CONNECT, opening).await.map_err(io::Error::from)?;
            opened.map_err(|error: io::Error| error.into())
        },
        properties,
    );
    let connection = timeout(CONNECT, connecting)
        .await
        .map_err(|_| RabbitError::Slow("connecting", CONNECT))??;
    guard.0 = None;
    Ok((connection, socket_guard))
}

fn amqp_uri(url: &AmqpUrl) -> Result<AMQPUri, RabbitError> {
    // The parser's own message may repeat the URL, and with it the password.
    let mut uri: AMQPUri = url
        .expose()
        .parse()
        .map_err(|_| RabbitError::Unusable("the broker's URL has parts that cannot be read"))?;
    let host = url.parts().host_str().unwrap_or_default();
    // The parser takes only names for hosts and would fall back to another one.
    uri.authority.host = host.trim_matches(['[', ']']).to_owned();
    // `amqp://host/` names the virtual host "", which no broker has; everybody who writes it means the default.
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT));
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        for (url, host, vhost) in [
            ("amqp://mq.example", "mq.example", "/"),
            ("amqp://mq.example/", "mq.example", "/"),
            ("amqp://127.0.0.1:5672/%2f", "127.0.0.1", "/"),
            ("amqp://u:p@[::1]:5672/team", "::1", "team"),
        ] {
            let uri = amqp_uri(&url.parse().unwrap()).unwrap();
            assert_eq!(uri.authority.host, host, "{url}");
            assert_eq!(uri.vhost, vhost, "{url}");
            assert_eq!(uri.query.heartbeat, Some(HEARTBEAT), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_its_password() {
        let url = "amqp://u:s3cret@mq.example/%2f?heartbeat=soon";
        let error = amqp_uri(&url.parse().unwrap()).unwrap_err();
        assert!(error.refusal().is_some());
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn a_socket_tied_after_the_cut_is_shut_down() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let socket_guard = SocketGuard::default();
        socket_guard.cut();
        socket_guard.tie(socket);
        assert_eq!(std::io::Read::read(&mut peer, &mut [0]).unwrap(), 0);
    }
}
