//! Which model a request means, and which file of it.
//!
//! Where a model's file has changed on disk, requests go on with the old one until every worker that holds the model holds
//! the new one too: a queue's next job may go to any of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use selvage_core::catalog::{Catalog, Model};
use selvage_core::job::ModelName;
use selvage_core::key::PredictionKey;
use selvage_core::registry::{AskedModel, Members, ModelStatus};

/// The model that answers where several could and none is named.
const PREFERRED: &str = "fashion-mnist";

/// Old files that are remembered for what is still under way.
const REMEMBERED: usize = 16;

/// The models, one of them the default; cheap to clone, clones are the same.
#[derive(Clone, Debug)]
pub struct Models(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    default: ModelName,
    /// What requests are for now.
    now: RwLock<Arc<Catalog>>,
    /// What lies in the folder and is not held by all workers yet.
    coming: Mutex<BTreeMap<ModelName, Arc<Model>>>,
    /// What requests were for before, the youngest first.
    former: Mutex<Vec<Arc<Model>>>,
}

/// Why no model is what a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownModel {
    /// No model has that name.
    #[error("no model has that name")]
    Name,
    /// Another version of it is served.
    #[error("that version is not served")]
    Version,
}

impl Models {
    /// The models of a catalog, with the default one by name, else `fashion-mnist`, else the first.
    ///
    /// # Errors
    /// The name, where no model has it; `None` for a catalog without models.
    pub fn new(
        catalog: Arc<Catalog>,
        default: Option<&ModelName>,
    ) -> Result<Self, Option<ModelName>> {
        let chosen = match default {
            Some(name) => Some(
                catalog
                    .get(name.as_str())
                    .ok_or_else(|| Some(name.clone()))?,
            ),
            None => catalog.get(PREFERRED).or_else(|| catalog.models().first()),
        };
        let default = chosen.ok_or(None)?.name.clone();
        Ok(Self(Arc::new(Inner {
            default,
            now: RwLock::new(catalog),
            coming: Mutex::default(),
            former: Mutex::default(),
        })))
    }

    /// The model of that name and version; the default model's where no name is given.
    ///
    /// # Errors
    /// [`UnknownModel`].
    pub fn find(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Arc<Model>, UnknownModel> {
        let catalog = self.catalog();
        let model = catalog
            .get(name.unwrap_or_else(|| self.default_name()))
            .ok_or(UnknownModel::Name)?;
        if version.is_some_and(|version| version != model.version) {
            return Err(UnknownModel::Version);
        }
        Ok(Arc::clone(model))
    }

    /// What requests are for now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.0.now.read())
    }

    /// The model an answer under this key is of, be it an old file of it.
    #[must_use]
    pub fn of_key(&self, key: &PredictionKey) -> Option<Arc<Model>> {
        let now = self.catalog();
        let former = self.0.former.lock();
        let mut all = now.models().iter().chain(former.iter());
        all.find(|model| model.answers(key)).cloned()
    }

    /// Notes what lies in the folder now.
    pub fn comes(&self, model: &Arc<Model>) {
        let now = self.catalog();
        let mut coming = self.0.coming.lock();
        let is_current = now
            .get(model.name.as_str())
            .is_some_and(|current| current.is_same(model));
        if is_current {
            coming.remove(&model.name);
        } else {
            let own = Arc::new(model.as_ref().clone());
            coming.insert(model.name.clone(), own);
        }
    }

    /// Takes the new file of each model whose workers all hold it; returns those. Where no worker is known nothing is
    /// taken: what they hold is not known either.
    pub fn take_over(&self, members: &Members) -> Vec<Arc<Model>> {
        let mut taken = Vec::new();
        self.0.coming.lock().retain(|_, model| {
            let ready = is_held_by_all(model, members);
            if ready {
                taken.push(Arc::clone(model));
            }
            !ready
        });
        for model in &taken {
            self.replace(model);
        }
        taken
    }

    fn replace(&self, model: &Arc<Model>) {
        let mut now = self.0.now.write();
        let old = now.get(model.name.as_str()).cloned();
        *now = Arc::new(now.with(model));
        drop(now);
        let mut former = self.0.former.lock();
        former.splice(0..0, old);
        former.truncate(REMEMBERED);
    }

    /// The files that jobs of this gateway are for: today's, and old ones that a request still has in its hands.
    #[must_use]
    pub fn asked(&self) -> Vec<AskedModel> {
        let now = self.catalog();
        let former = self.0.former.lock();
        let in_hand = former.iter().filter(|model| Arc::strong_count(model) > 1);
        let all = now.models().iter().chain(in_hand);
        all.map(|model| AskedModel::from(model.as_ref())).collect()
    }

    /// The default model's name.
    #[must_use]
    pub fn default_name(&self) -> &str {
        self.0.default.as_str()
    }
}

/// Whether the model has workers, and each has this file.
fn is_held_by_all(model: &Model, members: &Members) -> bool {
    let of_name = |held: &&ModelStatus| held.name == model.name;
    let mut holders = members
        .workers
        .iter()
        .filter(|worker| worker.models.iter().any(|held| held.name == model.name))
        .peekable();
    holders.peek().is_some()
        && holders.all(|worker| {
            let mut files = worker.models.iter().filter(of_name);
            files.any(|held| held.is(model))
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use selvage_core::clock::UnixMillis;
    use selvage_core::key::Digest;
    use selvage_core::registry::{Ends, Taken, WorkerStatus};

    use super::*;

    const MODEL: &str = r#"
        name = "tiny"
        version = "1"
        file = "model.onnx"
        labels = ["a"]
        [input]
        width = 1
        height = 1
        channels = "gray"
        mean = [0.5]
        std = [0.5]
    "#;

    fn models() -> Models {
        let folder = tempfile::tempdir().unwrap();
        let tiny = folder.path().join("tiny");
        fs::create_dir(&tiny).unwrap();
        fs::write(tiny.join("model.toml"), MODEL).unwrap();
        fs::write(tiny.join("model.onnx"), b"old").unwrap();
        let catalog = Catalog::read(folder.path()).unwrap();
        Models::new(Arc::new(catalog), None).unwrap()
    }

    fn with_file(models: &Models, file: &[u8]) -> Arc<Model> {
        let current = models.find(None, None).unwrap();
        Arc::new(Model {
            digest: Digest::of(file),
            ..current.as_ref().clone()
        })
    }

    fn workers(files: &[&[&Model]]) -> Members {
        let held = |model: &&Model| ModelStatus {
            name: model.name.clone(),
            version: model.version.clone(),
            digest: model.digest,
            preprocessing: Some(model.preprocessing),
            sessions: 1,
            busy: 0,
            jobs: 0,
            batches: 0,
            ended: Ends::default(),
            taken: Taken::default(),
            placement: None,
        };
        let worker = |files: &&[&Model]| WorkerStatus {
            id: String::new(),
            started_at: UnixMillis(0),
            models: files.iter().map(held).collect(),
        };
        Members {
            workers: files.iter().map(worker).collect(),
            ..Members::default()
        }
    }

    #[test]
    fn a_new_file_is_asked_for_once_every_worker_of_the_model_has_it() {
        let models = models();
        let old = models.find(None, None).unwrap();
        let new = with_file(&models, b"new");
        let other = Model {
            name: "other".parse().unwrap(),
            ..old.as_ref().clone()
        };
        models.comes(&new);
        for too_early in [
            workers(&[]),
            workers(&[&[&other]]),
            workers(&[&[&new, &old], &[&old]]),
        ] {
            assert!(models.take_over(&too_early).is_empty());
            assert_eq!(models.find(None, None).unwrap().digest, old.digest);
        }
        let all = workers(&[&[&new, &old], &[&new], &[&other]]);
        assert_eq!(models.take_over(&all).len(), 1);
        assert_eq!(models.find(None, None).unwrap().digest, new.digest);
        assert!(models.take_over(&all).is_empty());
    }

    #[test]
    fn another_preparation_of_the_same_file_is_another_model() {
        let models = models();
        let old = models.find(None, None).unwrap();
        let new = Arc::new(Model {
            preprocessing: old.preprocessing + 1,
            ..old.as_ref().clone()
        });
        models.comes(&new);
        assert!(models.take_over(&workers(&[&[&old]])).is_empty());
        assert_eq!(models.take_over(&workers(&[&[&new]])).len(), 1);
    }

    #[test]
    fn what_is_taken_back_from_the_folder_does_not_come() {
        let models = models();
        let new = with_file(&models, b"new");
        models.comes(&new);
        models.comes(&models.find(None, None).unwrap());
        assert!(models.take_over(&workers(&[&[&new]])).is_empty());
    }

    #[test]
    fn an_old_file_is_asked_for_as_long_as_a_request_has_it() {
        let models = models();
        let old = models.find(None, None).unwrap();
        let new = with_file(&models, b"new");
        models.comes(&new);
        models.take_over(&workers(&[&[&new]]));
        let digests = || {
            models
                .asked()
                .iter()
                .map(|asked| asked.digest)
                .collect::<Vec<_>>()
        };
        assert_eq!(digests(), [new.digest, old.digest]);
        let key = PredictionKey {
            model: old.digest,
            preprocessing: old.preprocessing,
            image: Digest::of(b"image"),
        };
        drop(old);
        assert_eq!(digests(), [new.digest]);
        assert!(models.of_key(&key).is_some(), "its answers are still known");
    }
}
