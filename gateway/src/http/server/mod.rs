//! Connections: accepting them within bounds, giving each its time limits, and draining them to an end.
//!
//! Not `axum::serve`: that sets no timer, so hyper's header limit would never fire, has no bound on connections, and
//! drains without an end.

mod guard;
mod progress;
mod slots;
mod tracked;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::http::app::App;
use crate::http::peer::Peer;
use crate::service::lifecycle::{Lifecycle, Phase};
use guard::{Guard, Guarded};
use progress::{Answering, Progress};
use slots::{Bounds, ConnectionSlots};
use tracked::Tracked;

/// How long a connection may stay idle between two requests. hyper counts the next head's time into it; [`guard`] has
/// the shorter limit for a head that has begun.
const IDLE: Duration = Duration::from_secs(75);
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long accepting pauses when the process has no descriptor left: closing connections will free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest time between turning not ready and refusing connections, for load balancers to notice.
const NOTICE: Duration = Duration::from_secs(2);
/// Most connections of the operator's listener: a few probes and scrapes.
const OPS_CONNECTIONS: usize = 64;

/// Serves until `shutdown` fires, then drains: waits that run are answered, or turned into asynchronous jobs where that takes
/// too long; shortly before the drain time is over the rest is cut. Ends the app's background tasks.
///
/// # Errors
/// Never at present; a listener that fails to accept is tried again.
pub async fn serve(app: App, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
    let connections = Connections::new(
        &app,
        app.router(),
        Bounds::from(&app.limits),
        app.life.draining.clone(),
    );
    connections.accept(&listener, shutdown.cancelled()).await;
    let end = Instant::now() + app.limits.drain;
    app.life.end_at(end);
    app.life.enter(Phase::Leaving);
    tracing::info!(
        "draining: not ready any more, up to {:?} left",
        app.limits.drain
    );
    let notice = NOTICE.min(app.limits.drain / 10);
    connections.accept(&listener, sleep(notice)).await;
    // Clients the kernel has greeted already are not to find a closed door.
    connections.accept_waiting(&listener).await;
    drop(listener);
    app.life.enter(Phase::Draining);
    connections.tasks.close();
    // A wait that is cut needs time to become a job.
    let cut = end - app.limits.drain * 3 / 10;
    if timeout_at(cut, connections.tasks.wait()).await.is_err() {
        app.life.enter(Phase::Ending);
        app.predictions.inflight.expire(None);
        // The rest is for what still has to end after the last connection.
        let last = end - app.limits.drain / 10;
        if timeout_at(last, connections.tasks.wait()).await.is_err() {
            let left = connections.tasks.len();
            tracing::warn!(
                left,
                "the drain time is nearly over: {left} connections are cut"
            );
        }
    }
    connections.abort.cancel();
    connections.tasks.wait().await;
    finish(&app, end).await;
    Ok(())
}

/// Serves health and metrics on a listener of their own until the app's background tasks end: through the whole drain, and
/// however many connections the other listener has.
pub(crate) async fn serve_ops(app: App, listener: TcpListener) {
    let stop = app.life.stop.clone();
    let connections = Connections::new(
        &app,
        app.ops_router(),
        Bounds {
            all: OPS_CONNECTIONS,
            of_one: OPS_CONNECTIONS,
            shrink: false,
        },
        stop.clone(),
    );
    connections.accept(&listener, stop.cancelled()).await;
    drop(listener);
    connections.tasks.close();
    connections.abort.cancel();
    connections.tasks.wait().await;
}

/// Ends the background tasks, after the submissions that clients have left behind.
async fn finish(app: &App, end: Instant) {
    app.life.enter(Phase::Ending);
    app.life.stop.cancel();
    app.life.tasks.close();
    // At least a moment, also where the drain time is used up: these tasks end by themselves.
    let end = end.max(Instant::now() + Duration::from_millis(500));
    if timeout_at(end, app.life.tasks.wait()).await.is_err() {
        tracing::warn!(
            "{} background tasks did not end in time",
            app.life.tasks.len()
        );
    }
}

/// All connections of one listener.
struct Connections {
    app: App,
    router: Router,
    http: http1::Builder,
    slots: ConnectionSlots,
    tasks: TaskTracker,
    /// Fires when each connection is to end after the request it has.
    ending: CancellationToken,
    /// Fires when what is left is cut.
    abort: CancellationToken,
}

impl Connections {
    fn new(app: &App, router: Router, bounds: Bounds, ending: CancellationToken) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_headers(MAX_HEADERS)
            // The read buffer may hold more than this of a head that came at once.
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_HEAD_BYTES)
            .keep_alive(true);
        Self {
            app: app.clone(),
            router,
            http,
            slots: ConnectionSlots::new(bounds),
            tasks: TaskTracker::new(),
            ending,
            abort: CancellationToken::new(),
        }
    }

    /// Accepts until `end`.
    async fn accept(&self, listener: &TcpListener, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        let mut failing = false;
        loop {
            // Room first: where all are being answered, clients queue at the kernel and cost nothing here.
            let next = async {
                self.slots.room().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = &mut end => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    failing = false;
                    self.spawn(stream, address);
                }
                // The client was gone before it was greeted.
                Err(error) if is_about_one_client(&error) => {}
                Err(error) => {
                    self.app.metrics.accept_errors.inc();
                    if !failing {
                        tracing::warn!(%error, "connections cannot be accepted; retrying");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes the connections that are there already, as far as there is room.
    async fn accept_waiting(&self, listener: &TcpListener) {
        while self.slots.has_room() {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = std::future::ready(()) => return,
            };
            let Ok((stream, address)) = accepted else {
                return;
            };
            self.spawn(stream, address);
        }
    }

    fn spawn(&self, stream: TcpStream, address: SocketAddr) {
        let peer = Peer::of(address.ip());
        let Some(slot) = self.slots.take(peer) else {
            // Closed without a word: an answer would cost what a client that opens too many is not to cost.
            self.app.metrics.cut.with_label_values(&["address"]).inc();
            return;
        };
        // Answers are written whole: waiting for more to send would only delay them.
        stream.set_nodelay(true).ok();
        let progress = slot.progress();
        let guard = Guard::new(Arc::clone(&progress), self.app.metrics.cut.clone());
        let (router, life) = (self.router.clone(), Arc::clone(&self.app.life));
        let service = {
            let progress = Arc::clone(&progress);
            service_fn(move |request| {
                answer(
                    router.clone(),
                    Arc::clone(&progress),
                    Arc::clone(&life),
                    (peer, request),
                )
            })
        };
        let connection = self
            .http
            .serve_connection(TokioIo::new(Guarded::new(stream, guard)), service);
        let (ending, abort) = (self.ending.clone(), self.abort.clone());
        let gauge = self.app.metrics.connections.clone();
        let cut = self.app.metrics.cut.clone();
        self.tasks.spawn(async move {
            let _slot = slot;
            gauge.inc();
            tokio::pin!(connection);
            let must_end = tokio::select! {
                biased;
                _ended = &mut connection => false,
                () = progress.closed() => {
                    cut.with_label_values(&["pressure"]).inc();
                    false
                }
                () = ending.cancelled() => true,
            };
            if must_end {
                connection.as_mut().graceful_shutdown();
                // However it ends by itself, there is nobody left to tell.
                if abort.run_until_cancelled(connection).await.is_none() {
                    cut.with_label_values(&["drain"]).inc();
                }
            }
            gauge.dec();
        });
    }
}

async fn answer(
    mut router: Router,
    progress: Arc<Progress>,
    life: Arc<Lifecycle>,
    (peer, mut request): (Peer, Request<Incoming>),
) -> Result<Response<Tracked<Body, Answering>>, Infallible> {
    let has_body = !request.body().is_end_stream();
    let Some((answering, reading)) = progress.begin(has_body) else {
        // The connection is closed before anybody sees what is answered.
        return std::future::pending().await;
    };
    request.extensions_mut().insert(peer);
    let request = request.map(|body| Tracked::new(body, reading));
    let mut response = router.call(request).await;
    // After `connection: close` a client opens another connection. Without it, it may be writing a request while this one closes.
    if let Ok(response) = &mut response
        && life.phase() >= Phase::Leaving
    {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response.map(|response| response.map(|body| Tracked::new(body, Some(answering))))
}

fn is_about_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}
