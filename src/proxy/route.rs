//! Which dependency a request is for: the listener's own, or one found by host or path.

use std::sync::Arc;

use http::Request;
use tokio_util::sync::CancellationToken;

use super::connection::Dependency;
use super::forward::{self, Visit};
use super::tcp::Raw;
use crate::dialect::Answer;

/// All dependencies, for listeners that serve more than one.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) dependencies: Vec<Arc<Dependency>>,
    /// Those that speak no HTTP: they are told by their addresses alone.
    pub(super) raw: Vec<Arc<Raw>>,
}

impl Directory {
    /// The dependency that a host and port mean: those of its upstream, or a host that was named
    /// for it, on any port.
    pub(super) fn by_place(&self, host: &str, port: u16) -> Option<&Arc<Dependency>> {
        let own = |dependency: &&Arc<Dependency>| {
            let origin = dependency.pool.origin();
            origin.port() == port && origin.host().eq_ignore_ascii_case(host)
        };
        let named = |dependency: &&Arc<Dependency>| {
            !dependency.pool.origin().host().eq_ignore_ascii_case(host)
        };
        let mut all = self.dependencies.iter();
        all.find(own).or_else(|| self.by_host(host).filter(named))
    }

    /// The dependency that a host (without its port) means: one that names it exactly goes before
    /// one that has a pattern for it.
    pub(super) fn by_host(&self, host: &str) -> Option<&Arc<Dependency>> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let below = |pattern: &str| {
            pattern.strip_prefix('*').is_some_and(|end| host.ends_with(end) && host != end)
        };
        let any = |fits: &dyn Fn(&str) -> bool| {
            let mut all = self.dependencies.iter();
            all.find(|dependency| dependency.hosts.iter().any(|known| fits(known)))
        };
        any(&|known| known == host).or_else(|| any(&below))
    }
}

/// How a listener finds the dependency of a request.
#[derive(Debug)]
pub(super) enum Route {
    /// All requests are for this one.
    Fixed(Arc<Dependency>),
    /// By the host that each request names: a forward proxy's client.
    Forward(Arc<Visit>),
    /// All are for this one, and name its upstream's base in their paths.
    Whole(Arc<Dependency>),
}

impl Route {
    /// The dependency that all requests are for, if there is one.
    pub(super) fn fixed(&self) -> Option<&Arc<Dependency>> {
        match self {
            Self::Fixed(dependency) => Some(dependency),
            Self::Forward(_) | Self::Whole(_) => None,
        }
    }

    /// Cancelled when no more requests are taken.
    pub(super) fn drain(&self) -> &CancellationToken {
        match self {
            Self::Fixed(dependency) | Self::Whole(dependency) => &dependency.drain,
            Self::Forward(visit) => visit.drain(),
        }
    }

    /// The dependency of a request, whose target becomes the path as the dependency knows it; or
    /// what the app is told when there is none.
    pub(super) fn find<B>(&self, request: &mut Request<B>) -> Result<Arc<Dependency>, Answer> {
        match self {
            Self::Fixed(dependency) => Ok(Arc::clone(dependency)),
            Self::Forward(visit) => visit.find(request),
            Self::Whole(dependency) => forward::whole(request, dependency),
        }
    }

    /// The client of a forward proxy, who may ask for a tunnel.
    pub(super) fn visit(&self) -> Option<&Arc<Visit>> {
        match self {
            Self::Forward(visit) => Some(visit),
            Self::Fixed(_) | Self::Whole(_) => None,
        }
    }
}
