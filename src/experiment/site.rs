//! What the proxy is to serve, made of the plan: the dependencies with their simulators, the
//! gateways, and where they were found in the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::environment::Trust;
use super::{Endpoint, Error, Ports};
use crate::admin::{DependencyStatus, FileFacts};
use crate::config::plan::{Dependency, Plan, Upstream};
use crate::dialect::{self, speaks_http};
use crate::net::Clock;
use crate::proxy::{self, Gateways, Transparent};
use crate::sim::{self, Sim};

/// The simulators at work, by dependency. Those that nobody calls any more end by themselves.
pub(super) type Simulators = BTreeMap<Arc<str>, (sim::Settings, Arc<sim::Running>)>;

/// The dependencies as the proxy takes them. A simulator that is what it was goes on.
pub(super) async fn listeners(
    plan: &Plan,
    ports: Ports,
    clock: &Arc<dyn Clock>,
    running: &Simulators,
) -> Result<(Vec<proxy::Listener>, Simulators), Error> {
    let mut simulators = Simulators::new();
    let mut listeners = Vec::new();
    for one in &plan.dependencies {
        let dialect = dialect::by_kind(&one.kind)
            .ok_or_else(|| Error::Plan(format!("`{}` is no kind", one.kind)))?;
        let (upstream, simulator) = match &one.upstream {
            Upstream::Url(url) => (url.clone(), None),
            Upstream::Simulate(settings) => {
                let known = running.get(&one.name).filter(|(known, _)| known == settings);
                let simulator = match known {
                    Some((_, simulator)) => Arc::clone(simulator),
                    None => Arc::new(simulator(&one.name, settings, clock).await?),
                };
                let url = format!("http://{}", simulator.address());
                let url = url.parse().map_err(|error| Error::Plan(format!("{url}: {error}")))?;
                let entry = (settings.clone(), Arc::clone(&simulator));
                simulators.insert(Arc::clone(&one.name), entry);
                (url, Some(simulator))
            }
        };
        listeners.push(proxy::Listener {
            name: Arc::clone(&one.name),
            dialect,
            listen: one.listen.map(|listen| ports.of(listen)),
            tls: one.tls.clone(),
            upstream,
            upstream_tls: one.upstream_tls.clone(),
            http: one.http,
            hosts: one.hosts.clone(),
            path: one.path.clone(),
            identify: plan.identify.clone(),
            keeps: simulator.map(|simulator| simulator as _),
        });
    }
    Ok((listeners, simulators))
}

async fn simulator(
    name: &str,
    settings: &sim::Settings,
    clock: &Arc<dyn Clock>,
) -> Result<sim::Running, Error> {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let started = Sim::start(free, settings.clone(), Arc::clone(clock)).await;
    started
        .map_err(|error| Error::Listen(format!("the simulator of `{name}` cannot listen: {error}")))
}

/// The gateways of a plan.
pub(super) fn gateways(plan: &Plan, ports: Ports) -> Gateways {
    let of = |address: Option<SocketAddr>| address.map(|address| ports.of(address));
    let Gateways { shared, forward, transparent, clients } = plan.gateways.clone();
    let transparent = transparent
        .map(|transparent| Transparent { listen: ports.of(transparent.listen), ..transparent });
    Gateways { shared: of(shared), forward: of(forward), transparent, clients }
}

impl Ports {
    fn of(self, listen: SocketAddr) -> SocketAddr {
        match self {
            Self::AsWritten => listen,
            Self::Free => SocketAddr::new(listen.ip(), 0),
        }
    }
}

/// Where the dependencies are found.
pub(super) fn endpoints(plan: &Plan, proxy: &proxy::Running) -> Vec<Endpoint> {
    plan.dependencies.iter().map(|dependency| endpoint(dependency, proxy)).collect()
}

fn endpoint(dependency: &Dependency, proxy: &proxy::Running) -> Endpoint {
    let listen = proxy.address(&dependency.name);
    let http = dialect::by_kind(&dependency.kind).is_none_or(speaks_http);
    let scheme = match (http, dependency.tls.is_some()) {
        (false, _) => "tcp",
        (true, false) => "http",
        (true, true) => "https",
    };
    let shared = proxy.gateway_addresses().find(|(name, _)| *name == "shared" && http);
    let prefix = match (listen, &dependency.path) {
        (Some(_), _) => String::new(),
        (None, Some(path)) => path.trim_end_matches('/').to_owned(),
        (None, None) => format!("/{}", dependency.name),
    };
    let url = match (listen, shared) {
        (Some(listen), _) => Some(format!("{scheme}://{listen}")),
        (None, Some((_, shared))) => Some(format!("http://{shared}{prefix}")),
        (None, None) => None,
    };
    Endpoint {
        name: Arc::clone(&dependency.name),
        kind: dependency.kind.clone(),
        listen: listen.or(shared.map(|(_, shared)| shared)),
        url,
        tls: listen.is_some() && dependency.tls.is_some(),
        prefix,
        upstream: match &dependency.upstream {
            Upstream::Simulate(_) => "simulator".to_owned(),
            // Its own schemes alone have an origin by the rules of browsers.
            Upstream::Url(url) if http => url.origin().ascii_serialization(),
            Upstream::Url(url) => url.to_string(),
        },
        region: dependency.region.clone(),
    }
}

/// The gateways and their addresses, as URLs.
pub(super) fn gateway_urls(proxy: &proxy::Running) -> Vec<(String, String)> {
    let url = |(name, address): (&str, SocketAddr)| {
        let scheme = if name == "transparent" { "tcp" } else { "http" };
        (name.to_owned(), format!("{scheme}://{address}"))
    };
    let mut urls: Vec<(String, String)> = proxy.gateway_addresses().map(url).collect();
    // One that listens in both versions of IP is told once.
    urls.dedup_by(|two, one| two.0 == one.0);
    urls
}

/// What the admin API tells of the file.
pub(super) fn facts(
    plan: &Plan,
    endpoints: &[Endpoint],
    proxy: &proxy::Running,
    trust: Option<&Trust>,
) -> FileFacts {
    let hosts = |name: &str| {
        let found = plan.dependencies.iter().find(|one| *one.name == *name);
        found.map(|one| one.hosts.clone()).unwrap_or_default()
    };
    let status = |end: &Endpoint| DependencyStatus {
        hosts: hosts(&end.name),
        name: end.name.to_string(),
        kind: end.kind.clone(),
        listen: end.url.clone().unwrap_or_default(),
        upstream: end.upstream.clone(),
    };
    FileFacts {
        name: plan.name.clone(),
        dependencies: endpoints.iter().map(status).collect(),
        gateways: gateway_urls(proxy),
        trust: trust.map(|trust| trust.dir().to_owned()),
        longest: plan.safety.max_duration,
        heartbeat: plan.safety.heartbeat,
    }
}
