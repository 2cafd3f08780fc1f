//! From settings to a running gateway, and what can be wrong on the way.

use std::sync::Arc;

use anyhow::Context as _;
use prometheus::Registry;
use selvage_core::catalog::follow::Follow;
use selvage_core::program::{Port, StartError, trace};
use tokio::net::TcpListener;

use crate::background::changes;
use crate::http::access::Access;
use crate::http::app::App;
use crate::http::server::serve_ops;
use crate::program::config::Settings;
use crate::service::gateway::Backends;
use crate::service::models::Models;

/// What the kernel keeps of an answer that its client does not read, in bytes (it allows itself twice as much). Left to
/// itself it grows to megabytes, and thousands of such clients would take gigabytes. Almost every answer is smaller.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
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
    main: Port,
    ops: Option<Port>,
}

impl Ports {
    /// Takes the addresses, so that one that is in use makes the program exit at once.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, StartError> {
        let main = Port::bind("--listen / SELVAGE_LISTEN", settings.listen)?;
        main.set_send_buffer(SEND_BUFFER_BYTES)?;
        let ops = Port::of_ops(settings.ops_listen)?;
        Ok(Self { main, ops })
    }

    /// Opens the ports, and logs the addresses as they are: a port may have been 0. The operator's is served from now on.
    pub(crate) fn listen(self, app: &App) -> Result<TcpListener, StartError> {
        if let Some(port) = self.ops {
            let address = port.address();
            let listener = port.listen()?;
            tracing::info!(ops_addr = %address, "health and metrics on http://{address}");
            app.life.tasks.spawn(serve_ops(app.clone(), listener));
        }
        let addr = self.main.address();
        let listener = self.main.listen()?;
        tracing::info!(%addr, "listening on http://{addr}");
        Ok(listener)
    }
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
    trace::register(registry)
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
