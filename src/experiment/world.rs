//! The parts that stand before any load: simulated dependencies, engine, proxy, books.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::environment::{Environment, Trust, Variable, Wiring, own_environment};
use super::{Book, Error, Stop};
use crate::admin::{Control, DependencyStatus, Metrics};
use crate::config::plan::{Dependency, Plan, Upstream};
use crate::dialect;
use crate::engine::{Engine, Rule};
use crate::measure::{Ledger, Recorder};
use crate::net::ca::Authority;
use crate::net::{Clock, RealClock};
use crate::proxy::{self, ListenTls, Proxy};
use crate::sim::{self, Sim};

/// Observations that may wait to be counted; beyond this they are dropped, and the run says so.
const TAP_CAPACITY: usize = 1 << 17;

/// How long open exchanges may take to end when the proxy is shut.
const DRAIN: Duration = Duration::from_secs(1);

/// A dependency as the proxy serves it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub name: Arc<str>,
    pub kind: String,
    /// Where the app finds it; None: through a gateway alone.
    pub listen: Option<SocketAddr>,
    /// The URL of that place.
    pub url: Option<String>,
    /// The upstream's origin, or `simulator`.
    pub upstream: String,
    pub region: Option<String>,
}

/// What to do about listening ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ports {
    /// The file's; a taken one is an error.
    #[default]
    AsWritten,
    /// Free ones.
    Free,
}

/// The running parts; dropping it ends them at once.
#[derive(Debug)]
pub struct World {
    /// Time since it started.
    pub clock: Arc<dyn Clock>,
    /// Arms and disarms faults, and counts what they hit.
    pub engine: Arc<Engine>,
    /// Where observations go.
    pub recorder: Recorder,
    /// Counters for Prometheus.
    pub metrics: Arc<Metrics>,
    /// What was observed so far.
    pub book: Arc<Book>,
    /// The dependencies, in the file's order.
    pub endpoints: Vec<Endpoint>,
    dependencies: Vec<Dependency>,
    /// The gateway for `HTTP_PROXY`.
    forward: Option<SocketAddr>,
    /// What apps must trust.
    trust: Option<Trust>,
    name: String,
    longest: Option<Duration>,
    heartbeat: Option<Duration>,
    proxy: proxy::Running,
    /// Ends with the world.
    _sims: Vec<sim::Running>,
    collector: JoinHandle<()>,
    end: watch::Sender<bool>,
}

/// What a world is made with besides the plan.
#[derive(Debug, Default)]
pub struct Setup<'a> {
    pub seed: u64,
    pub ports: Ports,
    /// Collects observations for a report.
    pub ledger: Option<Ledger>,
    /// The file for decision lines.
    pub journal: Option<&'a std::path::Path>,
    /// Mark made-up answers with `x-brownout-fault`.
    pub mark: bool,
    /// The mark of connections to upstreams, for rules that redirect all others.
    pub socket_mark: Option<u32>,
}

impl World {
    /// Starts the parts. The rules are taken out of the plan.
    pub async fn start(plan: &mut Plan, setup: Setup<'_>) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let (recorder, tap) = Recorder::channel(TAP_CAPACITY);
        let rules: Vec<Rule> = std::mem::take(&mut plan.rules);
        let engine = Arc::new(Engine::new(setup.seed, rules, recorder.clone()));
        if let Some(share) = plan.safety.max_affected {
            engine.limit_affected(share);
        }
        let metrics = Arc::new(Metrics::default());
        let mut sims = Vec::new();
        let mut listeners = Vec::new();
        for dependency in &plan.dependencies {
            let upstream = start_upstream(dependency, &clock, &mut sims).await?;
            listeners.push(proxy::Listener {
                name: Arc::clone(&dependency.name),
                dialect: dialect::by_kind(&dependency.kind)
                    .ok_or_else(|| Error::Plan(format!("`{}` is no kind", dependency.kind)))?,
                listen: address_for(dependency, setup.ports),
                tls: dependency.tls.clone(),
                upstream,
                upstream_tls: dependency.upstream_tls.clone(),
                http: dependency.http,
                hosts: dependency.hosts.clone(),
                path: dependency.path.clone(),
                identify: plan.identify.clone(),
            });
        }
        let options = proxy::Options {
            mark_faults: setup.mark,
            gateways: plan.gateways.clone(),
            mark: setup.socket_mark,
            ..proxy::Options::default()
        };
        let proxy = Proxy::start(
            listeners,
            Arc::clone(&engine),
            recorder.clone(),
            Arc::clone(&clock),
            options,
        )
        .await
        .map_err(|error| Error::Listen(error.to_string()))?;
        // Only now: a run that cannot listen leaves the journal of the one before it alone.
        let book =
            Book::open(setup.ledger, Arc::clone(&metrics), setup.journal).map_err(|source| {
                let path = setup.journal.map(|path| path.display().to_string()).unwrap_or_default();
                Error::Write { path, source }
            })?;
        let book = Arc::new(book);
        let endpoints =
            plan.dependencies.iter().map(|dependency| endpoint(dependency, &proxy)).collect();
        let mut gateways = proxy.gateway_addresses();
        let forward = gateways.find(|(name, _)| ***name == *"forward").map(|(_, at)| at);
        drop(gateways);
        let (end, ended) = watch::channel(false);
        let collector = tokio::spawn(Arc::clone(&book).collect(tap, ended));
        Ok(Self {
            clock,
            engine,
            recorder,
            metrics,
            book,
            endpoints,
            dependencies: plan.dependencies.clone(),
            forward,
            trust: trust_for(plan, None)?,
            name: plan.name.clone(),
            longest: plan.safety.max_duration,
            heartbeat: plan.safety.heartbeat,
            proxy,
            _sims: sims,
            collector,
            end,
        })
    }

    /// Says so when a listener of the proxy has ended by itself.
    pub fn broken(&self) -> Option<String> {
        self.proxy.ended().map(|name| format!("the proxy's listener of `{name}` has ended"))
    }

    /// The gateways and where they listen; one that listens in both versions of IP is told once.
    pub fn gateways(&self) -> impl Iterator<Item = (&Arc<str>, SocketAddr)> {
        let mut last = None;
        self.proxy.gateway_addresses().filter(move |(name, _)| last.replace(*name) != Some(*name))
    }

    /// The variables that point an app at this proxy, as far as they can be shown.
    pub fn variables(&self) -> Vec<(String, String)> {
        let shown = self.wired(&Environment::new()).into_iter().filter(|one| !one.secret);
        shown.map(|variable| (variable.name, variable.value)).collect()
    }

    /// The same for an app that inherits our own environment.
    pub fn variables_for_child(&self) -> Vec<Variable> {
        self.wired(&own_environment())
    }

    fn wired(&self, environment: &Environment) -> Vec<Variable> {
        let mut wiring = Wiring::of(&self.dependencies, |one| self.proxy.address(&one.name));
        wiring.forward = self.forward;
        wiring.trust = self.trust.as_ref();
        wiring.variables(environment)
    }

    fn hosts_of(&self, dependency: &str) -> &[String] {
        let found = self.dependencies.iter().find(|one| &*one.name == dependency);
        found.map_or(&[], |one| &one.hosts)
    }

    /// What the admin API controls; without `steering` it only tells.
    pub fn control(&self, lease: Option<Duration>, steering: bool) -> Arc<Control> {
        Arc::new(Control {
            engine: Arc::clone(&self.engine),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            name: self.name.clone(),
            dependencies: self
                .endpoints
                .iter()
                .map(|end| DependencyStatus {
                    name: end.name.to_string(),
                    kind: end.kind.clone(),
                    listen: end.url.clone().unwrap_or_default(),
                    upstream: end.upstream.clone(),
                    hosts: self.hosts_of(&end.name).to_vec(),
                })
                .collect(),
            forward: self.forward,
            trust: self.trust.as_ref().map(|trust| trust.dir().to_owned()),
            lease,
            longest: self.longest,
            steering,
            heartbeat: self.heartbeat,
            heard: parking_lot::Mutex::new(None),
        })
    }

    /// Shuts the proxy, at once when that is wished, and closes the books; what was observed is all
    /// in them afterwards.
    pub async fn close(self, stop: &mut watch::Receiver<Stop>) -> Arc<Book> {
        self.engine.disarm_all();
        tokio::select! {
            _ = self.proxy.drain(DRAIN) => {}
            () = Stop::Now.wished(stop) => {}
        }
        let _ = self.end.send(true);
        let _ = self.collector.await;
        self.book
    }
}

/// What makes apps trust us, where a file has certificates of ours shown to them; the authority is
/// made when there is none yet.
pub fn trust_for(plan: &Plan, ca_dir: Option<&Path>) -> Result<Option<Trust>, Error> {
    let minted = plan.dependencies.iter().any(|one| one.tls == Some(ListenTls::Minted));
    if !minted && plan.gateways.forward.is_none() && plan.gateways.transparent.is_none() {
        return Ok(None);
    }
    let authority = Authority::open(ca_dir).map_err(|error| Error::Listen(error.to_string()))?;
    let dir = authority.dir();
    let written = Trust::write(dir, &authority.bundle(), &own_environment());
    written.map(Some).map_err(|source| Error::Write { path: dir.display().to_string(), source })
}

async fn start_upstream(
    dependency: &Dependency,
    clock: &Arc<dyn Clock>,
    sims: &mut Vec<sim::Running>,
) -> Result<url::Url, Error> {
    match &dependency.upstream {
        Upstream::Url(url) => Ok(url.clone()),
        Upstream::Simulate(settings) => {
            let free = SocketAddr::from(([127, 0, 0, 1], 0));
            let failed = |error: std::io::Error| {
                Error::Listen(format!(
                    "the simulator of `{}` cannot listen: {error}",
                    dependency.name
                ))
            };
            let sim =
                Sim::start(free, settings.clone(), Arc::clone(clock)).await.map_err(failed)?;
            let url = format!("http://{}", sim.address());
            sims.push(sim);
            url.parse().map_err(|error| Error::Plan(format!("{url}: {error}")))
        }
    }
}

fn address_for(dependency: &Dependency, ports: Ports) -> Option<SocketAddr> {
    dependency.listen.map(|listen| match ports {
        Ports::AsWritten => listen,
        Ports::Free => SocketAddr::new(listen.ip(), 0),
    })
}

fn endpoint(dependency: &Dependency, proxy: &proxy::Running) -> Endpoint {
    let listen = proxy.address(&dependency.name).or(dependency.listen);
    let scheme = if dependency.tls.is_some() { "https" } else { "http" };
    Endpoint {
        name: Arc::clone(&dependency.name),
        kind: dependency.kind.clone(),
        listen,
        url: listen.map(|listen| format!("{scheme}://{listen}")),
        upstream: match &dependency.upstream {
            Upstream::Simulate(_) => "simulator".to_owned(),
            Upstream::Url(url) => url.origin().ascii_serialization(),
        },
        region: dependency.region.clone(),
    }
}
