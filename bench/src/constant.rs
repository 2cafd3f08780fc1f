//! The limit of HTTP alone: an axum handler that reads the body and gives the same answer to everything.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::any;
use axum::serve::ListenerExt;
use bytes::Bytes;
use clap::Args;
use tokio::net::TcpListener;

/// Where it listens and what it answers.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Address to listen on; the one in use is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Size of the answer's body in bytes; at least that of the label the load client looks for.
    #[arg(long, value_name = "BYTES", default_value_t = 700)]
    answer_bytes: usize,
}

/// Serves until the process is ended.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    // The same runtime as the gateway's: a worker thread for each core.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(options: &Options) -> Result<()> {
    let answer = answer(options.answer_bytes);
    let handler = async move |body: Bytes| {
        // The body has been read whole; nothing else is done with it.
        drop(body);
        ([(CONTENT_TYPE, "application/json")], answer.clone())
    };
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let listener = listener.tap_io(|connection| {
        // Answers are written in one piece; a connection without the option is merely slower.
        let _slower = connection.set_nodelay(true);
    });
    axum::serve(listener, Router::new().route("/predict", any(handler))).await?;
    Ok(())
}

/// JSON of that size.
fn answer(bytes: usize) -> Bytes {
    let (start, end) = (r#"{"output":{"label":"constant"},"filling":""#, r#""}"#);
    let filling = bytes.saturating_sub(start.len() + end.len());
    format!("{start}{}{end}", ".".repeat(filling)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_json_of_the_size_asked_for() {
        let answer = answer(700);
        assert_eq!(answer.len(), 700);
        let json: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(json["output"]["label"], "constant");
    }
}
