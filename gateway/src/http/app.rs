//! What handlers see: the gateway, and what only HTTP needs.

use std::ops::Deref;
use std::sync::Arc;

use crate::http::access::Access;
use crate::http::limits::Limits;
use crate::http::upload::BodyLimits;
use crate::service::gateway::Gateway;

/// A running gateway with its HTTP interface. One pointer, because axum clones it several times for each request.
#[derive(Clone, Debug)]
pub struct App(pub(crate) Arc<AppParts>);

/// What an [`App`] points to.
#[derive(Debug)]
pub struct AppParts {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// What requests are bound by.
    pub limits: Limits,
    /// Authentication and rates.
    pub access: Arc<Access>,
    /// Bounds of bodies.
    pub bodies: BodyLimits,
}

impl Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}

impl Deref for AppParts {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}
