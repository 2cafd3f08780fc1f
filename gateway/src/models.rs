//! Which model a request means.

use std::sync::Arc;

use selvage_core::catalog::{Catalog, Model};
use selvage_core::job::ModelName;

use crate::config::Settings;
use crate::error::{ApiError, Code};
use crate::start::Failure;

/// The model that answers where several could and none is named.
const PREFERRED: &str = "fashion-mnist";

/// The catalog and its default.
#[derive(Clone, Debug)]
pub struct Models {
    catalog: Arc<Catalog>,
    default: Arc<Model>,
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
        let default = Arc::clone(chosen.ok_or(None)?);
        Ok(Self { catalog, default })
    }

    /// The models of these settings.
    ///
    /// # Errors
    /// [`Failure::Usage`] where the folder, a model in it or the default model is wrong.
    pub fn of(settings: &Settings) -> Result<Self, Failure> {
        let catalog = Catalog::read(&settings.shared.models).map_err(|error| {
            Failure::Usage(anyhow::Error::new(error).context("--models / SELVAGE_MODELS"))
        })?;
        let models = Self::new(Arc::new(catalog), settings.default_model.as_ref());
        models.map_err(|name| Failure::Usage(no_such_model(name.as_ref())))
    }

    /// The model of that name and version; the default model's where no name is given.
    ///
    /// # Errors
    /// `model_not_found`; a version that is not served is not found either.
    pub fn find(&self, name: Option<&str>, version: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let not_found = |detail| ApiError::new(Code::ModelNotFound, detail);
        let model = match name {
            None => &self.default,
            Some(name) => {
                let found = self.catalog.get(name);
                found.ok_or_else(|| not_found("no model of that name; GET /models lists them"))?
            }
        };
        if version.is_some_and(|version| version != model.version) {
            return Err(not_found(
                "that version is not served; GET /models lists what is",
            ));
        }
        Ok(Arc::clone(model))
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// All models, by name.
    #[must_use]
    pub fn all(&self) -> &[Arc<Model>] {
        self.catalog.models()
    }

    /// The default model's name.
    #[must_use]
    pub fn default_name(&self) -> &str {
        self.default.name.as_str()
    }
}

fn no_such_model(name: Option<&ModelName>) -> anyhow::Error {
    match name {
        Some(name) => anyhow::anyhow!(
            "--default-model / SELVAGE_DEFAULT_MODEL: the models folder has no `{name}`"
        ),
        None => anyhow::anyhow!("--models / SELVAGE_MODELS: the folder has no model"),
    }
}
