//! Places at which a fault test can end this process, as a crash would. Without the feature `failpoints` they are nothing.
//!
//! `SELVAGE_FAILPOINT=after_inference` ends it at the first job that gets there; with `@` and the first digits of an image's
//! SHA-256 behind it only a job with that image does.

use selvage_core::job::Job;

/// Aborts if the environment names this point, and one of these jobs where it names an image.
#[cfg(feature = "failpoints")]
pub(crate) fn reach<'j>(point: &str, jobs: impl IntoIterator<Item = &'j Job>) {
    let Ok(setting) = std::env::var("SELVAGE_FAILPOINT") else {
        return;
    };
    let (name, image) = setting.split_once('@').unwrap_or((&setting, ""));
    let named = |job: &Job| job.key.image.to_hex().starts_with(image);
    if name == point && jobs.into_iter().any(named) {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn reach<'j>(_point: &str, _jobs: impl IntoIterator<Item = &'j Job>) {}
