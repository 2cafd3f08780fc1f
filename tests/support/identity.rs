//! What a TLS server on this machine shows, signed by a root of its own.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate for 127.0.0.1, its key, and the root that vouches for it.
#[derive(Debug)]
pub struct Identity {
    root: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// One that nobody has seen before.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let key = || KeyPair::generate().expect("a key can be made");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(authority, key()).expect("a root can be made");
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a good name");
        let own = key();
        let certificate = server.signed_by(&own, &root).expect("it can be signed");
        Self {
            root: root.pem(),
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(own.serialize_der().into()),
        }
    }

    /// The root, as a file of trusted roots has it.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// What makes a server of it.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the versions are known")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .expect("the key is the certificate's");
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}
