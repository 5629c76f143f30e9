//! What TLS with apps is done with: the installation's own authority, opened when it is first needed,
//! or certificates from files.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::secure::Secure;
use super::{Error, ListenTls};
use crate::net::Certificates;
use crate::net::ca::{Authority, CaError};

/// The keys of an installation.
#[derive(Debug)]
pub(super) struct Keys {
    dir: Option<PathBuf>,
    authority: Mutex<Option<Arc<Authority>>>,
}

impl Keys {
    /// None: the user's own place.
    pub(super) fn at(dir: Option<PathBuf>) -> Self {
        Self { dir, authority: Mutex::default() }
    }

    /// Certificates made on the fly. The authority is made when there is none.
    pub(super) fn minted(&self) -> Result<Secure, CaError> {
        let mut known = self.authority.lock();
        let authority = match &*known {
            Some(authority) => Arc::clone(authority),
            None => Arc::clone(known.insert(Arc::new(Authority::open(self.dir.as_deref())?))),
        };
        Ok(Secure::minted(authority))
    }

    pub(super) fn secure(&self, name: &Arc<str>, tls: &ListenTls) -> Result<Secure, Error> {
        let pair = match tls {
            ListenTls::Minted | ListenTls::Passes => return Ok(self.minted()?),
            ListenTls::Files(pair) => pair.clone(),
        };
        let trust = |source| Error::Trust { name: Arc::clone(name), source };
        let certificates = Certificates::files(pair).map_err(trust)?;
        // Faults need some authority to show what is flawed; none is made on the disk for that.
        let authority = match Authority::find(self.dir.as_deref()) {
            Ok(Some(authority)) => authority,
            Ok(None) | Err(_) => Authority::in_memory()?,
        };
        Ok(Secure::new(certificates, Arc::new(authority)))
    }
}
