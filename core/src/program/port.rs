//! A TCP port that a program will listen on.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::config::OpsListen;
use super::start_error::StartError;

/// Connections that wait in the kernel to be accepted; what `TcpListener::bind` takes.
const BACKLOG: u32 = 1024;
const OPS_SETTING: &str = "--ops-listen / SELVAGE_OPS_LISTEN";

/// An address that is taken, but not open: connections are refused until [`Port::listen`].
#[derive(Debug)]
pub struct Port {
    setting: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

impl Port {
    /// Takes the address, so that one that is in use makes the program exit at once.
    ///
    /// # Errors
    /// [`StartError::Usage`], with the name of the setting.
    pub fn bind(setting: &'static str, address: SocketAddr) -> Result<Self, StartError> {
        let bound = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = bound().map_err(|error| unusable(setting, address, error))?;
        Ok(Self {
            setting,
            address,
            socket,
        })
    }

    /// The port of /livez, /readyz and /metrics, unless it is off.
    ///
    /// # Errors
    /// As [`Port::bind`].
    pub fn of_ops(listen: OpsListen) -> Result<Option<Self>, StartError> {
        match listen {
            OpsListen::Off => Ok(None),
            OpsListen::At(address) => Self::bind(OPS_SETTING, address).map(Some),
        }
    }

    /// The address; its port is a real one where the setting has port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bounds what the kernel keeps for each connection of an answer that its client does not read.
    ///
    /// # Errors
    /// [`StartError::Usage`].
    pub fn set_send_buffer(&self, bytes: u32) -> Result<(), StartError> {
        let set = self.socket.set_send_buffer_size(bytes);
        set.map_err(|error| unusable(self.setting, self.address, error))
    }

    /// Opens the port.
    ///
    /// # Errors
    /// [`StartError::Usage`].
    pub fn listen(self) -> Result<TcpListener, StartError> {
        let listener = self.socket.listen(BACKLOG);
        listener.map_err(|error| unusable(self.setting, self.address, error))
    }
}

fn unusable(setting: &str, address: SocketAddr, error: io::Error) -> StartError {
    let context = format!("{setting}: cannot listen on {address}");
    StartError::Usage(anyhow::Error::new(error).context(context))
}
