//! Certificates and keys in PEM files, and which certificate an app is shown.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::time::Instant;

use super::ca::{Authority, CaError, Soundness};
use super::connect::KeyPair;

/// How often files are looked at for a change.
const LOOK: Duration = Duration::from_secs(1);

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read `{}`: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("`{}` holds no certificate; it must be PEM with `BEGIN CERTIFICATE` blocks", .0.display())]
    Empty(PathBuf),
    #[error("`{}` holds no private key; it must be PEM with a `BEGIN PRIVATE KEY` block", .0.display())]
    NoKey(PathBuf),
    #[error(
        "the private key in `{}` has a password, which brownout cannot ask for; write it without \
         one: `openssl pkey -in {} -out plain.pem`", .0.display(), .0.display()
    )]
    Locked(PathBuf),
    #[error("the key in `{}` does not fit the certificate in `{}`", key.display(), cert.display())]
    Unfit { cert: PathBuf, key: PathBuf },
    #[error("TLS cannot be set up: {0}")]
    Provider(#[from] rustls::Error),
}

/// The certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let pem = read(path)?;
    let bad = |error| TrustError::File { path: path.to_owned(), reason: format!("{error}") };
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(bad)?;
    if all.is_empty() { Err(TrustError::Empty(path.to_owned())) } else { Ok(all) }
}

impl KeyPair {
    /// Reads both files and sees whether they belong together.
    pub(super) fn load(&self) -> Result<CertifiedKey, TrustError> {
        let chain = certificates(&self.cert)?;
        let pem = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            let locked = memchr::memmem::find(&pem, b"ENCRYPTED").is_some();
            let key = self.key.clone();
            if locked { TrustError::Locked(key) } else { TrustError::NoKey(key) }
        })?;
        let unusable = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TrustError::Unfit { cert: self.cert.clone(), key: self.key.clone() }
            }
            other => TrustError::File { path: self.key.clone(), reason: other.to_string() },
        };
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(unusable)
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.cert, &self.key].map(|path| std::fs::metadata(path).ok()?.modified().ok())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => error.to_string(),
        };
        TrustError::File { path: path.to_owned(), reason }
    })
}

/// Which certificate an app is shown.
#[derive(Debug)]
pub enum Certificates {
    /// The one in these files, which are read again when they change.
    Files(Files),
    /// One that is made for the host it asks for.
    Minted(Arc<Authority>),
}

/// A certificate and its key in files.
#[derive(Debug)]
pub struct Files {
    pair: KeyPair,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    shown: Arc<CertifiedKey>,
    looked: Instant,
    changed: [Option<SystemTime>; 2],
}

impl Certificates {
    /// Those of files, which must be there now.
    pub fn files(pair: KeyPair) -> Result<Self, TrustError> {
        let changed = pair.changed();
        let shown = Arc::new(pair.load()?);
        let loaded = Mutex::new(Loaded { shown, looked: Instant::now(), changed });
        Ok(Self::Files(Files { pair, loaded }))
    }

    /// The one for a host or an address.
    pub fn shown(&self, host: &str) -> Result<Arc<CertifiedKey>, CaError> {
        match self {
            Self::Files(files) => Ok(files.shown()),
            Self::Minted(authority) => authority.leaf(host),
        }
    }

    /// One with something wrong with it. An authority that is not ours cannot sign it: with files
    /// it comes from `own`, so what the app says about it depends on whether it trusts that one.
    pub fn flawed(
        &self,
        own: &Authority,
        host: &str,
        soundness: Soundness,
    ) -> Result<Arc<CertifiedKey>, CaError> {
        match self {
            Self::Files(_) => own.flawed_leaf(host, soundness),
            Self::Minted(authority) => authority.flawed_leaf(host, soundness),
        }
    }
}

impl Files {
    fn shown(&self) -> Arc<CertifiedKey> {
        let mut loaded = self.loaded.lock();
        if loaded.looked.elapsed() >= LOOK {
            loaded.looked = Instant::now();
            let changed = self.pair.changed();
            if changed != loaded.changed {
                match self.pair.load() {
                    Ok(shown) => {
                        tracing::info!(cert = %self.pair.cert.display(), "a new certificate is shown");
                        loaded.shown = Arc::new(shown);
                        loaded.changed = changed;
                    }
                    // Perhaps one of the two is not written yet.
                    Err(error) => tracing::warn!(%error, "the certificate read before is kept"),
                }
            }
        }
        Arc::clone(&loaded.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_with_files_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key), (_, other)) = (made("a.test"), made("b.test"));
        let both = format!("{key}{cert}");
        let locked =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cert = write(dir.path(), "cert.pem", &cert);
        let key = write(dir.path(), "key.pem", &key);
        let pair = |cert: &Path, key: &Path| KeyPair { cert: cert.into(), key: key.into() };
        pair(&cert, &key).load().unwrap();
        let both = write(dir.path(), "both.pem", &both);
        pair(&both, &both).load().unwrap();
        let other = write(dir.path(), "other.pem", &other);
        let locked = write(dir.path(), "locked.pem", locked);
        let nothing = dir.path().join("nothing.pem");
        for (pair, part) in [
            (pair(&cert, &other), "does not fit the certificate"),
            (pair(&cert, &cert), "holds no private key"),
            (pair(&key, &key), "holds no certificate"),
            (pair(&cert, &locked), "openssl pkey"),
            (pair(&nothing, &key), "there is no such file"),
            (pair(&cert, &nothing), "there is no such file"),
        ] {
            let error = pair.load().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("BEGIN ENCRYPTED"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_read_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = made("a.test");
        let pair = KeyPair {
            cert: write(dir.path(), "cert.pem", &cert),
            key: write(dir.path(), "key.pem", &key),
        };
        let certificates = Certificates::files(pair).unwrap();
        let first = certificates.shown("x").unwrap();
        let (cert, key) = made("b.test");
        write(dir.path(), "cert.pem", &cert);
        let later = SystemTime::now() + Duration::from_secs(5);
        let touched = std::fs::File::options().write(true).open(dir.path().join("cert.pem"));
        touched.unwrap().set_modified(later).unwrap();
        tokio::time::advance(LOOK).await;
        assert!(Arc::ptr_eq(&first, &certificates.shown("x").unwrap()), "half of a change");
        write(dir.path(), "key.pem", &key);
        assert!(Arc::ptr_eq(&first, &certificates.shown("x").unwrap()), "not looked at yet");
        tokio::time::advance(LOOK).await;
        let second = certificates.shown("x").unwrap();
        assert_ne!(first.cert, second.cert);
    }
}
