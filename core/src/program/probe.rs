//! A program's question to its running copy: are you ready? For health checks of containers, whose images have no HTTP
//! client.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// Longest time to connect, and between two parts of the answer; a health check's own limit is longer.
const LIMIT: Duration = Duration::from_secs(2);
/// What is shown of an answer.
const SHOWN_BYTES: u64 = 4096;

/// Why the copy is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nobody answers.
    #[error("{0} does not answer: {1}")]
    Silent(SocketAddr, #[source] io::Error),
    /// It says so itself.
    #[error("{0}")]
    Said(String),
}

/// Asks `/readyz` of the program that listens there on this machine.
///
/// # Errors
/// [`NotReady`].
pub fn ready(listen: SocketAddr) -> Result<(), NotReady> {
    let address = SocketAddr::new(reachable(listen.ip()), listen.port());
    let answer = ask(address).map_err(|error| NotReady::Silent(address, error))?;
    // "HTTP/1.1 200"
    if answer.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Err(NotReady::Said(body.trim().to_owned()))
}

/// The exit code of a health check; why it failed goes to standard error, where an engine keeps it.
#[must_use]
pub fn answer(found: Result<(), NotReady>) -> ExitCode {
    match found {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "not ready: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Where a program that listens everywhere is reached.
const fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(SHOWN_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Asks a server that answers with this and closes.
    fn asked(answer: &'static str) -> Result<(), NotReady> {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request[..read].to_vec()).unwrap()
        });
        let found = ready(address);
        assert!(
            server
                .join()
                .unwrap()
                .starts_with("GET /readyz HTTP/1.1\r\n")
        );
        found
    }

    #[test]
    fn only_a_200_is_ready() {
        asked("HTTP/1.1 200 OK\r\n\r\n{}").unwrap();
        let said = asked("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"unready\"}\n");
        assert_eq!(said.unwrap_err().to_string(), "{\"status\":\"unready\"}");
        asked("").unwrap_err();
    }

    #[test]
    fn nobody_there_is_said_with_the_address() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let error = ready(address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
