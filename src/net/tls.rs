//! TLS towards upstreams: which roots are trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio_rustls::TlsConnector;

/// Trust that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read certificates from `{}`: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("`{}` holds no certificate; it must be PEM with `BEGIN CERTIFICATE` blocks", .0.display())]
    Empty(PathBuf),
    #[error("TLS cannot be set up: {0}")]
    Provider(#[from] rustls::Error),
}

/// A connector that speaks HTTP/1.1 and trusts the system's roots (Mozilla's where the system has
/// none) and those of an extra file.
pub(super) fn connector(extra: Option<&Path>) -> Result<TlsConnector, TrustError> {
    let mut roots = system_roots();
    if let Some(path) = extra {
        add_file(&mut roots, path)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::debug!(ignored, "the system has no root certificates; taking Mozilla's");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let unreadable = |reason: String| TrustError::File { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| unreadable(plain(&error)))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(TrustError::Empty(path.to_owned()));
    }
    Ok(())
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    }
}
