//! Who may ask: API keys, read from a file of hashes, and the [`Caller`] a request has become once its key was looked at.
//!
//! Without a file everybody may ask, and is the same anonymous caller. Knows no route; `routes/access.rs` asks here.

mod keys;
pub mod make;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use selvage_core::key_name::KeyName;
use selvage_core::store::Record;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use keys::{Key, Keys, KeysError, Problem};

use crate::error::{ApiError, Code};

/// The keys of this gateway, as they are now.
#[derive(Debug, Default)]
pub struct Access(Option<Guarded>);

#[derive(Debug)]
struct Guarded {
    file: PathBuf,
    keys: RwLock<Arc<Keys>>,
}

/// What a request shows as its key is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl Access {
    /// Everybody may ask.
    #[must_use]
    pub const fn open() -> Self {
        Self(None)
    }

    /// Only who shows a key of this file may ask.
    ///
    /// # Errors
    /// [`KeysError`]: the file cannot be read, or a line of it is wrong.
    pub fn from_file(file: &Path) -> Result<Self, KeysError> {
        let keys = RwLock::new(Arc::new(Keys::read(file)?));
        let file = file.to_owned();
        Ok(Self(Some(Guarded { file, keys })))
    }

    /// Whether keys are needed.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        self.0.is_some()
    }

    /// The caller that shows this token; anonymous where no keys are needed.
    ///
    /// # Errors
    /// [`Unknown`] where a key is needed and this is none.
    pub fn caller(&self, token: Option<&[u8]>) -> Result<Caller, Unknown> {
        let Some(Guarded { keys, .. }) = &self.0 else {
            return Ok(Caller::default());
        };
        let keys = Arc::clone(&keys.read().unwrap_or_else(PoisonError::into_inner));
        let key = token.and_then(|token| keys.find(token)).ok_or(Unknown)?;
        Ok(Caller { key: Some(key) })
    }

    /// Reads the file anew at each SIGHUP, until `stop` fires. A file that is wrong by then changes nothing.
    pub async fn follow_hangups(self: Arc<Self>, stop: CancellationToken) {
        let Some(guarded) = &self.0 else { return };
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
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "SIGHUP: the API keys were read anew");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "SIGHUP: the API keys stay as they were: {error}");
            }
        }
    }
}

/// Who sent a request. Handlers behind a key take it as an argument; it is there for every route that is not open.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    key: Option<Arc<Key>>,
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
        self.owner() == record.seed.owner.as_ref()
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
        caller.ok_or_else(|| {
            ApiError::new(Code::Internal, "see the log").because("a route without access control")
        })
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
    fn a_file_is_read_anew_and_a_wrong_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, line("ann", "one")).unwrap();
        let access = Access::from_file(&file).unwrap();
        let name = |token: &str| {
            let caller = access.caller(Some(token.as_bytes())).ok();
            caller.map(|caller| caller.owner().unwrap().to_string())
        };
        assert_eq!(name("one").as_deref(), Some("ann"));
        assert_eq!(name("two"), None);
        assert!(access.caller(None).is_err());

        fs::write(&file, line("bob", "two")).unwrap();
        access.0.as_ref().unwrap().reread();
        assert_eq!((name("one"), name("two").as_deref()), (None, Some("bob")));

        fs::write(&file, "bob").unwrap();
        access.0.as_ref().unwrap().reread();
        assert_eq!(name("two").as_deref(), Some("bob"));
    }

    #[test]
    fn nobody_is_an_admin_where_no_keys_are_needed() {
        let caller = Access::open().caller(Some(b"whatever")).unwrap();
        assert_eq!(caller.owner(), None);
        let refused = caller.must_be_admin().unwrap_err();
        assert_eq!(refused.code(), Code::Forbidden);
    }
}
