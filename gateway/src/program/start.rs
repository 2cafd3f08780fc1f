//! From settings to a running gateway, and what can be wrong on the way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::catalog::follow::Follow;
use selvage_core::config::OpsListen;
use tokio::net::{TcpListener, TcpSocket};

use crate::background::changes;
use crate::http::access::Access;
use crate::http::app::App;
use crate::http::server::serve_ops;
use crate::program::config::Settings;
use crate::program::start_error::StartError;
use crate::service::gateway::Backends;
use crate::service::models::Models;

/// What the kernel keeps of an answer that its client does not read, in bytes (it allows itself twice as much). Left to
/// itself it grows to megabytes, and thousands of such clients would take gigabytes. Almost every answer is smaller.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// Connections that wait in the kernel to be accepted; what `TcpListener::bind` takes.
const BACKLOG: u32 = 1024;
const OPS_SETTING: &str = "--ops-listen / SELVAGE_OPS_LISTEN";
const LISTEN_SETTING: &str = "--listen / SELVAGE_LISTEN";

/// What is read from files before anything is opened: their mistakes end the start at once.
pub struct Prepared {
    /// Who may ask.
    pub(crate) access: Access,
    /// Which model a request means.
    pub(crate) models: Models,
}

/// The addresses this gateway takes. Connections are refused until they are opened: a port that is open and silent while
/// models are warmed looks like a gateway that hangs.
pub struct Ports {
    main: TcpSocket,
    ops: Option<TcpSocket>,
}

impl Ports {
    /// Takes the addresses, so that one that is taken makes the program exit at once.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, StartError> {
        let main = bind(settings.listen)
            .and_then(|socket| {
                // Connections inherit it.
                socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
                Ok(socket)
            })
            .map_err(|error| unusable(LISTEN_SETTING, settings.listen, error))?;
        let ops = match settings.ops_listen {
            OpsListen::Off => None,
            OpsListen::At(address) => {
                Some(bind(address).map_err(|error| unusable(OPS_SETTING, address, error))?)
            }
        };
        Ok(Self { main, ops })
    }

    /// Opens the ports, and logs the addresses as they are: a port may have been 0. The operator's is served from now on.
    pub(crate) fn listen(self, settings: &Settings, app: &App) -> Result<TcpListener, StartError> {
        if let Some(socket) = self.ops {
            let address = socket
                .local_addr()
                .map_err(|error| StartError::Internal(error.into()))?;
            let listener = socket.listen(BACKLOG);
            let listener = listener.map_err(|error| unusable(OPS_SETTING, address, error))?;
            tracing::info!(ops_addr = %address, "health and metrics on http://{address}");
            app.life.tasks.spawn(serve_ops(app.clone(), listener));
        }
        let listener = self.main.listen(BACKLOG);
        let listener =
            listener.map_err(|error| unusable(LISTEN_SETTING, settings.listen, error))?;
        if let Ok(addr) = listener.local_addr() {
            tracing::info!(%addr, "listening on http://{addr}");
        }
        Ok(listener)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn unusable(setting: &str, address: SocketAddr, error: io::Error) -> StartError {
    let context = format!("{setting}: cannot listen on {address}");
    StartError::Usage(anyhow::Error::new(error).context(context))
}

/// Puts the gateway together.
pub(crate) fn start(
    settings: &Settings,
    prepared: Prepared,
    backends: Backends,
    registry: &Registry,
) -> Result<App, StartError> {
    let Prepared { access, models } = prepared;
    let follow = Follow::new(
        settings.shared.models_source(),
        &models.catalog().unshared(),
    );
    let app = App::start(settings.limits(), access, models, backends, registry)
        .context("the gateway's metrics")
        .map_err(StartError::Internal)?;
    selvage_core::trace::register(registry)
        .context("the metrics of traces")
        .map_err(StartError::Internal)?;
    let life = &app.life;
    life.tasks.spawn(changes::run(
        Arc::clone(&app.gateway),
        follow,
        life.stop.clone(),
    ));
    Ok(app)
}
