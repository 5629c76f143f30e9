//! The parts that stand before any load: simulated dependencies, engine, proxy, books.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::environment::{Environment, Trust, Variable, Wiring, own_environment};
use super::site::{self, Simulators};
use super::{Book, Error, Stop};
use crate::admin::{Control, FileFacts, Metrics};
use crate::config::plan::{Dependency, Plan};
use crate::engine::{Engine, Replay, Rule};
use crate::measure::{Ledger, Recorder};
use crate::net::ca::Authority;
use crate::net::handover::Inheritance;
use crate::net::{Clock, RealClock};
use crate::proxy::{self, ListenTls, Proxy};

/// Observations that may wait to be counted; beyond this they are dropped, and the run says so.
const TAP_CAPACITY: usize = 1 << 17;

/// How long open exchanges may take to end when the proxy is shut.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a new connection may take to its first request when its listener is handed over.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// A dependency as the proxy serves it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub name: Arc<str>,
    pub kind: String,
    /// Where the app finds it: its own listener, else the shared gateway; None: through another
    /// gateway alone.
    pub listen: Option<SocketAddr>,
    /// The URL of that place, with its prefix there.
    pub url: Option<String>,
    /// TLS with the app.
    pub tls: bool,
    /// Its path prefix, where `listen` is the shared gateway: `/llm`.
    pub prefix: String,
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
    /// The gateways: their names and URLs.
    pub gateways: Vec<(String, String)>,
    pub(super) dependencies: Vec<Dependency>,
    /// What apps must trust.
    pub(super) trust: Option<Trust>,
    pub(super) facts: FileFacts,
    pub(super) ports: Ports,
    pub(super) meanings: Meanings,
    pub(super) proxy: proxy::Running,
    pub(super) simulators: Simulators,
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
    /// The decisions of an earlier run that are to be met again, and their journal's name.
    pub replay: Option<(String, Replay)>,
    /// Mark made-up answers with `x-brownout-fault`.
    pub mark: bool,
    /// The mark of connections to upstreams, for rules that redirect all others.
    pub socket_mark: Option<u32>,
    /// Listening sockets that were taken over from another process.
    pub inherited: Inheritance,
}

impl World {
    /// Starts the parts. The rules are taken out of the plan.
    pub async fn start(plan: &mut Plan, setup: Setup<'_>) -> Result<Self, Error> {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let (recorder, tap) = Recorder::channel(TAP_CAPACITY);
        let meanings = Meanings::of(plan);
        let rules: Vec<Rule> = std::mem::take(&mut plan.rules);
        let engine = Arc::new(Engine::new(setup.seed, rules, recorder.clone()));
        let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        engine.began(today.saturating_sub(clock.now()));
        if let Some(share) = plan.safety.max_affected {
            engine.limit_affected(share);
        }
        engine.let_requests_steer(plan.safety.steer_by_header);
        if let Some((journal, replay)) = setup.replay {
            engine.replay(&journal, replay);
        }
        let metrics = Arc::new(Metrics::default());
        let (listeners, simulators) =
            site::listeners(plan, setup.ports, &clock, &Simulators::new()).await?;
        let options = proxy::Options {
            mark_faults: setup.mark,
            gateways: site::gateways(plan, setup.ports),
            mark: setup.socket_mark,
            inherited: setup.inherited,
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
        let endpoints = site::endpoints(plan, &proxy);
        let trust = trust_for(plan, None)?;
        let facts = site::facts(plan, &endpoints, &proxy, trust.as_ref());
        let (end, ended) = watch::channel(false);
        let collector = tokio::spawn(Arc::clone(&book).collect(tap, ended));
        Ok(Self {
            clock,
            engine,
            recorder,
            metrics,
            book,
            endpoints,
            gateways: facts.gateways.clone(),
            dependencies: plan.dependencies.clone(),
            trust,
            facts,
            ports: setup.ports,
            meanings,
            proxy,
            simulators,
            collector,
            end,
        })
    }

    /// Says so when a listener of the proxy has ended by itself.
    pub fn broken(&self) -> Option<String> {
        self.proxy.ended().map(|name| format!("the proxy's listener of `{name}` has ended"))
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
        let at = |gateway: &str| {
            let mut all = self.proxy.gateway_addresses();
            all.find(|(name, _)| *name == gateway).map(|(_, address)| address)
        };
        let mut wiring = Wiring::of(&self.dependencies, |one| self.proxy.address(&one.name));
        wiring.through(at("shared"), &self.dependencies);
        wiring.forward = at("forward");
        wiring.trust = self.trust.as_ref();
        wiring.variables(environment)
    }

    /// What the admin API controls; without `steering` it only tells.
    pub fn control(&self, lease: Option<Duration>, steering: bool) -> Arc<Control> {
        Arc::new(Control {
            engine: Arc::clone(&self.engine),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            file: ArcSwap::from_pointee(self.facts.clone()),
            lease,
            steering,
            reload: OnceLock::new(),
            heard: parking_lot::Mutex::new(None),
        })
    }

    /// The listening sockets with their names, for another process that is to serve them.
    pub fn sockets(&self) -> std::io::Result<Vec<(String, OwnedFd)>> {
        self.proxy.sockets()
    }

    /// Another process serves the listening sockets: takes no more connections, and gives those that
    /// have just come time to ask.
    pub async fn step_aside(&self) {
        self.proxy.stop_accepting();
        tokio::time::sleep(FIRST_REQUEST).await;
    }

    /// Shuts the proxy, at once when that is wished, and closes the books; what was observed is all
    /// in them afterwards.
    pub async fn close(self, stop: &mut watch::Receiver<Stop>) -> Arc<Book> {
        self.close_within(DRAIN, stop).await
    }

    /// The same with this long for what is under way to end.
    pub async fn close_within(
        self,
        drain: Duration,
        stop: &mut watch::Receiver<Stop>,
    ) -> Arc<Book> {
        self.engine.disarm_all();
        tokio::select! {
            _ = self.proxy.drain(drain) => {}
            () = Stop::Now.wished(stop) => {}
        }
        let _ = self.end.send(true);
        let _ = self.collector.await;
        self.book
    }
}

/// What the parts of a plan mean, to tell what a reload changes.
#[derive(Debug)]
pub(super) struct Meanings {
    pub(super) dependencies: BTreeMap<Arc<str>, String>,
    pub(super) gateways: BTreeMap<Arc<str>, String>,
    pub(super) faults: BTreeMap<Arc<str>, String>,
}

impl Meanings {
    pub(super) fn of(plan: &Plan) -> Self {
        let meaning = |one: &Dependency| format!("{:?}", Dependency { line: 0, ..one.clone() });
        let dependencies = plan.dependencies.iter().map(|one| (one.name.clone(), meaning(one)));
        let clients = &plan.gateways.clients;
        let gateways = plan.gateways.listening().map(|(name, address)| {
            let clients = if name == "shared" { &[][..] } else { clients };
            let mode = plan.gateways.transparent.map(|transparent| transparent.mode);
            (name.into(), format!("{address} {clients:?} {mode:?}"))
        });
        let faults = plan.rules.iter().map(|rule| (rule.name.clone(), plan.meaning_of(rule)));
        Self {
            dependencies: dependencies.collect(),
            gateways: gateways.collect(),
            faults: faults.collect(),
        }
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
