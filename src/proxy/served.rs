//! A dependency as the file has it and as it is served: whether it has changed, and its upstream.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::connection::Dependency;
use super::request::RequestBody;
use super::running::Site;
use super::secure::Secure;
use super::tcp::Raw;
use super::{Error, Listener};
use crate::net::{ConnectOptions, Connector, Guard, Origin, Pool, pool};

/// A dependency as the file has it, and as it is served.
pub(super) type Served = (Listener, Stand);

/// What stands behind a dependency's listener.
#[derive(Clone, Debug)]
pub(super) enum Stand {
    /// It speaks HTTP, with TLS if it has any.
    Http(Arc<Dependency>, Option<Arc<Secure>>),
    Raw(Arc<Raw>),
}

impl Stand {
    pub(super) fn http(&self) -> Option<&Arc<Dependency>> {
        match self {
            Self::Http(dependency, _) => Some(dependency),
            Self::Raw(_) => None,
        }
    }

    pub(super) fn raw(&self) -> Option<&Arc<Raw>> {
        match self {
            Self::Http(..) => None,
            Self::Raw(raw) => Some(raw),
        }
    }

    /// Cancelled when it takes no more requests.
    pub(super) fn drain(&self) -> &CancellationToken {
        match self {
            Self::Http(dependency, _) => &dependency.drain,
            Self::Raw(raw) => &raw.drain,
        }
    }
}

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
    let connect = connect_options(listener, site, noted);
    Pool::new(origin, pool::Options { connect, ..pool::Options::default() })
        .map_err(|source| Error::Trust { name: name(), source })
}

/// The same for one that speaks no HTTP.
pub(super) fn connector_of(
    listener: &Listener,
    site: &Site,
    noted: bool,
) -> Result<Connector, Error> {
    let name = || Arc::clone(&listener.name);
    let origin = Origin::raw(&listener.upstream)
        .map_err(|source| Error::Upstream { name: name(), source })?;
    Connector::new(origin, &connect_options(listener, site, noted))
        .map_err(|source| Error::Trust { name: name(), source })
}

fn connect_options(listener: &Listener, site: &Site, noted: bool) -> ConnectOptions {
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
    connect
}
