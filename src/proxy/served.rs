//! A dependency as the file has it and as it is served: whether it has changed, and its upstream.

use std::sync::Arc;

use super::connection::Dependency;
use super::request::RequestBody;
use super::running::Site;
use super::secure::Secure;
use super::{Error, Listener};
use crate::net::{ConnectOptions, Guard, Origin, Pool, pool};

/// A dependency as the file has it, and as it is served.
pub(super) type Served = (Listener, Arc<Dependency>, Option<Arc<Secure>>);

/// Whether a dependency is what it was. Files that it names may hold something else by now.
pub(super) fn is_same(old: &Listener, new: &Listener) -> bool {
    let tls = &new.upstream_tls;
    let files = tls.ca_file.is_some() || tls.client.is_some() || new.tls.is_some();
    let keeps = match (&old.keeps, &new.keeps) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    !files && keeps && format!("{old:?}") == format!("{new:?}")
}

/// Connections to its upstream; `noted` says that they are told from those that others make.
pub(super) fn pool_of(
    listener: &Listener,
    site: &Site,
    noted: bool,
) -> Result<Pool<RequestBody>, Error> {
    let name = || Arc::clone(&listener.name);
    let origin = Origin::new(&listener.upstream)
        .map_err(|source| Error::Upstream { name: name(), source })?;
    let mut connect = ConnectOptions {
        tls: listener.upstream_tls.clone(),
        http: listener.http,
        ..ConnectOptions::default()
    };
    if noted {
        let guard = Guard::none().marking(site.options.mark).noting(Arc::clone(&site.dialled));
        connect.guard = Some(guard);
    }
    if let Some(timeout) = site.options.connect_timeout {
        connect.timeout = timeout;
    }
    Pool::new(origin, pool::Options { connect, ..pool::Options::default() })
        .map_err(|source| Error::Trust { name: name(), source })
}
