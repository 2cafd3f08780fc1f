//! Places at which a fault test can end a process, as a crash would, or hold a thread. Without the feature `failpoints` they are nothing.
//!
//! `SELVAGE_FAILPOINT=after_inference` ends it at the first job that gets there; with `@` and the first digits of an image's
//! SHA-256 behind it only a job with that image does.
//!
//! | point | process | what has happened by then |
//! |---|---|---|
//! | `after_record` | gateway | an asynchronous job's record is written, nothing is published |
//! | `after_publish` | gateway | the message is on its way to the broker, its confirm is not back |
//! | `after_confirm` | gateway | the broker has confirmed it, the client has no answer |
//! | `after_claim` | worker | the record says `running` |
//! | `after_inference` | worker | the scores are there, nothing is stored |
//! | `after_store` | worker | cache and record are written, no reply is sent |
//! | `decode`, `inference` | worker | decoding or the inference never returns: the thread sleeps for ever instead of the process ending |
//! | `before_ack` | worker | the reply is sent, the broker still holds the message |
//!
//! `SELVAGE_INFERENCE_WAIT_US` makes each inference last so many microseconds longer per image, asleep: workers that only wait
//! show how far a broker goes without a core for each of them.

use bytes::Bytes;

use crate::job::Job;
#[cfg(feature = "failpoints")]
use crate::key::Digest;

/// Whether the environment names this point, and one of these images where it names one.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn is_set<'i>(point: &str, images: impl IntoIterator<Item = &'i Bytes>) -> bool {
    let Ok(setting) = std::env::var("SELVAGE_FAILPOINT") else {
        return false;
    };
    let (name, digest) = setting.split_once('@').unwrap_or((&setting, ""));
    // Of the bytes: the key's digest is another one where API keys have caches of their own.
    let named = |image: &Bytes| Digest::of(image).to_hex().starts_with(digest);
    name == point && images.into_iter().any(named)
}

/// Never.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[must_use]
pub fn is_set<'i>(_point: &str, _images: impl IntoIterator<Item = &'i Bytes>) -> bool {
    false
}

/// Aborts where [`is_set`] for one of these jobs.
#[inline]
pub fn reach<'j>(point: &str, jobs: impl IntoIterator<Item = &'j Job>) {
    if is_set(point, jobs.into_iter().map(|job| &job.image)) {
        std::process::abort();
    }
}

/// Holds the thread for ever if the failpoint says so.
#[inline]
pub fn hang_if(is_set: bool) {
    if is_set {
        loop {
            std::thread::park();
        }
    }
}

/// Sleeps as long as the environment says inference of so many images takes on top.
#[cfg(feature = "failpoints")]
pub fn prolong(images: usize) {
    let setting = std::env::var("SELVAGE_INFERENCE_WAIT_US").ok();
    if let Some(each) = setting.and_then(|text| text.parse().ok()) {
        std::thread::sleep(std::time::Duration::from_micros(each) * images as u32);
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn prolong(_images: usize) {}
