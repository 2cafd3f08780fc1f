//! `selvage bench`: how many requests a server answers, and how fast. `load` is one run, `pace` when its requests start, `tally`
//! what its responses count for. The client of `bench/run`, too.

mod connection;
mod cpu;
mod load;
mod mark;
mod pace;
mod report;
mod requests;
mod tally;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use self::cpu::Watched;
use self::load::Plan;
use self::report::Report;
use self::tally::Rules;
use crate::arguments::Bench;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::List;

/// Longest time for the first connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Measures every combination of concurrency and rate, one after the other.
pub(crate) async fn run(asked: &Bench, context: &Context) -> Result<Exit, Failure> {
    let console = &context.console;
    let plans = plans(asked).await?;
    let (mut output, mut exit) = (List::new(asked.output.format()), Exit::Success);
    for (number, plan) in plans.iter().enumerate() {
        console.note(format_args!("{plan}"));
        let measured = tokio::select! {
            measured = load::run(plan, &asked.watch) => measured,
            () = context.interrupt.comes() => {
                let left = plans.len() - number;
                console.say(format_args!("interrupted; {left} of {} runs not done", plans.len()));
                exit = Exit::Interrupted;
                break;
            }
        };
        let measured = measured.map_err(|error| Failure::Here(format!("{error:#}")))?;
        let report = Report::new(plan, measured);
        for remark in report.remarks() {
            console.say(format_args!("{plan}: {remark}"));
        }
        if !report.is_good() {
            exit = Exit::Failed;
        }
        output.add(&report, vec![report.row()])?;
    }
    output.end()?;
    Ok(exit)
}

async fn plans(asked: &Bench) -> Result<Vec<Plan>, Failure> {
    let prepared = requests::prepare(asked).await?;
    let server = server(asked).await?;
    let rates: Vec<Option<f64>> = match asked.rate[..] {
        [] => vec![None],
        _ => asked.rate.iter().copied().map(Some).collect(),
    };
    let mut plans = Vec::new();
    for &connections in asked.concurrency() {
        plans.extend(rates.iter().map(|&rate| Plan {
            server,
            prepared: prepared.clone(),
            rules: Rules {
                is_unique: asked.unique,
                is_submit: asked.submit,
            },
            connections,
            threads: asked.threads,
            rate,
            warmup: asked.warmup,
            length: asked.seconds,
        }));
    }
    Ok(plans)
}

/// The first of the server's addresses that accepts a connection.
async fn server(asked: &Bench) -> Result<SocketAddr, Failure> {
    let host = asked.url.host_str().unwrap_or_default();
    let port = asked.url.port_or_known_default().unwrap_or_default();
    let connecting = async {
        let connection = TcpStream::connect(format!("{host}:{port}")).await?;
        connection.peer_addr()
    };
    let connected = timeout(CONNECT_LIMIT, connecting).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|cause| Failure::unreachable(asked.url.as_str(), false, cause.to_string()))
}
