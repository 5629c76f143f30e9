//! The variables that point an app at the proxy, by the conventions of each client library: base
//! URLs, proxy variables, and what makes an app trust the proxy's certificates. It starts nothing.

mod known;
mod options;
mod proxied;
mod trust;
mod truststore;
mod urls;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use self::trust::Trust;
use crate::config::plan::{Dependency, Upstream};
use crate::dialect::{self, speaks_http};

/// A dependency as the app reaches it.
#[derive(Clone, Debug)]
pub struct Address<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    /// None: through a gateway alone.
    pub listen: Option<SocketAddr>,
    /// TLS with the app on that port.
    pub tls: bool,
    /// What the app calls when nobody stands between: `https://api.openai.com`; None for a
    /// simulator.
    pub upstream: Option<&'a url::Url>,
    /// The other hosts that mean it.
    pub hosts: &'a [String],
    /// Its path prefix, where `listen` is the shared gateway: `/llm`.
    pub prefix: String,
}

/// Everything that an app has to be told.
#[derive(Clone, Debug, Default)]
pub struct Wiring<'a> {
    pub dependencies: Vec<Address<'a>>,
    /// The gateway for `HTTP_PROXY`.
    pub forward: Option<SocketAddr>,
    /// What apps must trust, where they are shown certificates of ours.
    pub trust: Option<&'a Trust>,
    /// The name by which the app reaches us, in place of the listeners' own addresses.
    pub host: Option<&'a str>,
}

/// The environment that an app would have without us.
pub type Environment = BTreeMap<String, String>;

/// Our own environment: what is text in it.
pub fn own_environment() -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// A variable to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub value: String,
    /// It has in it what the environment may hold in confidence (a password in a URL): it may be
    /// set, and is never shown.
    pub secret: bool,
}

impl Variable {
    fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), secret: false }
    }
}

/// The variables under way: the first word on each name counts.
#[derive(Debug, Default)]
struct Variables(Vec<Variable>);

impl Variables {
    fn set(&mut self, variable: Variable) {
        if !self.0.iter().any(|known| known.name == variable.name) {
            self.0.push(variable);
        }
    }
}

impl<'a> Wiring<'a> {
    /// What a file says, with each listener where it really is.
    pub fn of(
        dependencies: &'a [Dependency],
        listen: impl Fn(&Dependency) -> Option<SocketAddr>,
    ) -> Self {
        let address = |one: &'a Dependency| Address {
            name: &one.name,
            kind: &one.kind,
            listen: listen(one),
            tls: one.tls.is_some(),
            upstream: match &one.upstream {
                Upstream::Url(url) => Some(url),
                Upstream::Simulate(_) => None,
            },
            hosts: &one.hosts,
            prefix: String::new(),
        };
        Self { dependencies: dependencies.iter().map(address).collect(), ..Self::default() }
    }

    /// Those that have no listener are reached through the shared gateway, as far as they speak HTTP.
    pub fn through(&mut self, shared: Option<SocketAddr>, dependencies: &'a [Dependency]) {
        let Some(shared) = shared else { return };
        for (address, one) in self.dependencies.iter_mut().zip(dependencies) {
            let http = dialect::by_kind(&one.kind).is_none_or(speaks_http);
            if address.listen.is_none() && http {
                address.listen = Some(shared);
                address.tls = false;
                let prefix = one.path.clone().unwrap_or_else(|| format!("/{}", one.name));
                address.prefix = prefix.trim_end_matches('/').to_owned();
            }
        }
    }

    /// The variables for all dependencies, in a stable order. Each dependency gets
    /// `BROWNOUT_<NAME>_URL`; the first of a kind gets the names that clients of that kind read.
    /// What the environment has already, and would lead past us, is turned to us.
    pub fn variables(&self, environment: &Environment) -> Vec<Variable> {
        let mut variables = Variables::default();
        for dependency in &self.dependencies {
            if let Some(place) = self.place(dependency) {
                let url = known::url(dependency.kind, dependency.tls, &place);
                variables
                    .set(Variable::new(format!("BROWNOUT_{}_URL", shouted(dependency.name)), url));
            }
        }
        // First: a variable that names a dependency's upstream means exactly that dependency.
        urls::turned(self, environment, &mut variables);
        // A model goes before embeddings that stand above it in the file.
        let (embeddings, others): (Vec<_>, Vec<_>) =
            self.dependencies.iter().partition(|dependency| dependency.name.starts_with("embed"));
        for dependency in others.into_iter().chain(embeddings) {
            if let Some(place) = self.place(dependency) {
                known::well_known(dependency, &place, environment, &mut variables);
            }
        }
        proxied::set(self, environment, &mut variables);
        if let Some(trust) = self.trust {
            trust.set(&mut variables);
        }
        options::set(self, environment, &mut variables);
        variables.0
    }

    /// Host and port by which the app reaches a dependency's own listener.
    fn place(&self, dependency: &Address<'_>) -> Option<Place> {
        let place = dependency.listen.map(|listen| self.place_of(listen));
        place.map(|place| Place { prefix: dependency.prefix.clone(), ..place })
    }

    fn place_of(&self, listen: SocketAddr) -> Place {
        let host = self.host.map_or_else(|| reachable(listen.ip()).to_string(), str::to_owned);
        Place { host, port: listen.port(), prefix: String::new() }
    }
}

/// Where the app connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    /// In front of every path there.
    prefix: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}{}", self.host, self.port, self.prefix)
        } else {
            write!(f, "{}:{}{}", self.host, self.port, self.prefix)
        }
    }
}

/// A listener that listens everywhere is called on loopback.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// `my-llm` as `MY_LLM`.
fn shouted(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn address<'a>(name: &'a str, kind: &'a str, port: u16) -> Address<'a> {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], port)));
        Address {
            name,
            kind,
            listen,
            tls: false,
            upstream: None,
            hosts: &[],
            prefix: String::new(),
        }
    }

    pub(super) fn values(
        wiring: &Wiring<'_>,
        environment: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment = environment.iter().map(own).collect();
        let variables = wiring.variables(&environment).into_iter();
        variables.map(|variable| (variable.name, variable.value)).collect()
    }

    fn wiring(dependencies: Vec<Address<'_>>) -> Wiring<'_> {
        Wiring { dependencies, ..Wiring::default() }
    }

    #[test]
    fn the_first_of_a_kind_gets_the_well_known_names() {
        let values = values(
            &wiring(vec![
                address("llm", "openai", 4001),
                address("embeddings", "openai", 4002),
                address("my-vectors", "qdrant", 4003),
            ]),
            &[],
        );
        assert_eq!(values["OPENAI_BASE_URL"], "http://127.0.0.1:4001/v1");
        assert_eq!(values["EMBEDDINGS_BASE_URL"], "http://127.0.0.1:4002/v1");
        assert_eq!(values["QDRANT_URL"], "http://127.0.0.1:4003");
        assert_eq!(values["BROWNOUT_MY_VECTORS_URL"], "http://127.0.0.1:4003");
    }

    #[test]
    fn the_model_goes_before_embeddings_wherever_it_stands() {
        let mut embeddings = address("embeddings", "openai", 1);
        let mut llm = address("llm", "openai", 2);
        for one in [&mut embeddings, &mut llm] {
            one.listen = one.listen.map(|at| ([0, 0, 0, 0], at.port()).into());
        }
        let values = values(&wiring(vec![embeddings, llm]), &[]);
        assert_eq!(values["OPENAI_BASE_URL"], "http://127.0.0.1:2/v1", "and no 0.0.0.0");
        assert_eq!(values["OPENAI_EMBEDDINGS_BASE_URL"], "http://127.0.0.1:1/v1");
    }

    #[test]
    fn an_app_elsewhere_is_told_the_name_it_knows() {
        let mut wiring = wiring(vec![address("cache", "redis", 4005), address("c", "chroma", 6)]);
        wiring.host = Some("brownout");
        let values = values(&wiring, &[]);
        assert_eq!(values["REDIS_URL"], "redis://brownout:4005");
        assert_eq!(values["CHROMA_HOST"], "brownout");
        assert_eq!(values["CHROMA_PORT"], "6");
    }
}
