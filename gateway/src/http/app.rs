//! What handlers see: the gateway, and what only HTTP needs.

use std::ops::Deref;
use std::sync::Arc;

use crate::http::access::Access;
use crate::http::limits::Limits;
use crate::http::upload::BodyLimits;
use crate::service::gateway::Gateway;

/// A running gateway with its HTTP interface; cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// What requests are bound by.
    pub limits: Arc<Limits>,
    /// Who may ask.
    pub access: Arc<Access>,
    /// Bounds of bodies.
    pub bodies: BodyLimits,
}

impl Deref for App {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}
