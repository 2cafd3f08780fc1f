//! Who may ask and how often: API keys, read from a file of hashes, rates, and the [`Caller`] a request has become once its
//! key was looked at.
//!
//! Without a file every client has access, as the same anonymous caller; a rate then counts by address. Knows no route;
//! `routes/access.rs` asks here.

mod addresses;
mod keys;
pub mod make;
mod rate;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use selvage_core::key_name::KeyName;
use selvage_core::store::Record;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use keys::{Key, Keys, KeysError, Problem};
pub use rate::{NoRate, Rate};

use crate::http::error::{ApiError, Code};
use crate::http::peer::Peer;
use addresses::Addresses;
use rate::Allowance;

/// The keys of this gateway, as they are now.
#[derive(Debug)]
pub struct Access(Kind);

#[derive(Debug)]
enum Kind {
    /// Everybody may ask; where there is a rate, so often from one address.
    Open(Option<Addresses>),
    /// Who shows a key may ask.
    Guarded(Guarded),
}

#[derive(Debug)]
struct Guarded {
    file: PathBuf,
    keys: RwLock<Arc<Keys>>,
}

/// The request's key is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl Access {
    /// Everybody may ask; where there is a rate, so often from one address.
    #[must_use]
    pub fn open(rate: Option<Rate>) -> Self {
        Self(Kind::Open(rate.map(Addresses::new)))
    }

    /// Only who shows a key of this file may ask.
    ///
    /// # Errors
    /// [`KeysError`]: the file cannot be read, or a line of it is wrong.
    pub fn from_file(file: &Path) -> Result<Self, KeysError> {
        let keys = RwLock::new(Arc::new(Keys::read(file)?));
        let file = file.to_owned();
        Ok(Self(Kind::Guarded(Guarded { file, keys })))
    }

    /// Whether keys are needed.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        matches!(self.0, Kind::Guarded(_))
    }

    /// The caller that shows this token; anonymous where no keys are needed, and then distinguished by its address.
    ///
    /// # Errors
    /// [`Unknown`] where a key is needed and this is none.
    pub fn caller(&self, token: Option<&[u8]>, peer: Option<Peer>) -> Result<Caller, Unknown> {
        let keys = match &self.0 {
            Kind::Open(addresses) => {
                let bucket = addresses.as_ref().map(|addresses| addresses.bucket(peer));
                return Ok(Caller {
                    key: None,
                    allowance: bucket.map(|bucket| Arc::new(Allowance::new("address", bucket))),
                });
            }
            Kind::Guarded(Guarded { keys, .. }) => keys,
        };
        let keys = Arc::clone(&keys.read());
        let key = token.and_then(|token| keys.find(token)).ok_or(Unknown)?;
        let bucket = keys.bucket(&key);
        Ok(Caller {
            key: Some(key),
            allowance: bucket.map(|bucket| Arc::new(Allowance::new("key", bucket))),
        })
    }

    /// Reads the file again at each SIGHUP, until `stop` fires. A file that is wrong by then changes nothing.
    pub async fn follow_hangups(self: Arc<Self>, stop: CancellationToken) {
        let Kind::Guarded(guarded) = &self.0 else {
            return;
        };
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be listened to: new API keys need a restart");
                return;
            }
        };
        while let Some(Some(())) = stop.run_until_cancelled(hangups.recv()).await {
            guarded.reread();
        }
    }
}

impl Guarded {
    fn reread(&self) {
        match Keys::read(&self.file) {
            Ok(mut keys) => {
                tracing::info!(keys = keys.len(), "SIGHUP: the API keys were read again");
                let mut current = self.keys.write();
                keys.keep_buckets(&current);
                *current = Arc::new(keys);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "SIGHUP: the API keys stay as they were: {error}");
            }
        }
    }
}

/// Who sent a request. Handlers behind a key take it as an argument; it is there for every route that is not open.
#[derive(Clone, Debug)]
pub struct Caller {
    key: Option<Arc<Key>>,
    allowance: Option<Arc<Allowance>>,
}

impl Caller {
    /// The name jobs of this caller are kept under; `None` where no keys are needed.
    #[must_use]
    pub fn owner(&self) -> Option<&KeyName> {
        self.key.as_ref().map(|key| &key.name)
    }

    /// Whether this record is the caller's. Whose it is else is nobody's business: answer as if there were none.
    #[must_use]
    pub fn owns(&self, record: &Record) -> bool {
        self.owner() == record.seed.submission.owner.as_ref()
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `rate_limited` where the caller's rate is used up.
    pub fn take_request(&self) -> Result<(), ApiError> {
        let allowance = self.allowance.as_ref();
        allowance.map_or(Ok(()), |allowance| allowance.take_request())
    }

    /// Counts a request that has been counted once by its images: as many as it has.
    ///
    /// # Errors
    /// `rate_limited` where so many are not left; `invalid_option` where there are never so many.
    pub fn take_images(&self, images: usize) -> Result<(), ApiError> {
        let allowance = self.allowance.as_ref();
        allowance.map_or(Ok(()), |allowance| allowance.take_images(images))
    }

    /// `RateLimit-Policy` and `RateLimit`, where a rate applies to the caller.
    #[must_use]
    pub fn rate_headers(&self) -> Option<[(HeaderName, HeaderValue); 2]> {
        let allowance = self.allowance.as_ref()?;
        Some(allowance.headers())
    }

    /// Lets only admins pass.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn must_be_admin(&self) -> Result<(), ApiError> {
        if self.key.as_ref().is_some_and(|key| key.admin) {
            return Ok(());
        }
        let detail = "this needs an API key with the scope `admin`";
        Err(ApiError::new(Code::Forbidden, detail))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        // A route that forgot to ask for the key must not answer as if it had.
        caller.ok_or_else(|| ApiError::internal("a route without access control"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use selvage_core::key::Digest;

    use super::*;

    fn line(name: &str, token: &str) -> String {
        format!("{name} {}\n", Digest::of(token.as_bytes()).to_hex())
    }

    #[test]
    fn a_file_is_read_again_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, line("ann", "one")).unwrap();
        let access = Access::from_file(&file).unwrap();
        let reread = || match &access.0 {
            Kind::Guarded(guarded) => guarded.reread(),
            Kind::Open(_) => unreachable!("it has a file"),
        };
        let caller = |token: &str| access.caller(Some(token.as_bytes()), None).ok();
        let name = |token: &str| Some(caller(token)?.owner()?.to_string());
        assert_eq!(name("one").as_deref(), Some("ann"));
        assert_eq!(name("two"), None);
        assert!(access.caller(None, None).is_err());

        fs::write(&file, line("bob", "two")).unwrap();
        reread();
        assert_eq!((name("one"), name("two").as_deref()), (None, Some("bob")));

        fs::write(&file, "bob").unwrap();
        reread();
        assert_eq!(name("two").as_deref(), Some("bob"));

        // Reading the file gives nobody a new rate, but a changed rate counts at once.
        let limited = |rate: &str| line("bob", "two").replace('\n', &format!(" rate={rate}\n"));
        let ask = || caller("two").unwrap().take_request().is_ok();
        for (rate, asked) in [("2/h", true), ("2/h", true), ("2/h", false), ("3/h", true)] {
            fs::write(&file, limited(rate)).unwrap();
            reread();
            assert_eq!(ask(), asked, "{rate}");
        }
    }

    #[test]
    fn nobody_is_an_admin_where_no_keys_are_needed() {
        let caller = Access::open(None).caller(Some(b"whatever"), None).unwrap();
        assert_eq!(caller.owner(), None);
        let refused = caller.must_be_admin().unwrap_err();
        assert_eq!(refused.code(), Code::Forbidden);
    }
}
