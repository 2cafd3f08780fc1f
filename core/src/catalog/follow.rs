//! Follows the models folder while a program runs: what lies there now, reported once it is still. The program decides what
//! becomes of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::watch::{Finding, Watch};
use super::{Catalog, Model};
use crate::job::ModelName;

/// How long a folder has to be still after SIGHUP.
const STILL: Duration = Duration::from_secs(1);
/// Changes that wait for the program; more wait on the disk.
const ROOM: usize = 16;

/// Where models lie, and how often is looked there.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder of models.
    pub folder: PathBuf,
    /// How often it is looked at, and how long a changed model has to be still; `None`: only after SIGHUP.
    pub every: Option<Duration>,
}

/// What has become of a model that is served.
#[derive(Debug)]
pub enum Change {
    /// Another file or description lies in its place.
    Now(Arc<Model>),
    /// What lies there cannot be used, for a reason that was logged. The name is known where the folder is.
    Refused(Option<ModelName>),
}

/// Follows a folder.
#[derive(Debug)]
pub struct Follow {
    every: Option<Duration>,
    watch: Watch,
    latest: Latest,
    hangups: Option<Signal>,
    changes: mpsc::Sender<Change>,
}

/// Per folder what was last found in it.
#[derive(Debug)]
struct Latest(HashMap<PathBuf, Arc<Model>>);

impl Follow {
    /// Follows the folder this catalog was read from. From now on SIGHUP does not end the process.
    #[must_use]
    pub fn new(source: Source, catalog: &Catalog) -> (Self, mpsc::Receiver<Change>) {
        let hangups = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be listened to"));
        let (changes, receiver) = mpsc::channel(ROOM);
        let follow = Self {
            every: source.every,
            watch: Watch::new(source.folder),
            latest: Latest::of(catalog),
            hangups: hangups.ok(),
            changes,
        };
        (follow, receiver)
    }

    /// Tells what changes, until `stop` fires or nobody listens.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.tell()).await;
    }

    async fn tell(mut self) {
        let mut asked = false;
        loop {
            let pause = if asked { Some(STILL) } else { self.every };
            let woken = tokio::select! {
                () = pause_for(pause) => false,
                () = hangup(self.hangups.as_mut()) => true,
            };
            if woken {
                tracing::info!("SIGHUP: the models are read again");
                self.watch.forget();
            }
            asked = woken || (asked && self.watch.has_unread());
            let mut watch = self.watch;
            let looked = spawn_blocking(move || (watch.look(), watch)).await;
            let Ok((findings, watch)) = looked else {
                tracing::error!("the models folder is followed no more: looking at it panicked");
                return;
            };
            self.watch = watch;
            for change in findings
                .into_iter()
                .filter_map(|found| self.latest.judge(found))
            {
                if self.changes.send(change).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn pause_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

async fn hangup(hangups: Option<&mut Signal>) {
    let heard = match hangups {
        Some(hangups) => hangups.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending::<()>().await;
    }
}

impl Latest {
    fn of(catalog: &Catalog) -> Self {
        let folder = |model: &Arc<Model>| (model.folder.clone(), Arc::clone(model));
        Self(catalog.models().iter().map(folder).collect())
    }

    /// What a finding means for the models that are served; logs what is refused.
    fn judge(&mut self, finding: Finding) -> Option<Change> {
        let served = self.0.get_mut(&finding.folder);
        let folder = finding.folder.display();
        match (served, finding.found) {
            (Some(served), Ok(model)) if model.name == served.name => {
                if model.is_same(served) {
                    return None;
                }
                *served = Arc::clone(&model);
                Some(Change::Now(model))
            }
            (Some(served), Ok(model)) => {
                tracing::error!(
                    model.name = %served.name,
                    "{folder} names its model `{}` now; a name can only change with a restart, the model stays as it is",
                    model.name
                );
                Some(Change::Refused(Some(served.name.clone())))
            }
            (Some(served), Err(error)) => {
                tracing::error!(
                    model.name = %served.name,
                    "the model stays as it is: what lies in {folder} now cannot be used: {error}"
                );
                Some(Change::Refused(Some(served.name.clone())))
            }
            (None, Ok(model)) => {
                let (name, digest) = (&model.name, model.digest);
                // Models that this program does not serve are ignored.
                tracing::info!(model.name = %name, model.digest = %digest,
                    "{folder} holds a model that is not served; a new model needs a restart");
                None
            }
            (None, Err(error)) => {
                tracing::error!("a model that is not served cannot be used: {error}");
                Some(Change::Refused(None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::task::TaskTracker;

    use crate::catalog::CatalogError;
    use crate::catalog::tests::{GOOD, folder_with};

    fn found(folder: &std::path::Path, found: Result<Arc<Model>, CatalogError>) -> Finding {
        Finding {
            folder: folder.join("tiny"),
            found,
        }
    }

    #[test]
    fn only_a_served_model_that_is_another_one_is_news() {
        let folder = folder_with(GOOD);
        let catalog = Catalog::read(folder.path()).unwrap();
        let served = &catalog.models()[0];
        let mut latest = Latest::of(&catalog);
        assert!(
            latest
                .judge(found(folder.path(), Ok(Arc::clone(served))))
                .is_none()
        );
        let newer = Arc::new(Model {
            version: "2".to_owned(),
            ..served.as_ref().clone()
        });
        for model in [&newer, served] {
            let change = latest.judge(found(folder.path(), Ok(Arc::clone(model))));
            assert!(matches!(change, Some(Change::Now(now)) if now.version == model.version));
        }
        let renamed = Arc::new(Model {
            name: "other".parse().unwrap(),
            ..served.as_ref().clone()
        });
        let change = latest.judge(found(folder.path(), Ok(renamed)));
        assert!(matches!(change, Some(Change::Refused(Some(name))) if name == served.name));
        let elsewhere = Finding {
            folder: folder.path().join("twin"),
            found: Ok(newer),
        };
        assert!(
            latest.judge(elsewhere).is_none(),
            "a copy of a model is not the model"
        );
        let gone = CatalogError::Empty {
            path: folder.path().to_owned(),
        };
        let change = latest.judge(found(folder.path(), Err(gone)));
        assert!(matches!(change, Some(Change::Refused(Some(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reported_and_the_task_ends_with_its_token() {
        let folder = folder_with(GOOD);
        let catalog = Catalog::read(folder.path()).unwrap();
        let source = Source {
            folder: folder.path().to_owned(),
            every: Some(Duration::from_secs(1)),
        };
        let stop = CancellationToken::new();
        let (follow, mut changes) = Follow::new(source, &catalog);
        let following = TaskTracker::new();
        following.spawn(follow.run(stop.clone()));
        std::fs::write(folder.path().join("tiny/model.onnx"), b"others").unwrap();
        let Some(Change::Now(model)) = changes.recv().await else {
            panic!("the new file was not reported");
        };
        assert_eq!(model.digest, crate::key::Digest::of(b"others"));
        stop.cancel();
        assert!(changes.recv().await.is_none());
    }
}
