//! `Retry-After` of a busy gateway against the truth: when the work was done that was in the way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use selvage_tests::{Client, Deployment, Settings, pictures};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Requests the gateway takes at once: many batches, so that the work ends evenly and not in lumps.
const PLACES: usize = 100;
/// Clients that ask, each again as soon as it has its answer: some always find no place.
const CLIENTS: usize = PLACES + 20;
/// A refused client's pause; it is one of those that keep the load steady, so it does not follow the advice.
const PAUSE: Duration = Duration::from_millis(500);
/// Width and height of the pictures: decoding them is more work than asking about them.
const SIDE: u32 = 300;
/// Answers before the first advice is looked at, and while others are.
const WARM_UP: usize = 4 * PLACES;
const MEASURED: usize = 3 * PLACES;
/// Every so manyth refusal is printed.
const SHOWN: usize = 40;
/// How far an advice may be from the truth where the load was steady.
const FACTOR: f64 = 2.0;
/// A load is steady where both halves of it took equally long but for this factor.
const STEADY: f64 = 1.25;
/// Longest time for all of it.
const LIMIT: Duration = Duration::from_secs(300);

/// A gateway with few places.
pub(super) fn few_places() -> Settings {
    let mut settings = Settings::default().with("SELVAGE_MAX_IN_FLIGHT", PLACES);
    settings.gateways = 1;
    settings
}

/// What was seen, by all clients together.
#[derive(Debug, Default)]
struct Seen {
    answers: Vec<Instant>,
    /// When a client was refused, and the delay it got.
    refusals: Vec<(Instant, Duration)>,
}

/// Prints the `Retry-After` of refused clients beside the truth.
pub(super) async fn retry_after_of_a_refused_client_is_near_the_truth(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (seen, enough) = (
        Arc::new(Mutex::new(Seen::default())),
        CancellationToken::new(),
    );
    let picture = Arc::new(pictures::plain_gray(SIDE));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let asking = ask(
            on.client(),
            Arc::clone(&picture),
            Arc::clone(&seen),
            enough.clone(),
        );
        clients.spawn(asking);
    }
    tokio::time::timeout(LIMIT, async {
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })
    .await
    .context("so many requests are not answered in time")??;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    judge(&seen, on.shape.as_str())
}

async fn ask(
    client: Client,
    picture: Arc<Vec<u8>>,
    seen: Arc<Mutex<Seen>>,
    enough: CancellationToken,
) -> anyhow::Result<()> {
    while !enough.is_cancelled() {
        let asked = client.post_image("/predict?wait=60", pictures::renewed(&picture));
        let answer = asked.await?;
        if answer.status == 200 {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.answers.push(Instant::now());
            if seen.answers.len() >= WARM_UP + MEASURED + PLACES {
                enough.cancel();
            }
            continue;
        }
        let refusal = answer.expect_problem(429, "queue_full");
        let advised = refusal.json["retry_after_ms"].as_u64();
        let advised = Duration::from_millis(advised.context("it says when to come back")?);
        let whole: u64 = refusal.header("retry-after").parse()?;
        assert_eq!(
            whole,
            advised.as_millis().div_ceil(1000) as u64,
            "{advised:?}"
        );
        let refusal = (Instant::now(), advised);
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .refusals
            .push(refusal);
        sleep(PAUSE).await;
    }
    Ok(())
}

fn judge(seen: &Seen, shape: &str) -> anyhow::Result<()> {
    let (first, last) = (seen.answers[WARM_UP], seen.answers[WARM_UP + MEASURED]);
    let mut ratios = Vec::new();
    for (at, advised) in &seen.refusals {
        let before = seen.answers.partition_point(|answer| answer < at);
        if *at < first || *at > last {
            continue;
        }
        // As many as had a place then are through.
        let through = seen.answers.get(before + PLACES - 1);
        let Some(through) = through else { continue };
        let truth = through.duration_since(*at);
        let ratio = advised.as_secs_f64() / truth.as_secs_f64();
        if ratios.len().is_multiple_of(SHOWN) {
            println!(
                "{shape}: Retry-After advised {advised:.2?}, truth {truth:.2?}, ratio {ratio:.2}"
            );
        }
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let median = *ratios.get(ratios.len() / 2).context("nobody was refused")?;
    let middle = seen.answers[WARM_UP + MEASURED / 2];
    let halves = [middle.duration_since(first), last.duration_since(middle)];
    let drift = halves[0].as_secs_f64() / halves[1].as_secs_f64();
    println!(
        "{shape}: {} refusals, ratios {:.2} to {:.2}, median {median:.2}; the load's halves took {halves:.2?}",
        ratios.len(),
        ratios[0],
        ratios[ratios.len() - 1],
    );
    // The guarantee holds for steady loads, and a machine that others use too is not always one.
    if (1.0 / STEADY..=STEADY).contains(&drift) {
        anyhow::ensure!((1.0 / FACTOR..=FACTOR).contains(&median), "{median}");
    }
    Ok(())
}
