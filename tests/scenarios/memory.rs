//! Memory over many requests.

use std::sync::Arc;

use futures_util::future::try_join_all;
use selvage_tests::usage::memory_kib;
use selvage_tests::{Client, Deployment, pictures};

/// Requests sent before memory is first looked at: by then pools, threads and caches have their size.
const WARM: u64 = 1_000;
/// Requests in all.
const ALL: u64 = 10_000;
/// Requests at once.
const AT_ONCE: u64 = 20;

/// Good and bad images in turn, all different; after the first thousand memory grows by less than a twentieth.
pub(super) async fn ten_thousand_requests_leave_memory_as_it_was(
    on: Arc<Deployment>,
) -> anyhow::Result<()> {
    let client = on.client();
    let pid = on.with_gateways(|programs| programs[0].pid());
    send(&client, 0..WARM).await?;
    let warm = memory_kib(pid);
    send(&client, WARM..ALL).await?;
    let end = memory_kib(pid);
    println!("memory: {warm} KiB after {WARM} requests, {end} KiB after {ALL}");
    assert!(end * 20 < warm * 21, "grew from {warm} to {end} KiB");
    Ok(())
}

async fn send(client: &Client, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let senders = (0..AT_ONCE).map(|sender| {
        let mine = numbers.clone().filter(move |n| n % AT_ONCE == sender);
        async move {
            for n in mine {
                let (image, status) = match n % 4 {
                    0 => (pictures::broken_by(n), 422),
                    1 => (b"no image".to_vec(), 415),
                    2 => (pictures::noise(200, 150, n), 200),
                    _ => (pictures::unique(), 200),
                };
                client
                    .post_image("/predict?wait=60", image)
                    .await?
                    .expect(status);
            }
            anyhow::Ok(())
        }
    });
    try_join_all(senders).await?;
    Ok(())
}
