//! Which dependency a request is for: the listener's own, or one found by host or path.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Request;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::connection::Dependency;
use super::forward::{self, Visit};
use super::shared::Shared;
use super::tcp::Raw;
use crate::dialect::Answer;
use crate::net::Origin;

/// All dependencies, for listeners that serve more than one. Its content is replaced when the file is
/// read anew.
#[derive(Debug, Default)]
pub(super) struct Directory {
    http: ArcSwap<Vec<Arc<Dependency>>>,
    raw: ArcSwap<Vec<Arc<Raw>>>,
}

/// A dependency of either kind.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Http(Arc<Dependency>),
    /// It speaks no HTTP.
    Raw(Arc<Raw>),
}

impl Directory {
    pub(super) fn replace(&self, http: Vec<Arc<Dependency>>, raw: Vec<Arc<Raw>>) {
        self.http.store(Arc::new(http));
        self.raw.store(Arc::new(raw));
    }

    /// Those that speak HTTP, in the file's order.
    pub(super) fn all(&self) -> Arc<Vec<Arc<Dependency>>> {
        self.http.load_full()
    }

    /// Those that speak no HTTP, in the file's order.
    pub(super) fn raw(&self) -> Arc<Vec<Arc<Raw>>> {
        self.raw.load_full()
    }

    /// The dependency that speaks HTTP and that a host (without brackets) and port mean.
    pub(super) fn by_place(&self, host: &str, port: u16) -> Option<Arc<Dependency>> {
        self.by_host(&place(host, port))
    }

    /// The one that speaks HTTP and that a host means, which may have a port.
    pub(super) fn by_host(&self, host: &str) -> Option<Arc<Dependency>> {
        let all = self.http.load();
        let index = meant(&Host::of(host), &names_of_http(&all))?;
        all.get(index).cloned()
    }

    /// The dependency of either kind that a host (without brackets) and port mean.
    pub(super) fn find(&self, host: &str, port: u16) -> Option<Found> {
        let (http, raw) = (self.http.load(), self.raw.load());
        let mut names = names_of_http(&http);
        names.extend(raw.iter().map(|one| Names { hosts: &one.hosts, own: one.own_host.as_ref() }));
        let index = meant(&Host::of(&place(host, port)), &names)?;
        match http.get(index) {
            Some(dependency) => Some(Found::Http(Arc::clone(dependency))),
            None => Some(Found::Raw(Arc::clone(raw.get(index - http.len())?))),
        }
    }
}

fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What a dependency is known by.
struct Names<'a> {
    hosts: &'a [Host],
    own: Option<&'a Host>,
}

fn names_of_http(all: &[Arc<Dependency>]) -> Vec<Names<'_>> {
    all.iter().map(|one| Names { hosts: &one.hosts, own: one.own_host.as_ref() }).collect()
}

/// Which one a host means: one that names it goes before the one whose upstream it is, and that before
/// one with a pattern for it. Without a port an upstream is known by its name alone; one that several
/// have means none of them.
fn meant(wanted: &Host, all: &[Names<'_>]) -> Option<usize> {
    let named = |port: Option<u16>| {
        all.iter().position(|one| one.hosts.iter().any(|known| known.is(&wanted.name, port)))
    };
    let owns = |one: &Names<'_>| {
        one.own.is_some_and(|own| {
            own.name == wanted.name && (wanted.port.is_none() || own.port == wanted.port)
        })
    };
    let owned = || {
        let mut owners = all.iter().enumerate().filter(|(_, one)| owns(one));
        owners.next().filter(|_| owners.next().is_none()).map(|(index, _)| index)
    };
    let below = |port: Option<u16>| {
        all.iter().position(|one| one.hosts.iter().any(|known| known.covers(&wanted.name, port)))
    };
    let exactly = || wanted.port.and_then(|port| named(Some(port)));
    let below_exactly = || wanted.port.and_then(|port| below(Some(port)));
    exactly().or_else(|| named(None)).or_else(owned).or_else(below_exactly).or_else(|| below(None))
}

/// A host in lower case, or a pattern for hosts, and a port where one is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

impl Host {
    /// Reads `host`, `host:port`, `[::1]:port` or an address.
    pub(super) fn of(text: &str) -> Self {
        let bare = text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !bare && !port.ends_with(']') => (name, port.parse().ok()),
            _ => (text, None),
        };
        let name = name.trim_start_matches('[').trim_end_matches([']', '.']);
        Self { name: name.to_ascii_lowercase(), port }
    }

    /// The host and port of an upstream.
    pub(super) fn of_url(url: &Url) -> Self {
        let mut host = Self::of(url.host_str().unwrap_or_default());
        host.port = url.port_or_known_default();
        host
    }

    /// The host and port that connections go to.
    pub(super) fn of_origin(origin: &Origin) -> Self {
        Self { port: Some(origin.port()), ..Self::of(origin.host()) }
    }

    /// An address or `localhost`: a place on a network, not a name that means a service.
    pub(super) fn is_place(&self) -> bool {
        self.name == "localhost" || self.name.parse::<IpAddr>().is_ok()
    }

    /// It means all hosts below one.
    pub(super) fn is_pattern(&self) -> bool {
        self.name.starts_with('*')
    }

    fn is(&self, name: &str, port: Option<u16>) -> bool {
        self.name == name && self.port == port
    }

    fn covers(&self, name: &str, port: Option<u16>) -> bool {
        let below = |end: &str| name.len() > end.len() && name.ends_with(end);
        self.port == port && self.name.strip_prefix('*').is_some_and(below)
    }
}

/// How a listener finds the dependency of a request.
#[derive(Debug)]
pub(super) enum Route {
    /// All requests are for this one.
    Fixed(Arc<Dependency>),
    /// By the host that each request names: a forward proxy's client.
    Forward(Arc<Visit>),
    /// By host or path prefix.
    Shared(Arc<Shared>),
    /// All are for this one, and name its upstream's base in their paths.
    Whole(Arc<Dependency>),
}

impl Route {
    /// The dependency that all requests are for, if there is one.
    pub(super) fn fixed(&self) -> Option<&Arc<Dependency>> {
        match self {
            Self::Fixed(dependency) => Some(dependency),
            Self::Forward(_) | Self::Shared(_) | Self::Whole(_) => None,
        }
    }

    /// Cancelled when no more requests are taken.
    pub(super) fn drain(&self) -> &CancellationToken {
        match self {
            Self::Fixed(dependency) | Self::Whole(dependency) => &dependency.drain,
            Self::Forward(visit) => visit.drain(),
            Self::Shared(shared) => &shared.drain,
        }
    }

    /// The dependency of a request, whose target becomes the path as the dependency knows it; or
    /// what the app is told when there is none.
    pub(super) fn find<B>(&self, request: &mut Request<B>) -> Result<Arc<Dependency>, Answer> {
        match self {
            Self::Fixed(dependency) => Ok(Arc::clone(dependency)),
            Self::Forward(visit) => visit.find(request),
            Self::Shared(shared) => shared.find(request),
            Self::Whole(dependency) => forward::whole(request, dependency),
        }
    }

    /// The client of a forward proxy, who may ask for a tunnel.
    pub(super) fn visit(&self) -> Option<&Arc<Visit>> {
        match self {
            Self::Forward(visit) => Some(visit),
            Self::Fixed(_) | Self::Shared(_) | Self::Whole(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::proxy::shared::tests::directory;

    #[test]
    fn a_host_means_the_dependency_that_names_it_then_the_upstream_then_a_pattern() {
        let directory = directory(&[
            ("llm", "https://api.openai.com", &[]),
            ("edge", "https://edge.example", &["api.openai.com:8443", "one.azure.com"]),
            ("azure", "https://eu.azure.com", &["*.azure.com", "*.azure.com:99"]),
            ("near", "http://127.0.0.1:9001", &[]),
            ("far", "http://127.0.0.1:9002", &["[::1]"]),
            ("twin", "http://same.example:1/a", &[]),
            ("twins", "http://same.example:1/b", &[]),
        ]);
        for (host, name) in [
            ("api.openai.com", Some("llm")),
            ("API.OpenAI.com.", Some("llm")),
            ("api.openai.com:443", Some("llm")),
            ("api.openai.com:8443", Some("edge")),
            ("api.openai.com:80", None),
            ("one.azure.com:1234", Some("edge")),
            ("two.azure.com:99", Some("azure")),
            ("two.azure.com", Some("azure")),
            ("eu.azure.com:443", Some("azure")),
            ("azure.com", None),
            ("notazure.com", None),
            ("127.0.0.1:9001", Some("near")),
            ("127.0.0.1:9002", Some("far")),
            ("127.0.0.1:9003", None),
            ("[::1]:5", Some("far")),
            ("::1", Some("far")),
            ("same.example:1", None),
            ("", None),
            (":", None),
            ("[", None),
        ] {
            let found = directory.by_host(host).map(|one| one.name.to_string());
            assert_eq!(found.as_deref(), name, "{host}");
        }
    }
}
