//! The proxy in front of the dependencies: a listener for each. What no fault touches passes as it
//! came, byte for byte; what faults order is carried out here and nowhere else.

mod answer;
mod call;
mod connection;
mod destination;
mod entrance;
mod forward;
mod headers;
mod http2;
#[cfg(test)]
mod http2_tests;
mod intercept;
mod listen;
mod pump;
#[cfg(test)]
mod pump_tests;
mod relay;
mod request;
mod reverse;
mod route;
mod secure;
mod stranger;
mod tcp;
mod transparent;
mod tunnel;
mod websocket;
#[cfg(test)]
mod websocket_tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::connection::Dependency;
use self::entrance::Entrance;
use self::secure::Secure;
use crate::dialect::{Dialect, speaks_http};
use crate::engine::Engine;
use crate::engine::identify::Identify;
use crate::measure::Recorder;
use crate::net::ca::{Authority, CaError};
use crate::net::{
    BadOrigin, Certificates, Clock, ConnectOptions, Connector, Dialled, Guard, HttpVersion,
    KeyPair, Origin, Pool, TrustError, UpstreamTls, pool,
};

/// A dependency, and where the app finds us in its place.
#[derive(Clone, Debug)]
pub struct Listener {
    pub name: Arc<str>,
    pub dialect: &'static dyn Dialect,
    /// Port 0 picks a free one. None: it is reached through a gateway alone.
    pub listen: Option<SocketAddr>,
    /// TLS with the app on that port.
    pub tls: Option<ListenTls>,
    /// http or https, with an optional base path; tcp for what speaks no HTTP.
    pub upstream: Url,
    pub upstream_tls: UpstreamTls,
    pub http: HttpVersion,
    /// The hosts that mean this dependency at a gateway, beside the upstream's own; `*.example.com`
    /// means all below it.
    pub hosts: Vec<String>,
    /// The path prefix that means it at the shared gateway; None: `/NAME`.
    pub path: Option<String>,
    pub identify: Identify,
}

impl Listener {
    /// A dependency with a free port on loopback, everything else as usual.
    pub fn new(name: &str, dialect: &'static dyn Dialect, upstream: Url) -> Self {
        Self {
            name: name.into(),
            dialect,
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            tls: None,
            upstream,
            upstream_tls: UpstreamTls::default(),
            http: HttpVersion::default(),
            hosts: Vec::new(),
            path: None,
            identify: Identify::default(),
        }
    }
}

/// The certificate that the app is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenTls {
    Files(KeyPair),
    /// Made for the name that the app asks for, by the installation's own authority.
    Minted,
    /// The app's own goes through to the upstream, unread. For what speaks no HTTP.
    Passes,
}

/// Listeners that serve several dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateways {
    /// Requests told apart by `Host`, or by the first part of their path.
    pub shared: Option<SocketAddr>,
    /// For `HTTP_PROXY` and `HTTPS_PROXY`: absolute-form requests and CONNECT.
    pub forward: Option<SocketAddr>,
    /// For redirected connections (Linux).
    pub transparent: Option<Transparent>,
    /// Who may use the forward and transparent gateways beside loopback clients: address and prefix
    /// length.
    pub clients: Vec<(IpAddr, u8)>,
}

impl Gateways {
    /// Those that there are: what they are called and where they listen.
    pub fn listening(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + use<> {
        let transparent = self.transparent.map(|transparent| transparent.listen);
        [("shared", self.shared), ("forward", self.forward), ("transparent", transparent)]
            .into_iter()
            .filter_map(|(name, address)| address.map(|address| (name, address)))
    }
}

/// How connections are redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transparent {
    pub listen: SocketAddr,
    pub mode: Redirection,
}

/// How the kernel hands redirected connections over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirection {
    /// NAT: the original destination is asked for (`SO_ORIGINAL_DST`).
    #[default]
    Redirect,
    /// The original destination is the connection's local address (needs `CAP_NET_ADMIN`).
    Tproxy,
}

/// What is the same for all listeners.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Takes a free port where the wanted one is taken.
    pub fallback_to_free: bool,
    /// Names the faults in the answers that they make up (`x-brownout-fault`).
    pub mark_faults: bool,
    /// Where the installation's certificate authority is; None: the user's own place.
    pub ca_dir: Option<PathBuf>,
    /// How long connecting to an upstream may take; 10 s when not set.
    pub connect_timeout: Option<Duration>,
    pub gateways: Gateways,
    /// The mark of connections to upstreams (`SO_MARK`, Linux, needs `CAP_NET_ADMIN`), for rules
    /// that redirect all others.
    pub mark: Option<u32>,
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`{name}` cannot listen on {address}: the port is taken; stop what uses it, choose another \
         `listen`, or write port 0 for a free one"
    )]
    Taken { name: Arc<str>, address: SocketAddr },
    #[error("`{name}` cannot listen on {address}: {source}")]
    Listen { name: Arc<str>, address: SocketAddr, source: io::Error },
    #[error("`{name}`: {source}")]
    Upstream { name: Arc<str>, source: BadOrigin },
    #[error("`{name}`: {source}")]
    Trust { name: Arc<str>, source: TrustError },
    #[error("{0}")]
    Authority(#[from] CaError),
}

/// The proxy; [`Proxy::start`] makes it run.
#[derive(Clone, Copy, Debug)]
pub struct Proxy;

impl Proxy {
    /// Listens for every dependency, or for none when one of them cannot.
    pub async fn start(
        listeners: Vec<Listener>,
        engine: Arc<Engine>,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Running, Error> {
        let drain = CancellationToken::new();
        let intercepts = intercepts(&listeners, &options);
        let dialled = Arc::<Dialled>::default();
        let mut bound = Vec::with_capacity(listeners.len());
        let mut keys = Keys { dir: options.ca_dir.clone(), authority: None };
        let mut directory = route::Directory { dependencies: Vec::new() };
        for listener in listeners {
            let place = |address| listen::bind(&listener.name, address, options.fallback_to_free);
            let socket = listener.listen.map(place).transpose()?;
            if !speaks_http(listener.dialect) {
                let connector = connector_of(&listener, &options, &dialled)?;
                let raw = tcp::Raw {
                    gate: engine.gate(&listener.name),
                    name: listener.name,
                    dialect: listener.dialect,
                    tls_passes: listener.tls == Some(ListenTls::Passes),
                    connector: Arc::new(connector),
                    engine: Arc::clone(&engine),
                    recorder: recorder.clone(),
                    clock: Arc::clone(&clock),
                    drain: drain.clone(),
                };
                bound.extend(socket.map(|socket| (socket, Entrance::Raw(Arc::new(raw)))));
                continue;
            }
            let tls = listener.tls.as_ref().filter(|tls| **tls != ListenTls::Passes);
            let secure = tls.map(|tls| keys.secure(&listener.name, tls));
            let secure = secure.transpose()?.map(Arc::new);
            let pool = pool_of(&listener, &options, &dialled)?;
            let dependency = Dependency {
                gate: engine.gate(&listener.name),
                hosts: hosts_of(&listener),
                path: listener.path.clone().unwrap_or_else(|| format!("/{}", listener.name)),
                name: listener.name,
                dialect: listener.dialect,
                identify: listener.identify,
                pool,
                engine: Arc::clone(&engine),
                recorder: recorder.clone(),
                clock: Arc::clone(&clock),
                drain: drain.clone(),
                mark_faults: options.mark_faults,
            };
            let dependency = Arc::new(dependency);
            directory.dependencies.push(Arc::clone(&dependency));
            let entrance = match secure {
                Some(secure) => Entrance::Https(dependency, secure),
                None => Entrance::Http(dependency),
            };
            bound.extend(socket.map(|socket| (socket, entrance)));
        }
        // What stands behind the gateways.
        let directory = Arc::new(directory);
        let gateways = &options.gateways;
        let secure = match intercepts {
            true => Some(Arc::new(Secure::minted(keys.authority()?))),
            false => None,
        };
        let place =
            |name: &str, address| listen::bind(&name.into(), address, options.fallback_to_free);
        let forward = gateways.forward.map(|address| place("forward", address)).transpose()?;
        let transparent = match gateways.transparent {
            Some(settings) => listen_transparently(settings)?,
            None => Vec::new(),
        };
        let doors = forward.iter().chain(&transparent);
        let doors: Vec<SocketAddr> = doors.map(|(_, address)| *address).collect();
        let own = bound.iter().map(|((_, address), ..)| *address).chain(doors.iter().copied());
        let own: Vec<SocketAddr> = own.collect();
        let mut running = Running { listeners: Vec::with_capacity(bound.len()), drain };
        for (socket, entrance) in bound {
            running.open(entrance.name().into(), false, socket, entrance, &engine);
        }
        if let Some(socket) = forward {
            let connect_timeout =
                options.connect_timeout.unwrap_or(ConnectOptions::default().timeout);
            let gateway = forward::Forward {
                directory: Arc::clone(&directory),
                secure: secure.clone(),
                strangers: stranger::Strangers {
                    engine: Arc::clone(&engine),
                    clock: Arc::clone(&clock),
                    drain: running.drain.clone(),
                    connect_timeout,
                    own: doors,
                    known: Mutex::default(),
                },
                clients: gateways.clients.clone(),
                connect_timeout,
                drain: running.drain.clone(),
            };
            let entrance = Entrance::Forward(Arc::new(gateway));
            running.open("forward".into(), true, socket, entrance, &engine);
        }
        if let Some(settings) = gateways.transparent {
            let gateway = Arc::new(transparent::Transparent::new(transparent::Parts {
                settings,
                directory,
                secure,
                clients: gateways.clients.clone(),
                own,
                dialled,
                mark: options.mark,
                connect_timeout: options
                    .connect_timeout
                    .unwrap_or(ConnectOptions::default().timeout),
                drain: running.drain.clone(),
            }));
            for socket in transparent {
                let entrance = Entrance::Transparent(Arc::clone(&gateway));
                running.open("transparent".into(), true, socket, entrance, &engine);
            }
        }
        Ok(running)
    }
}

fn listen_transparently(settings: Transparent) -> Result<Vec<(TcpListener, SocketAddr)>, Error> {
    let (name, address) = (Arc::from("transparent"), settings.listen);
    transparent::listen(address, settings.mode).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::Taken { name, address },
        _ => Error::Listen { name, address, source },
    })
}

/// The installation's authority, opened when it is first needed.
struct Keys {
    dir: Option<PathBuf>,
    authority: Option<Arc<Authority>>,
}

impl Keys {
    /// The authority; it is made when there is none.
    fn authority(&mut self) -> Result<Arc<Authority>, CaError> {
        if let Some(authority) = &self.authority {
            return Ok(Arc::clone(authority));
        }
        let authority = Arc::new(Authority::open(self.dir.as_deref())?);
        Ok(Arc::clone(self.authority.insert(authority)))
    }

    fn secure(&mut self, name: &Arc<str>, tls: &ListenTls) -> Result<Secure, Error> {
        let pair = match tls {
            ListenTls::Minted | ListenTls::Passes => return Ok(Secure::minted(self.authority()?)),
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

/// Whether apps may come over TLS, through a gateway, for what they take for dependencies.
fn intercepts(listeners: &[Listener], options: &Options) -> bool {
    let secured = |one: &Listener| one.upstream.scheme() == "https" || !one.hosts.is_empty();
    let gateways = &options.gateways;
    (gateways.forward.is_some() || gateways.transparent.is_some()) && listeners.iter().any(secured)
}

/// The hosts that mean a dependency: its upstream's own and those that were named.
fn hosts_of(listener: &Listener) -> Vec<String> {
    let own = listener.upstream.host_str().map(str::to_ascii_lowercase);
    let named = listener.hosts.iter().map(|host| host.to_ascii_lowercase());
    own.into_iter().chain(named).collect()
}

fn pool_of(
    listener: &Listener,
    options: &Options,
    dialled: &Arc<Dialled>,
) -> Result<Pool<request::RequestBody>, Error> {
    let name = || Arc::clone(&listener.name);
    let origin = Origin::new(&listener.upstream)
        .map_err(|source| Error::Upstream { name: name(), source })?;
    let connect = connect_options(listener, options, dialled);
    Pool::new(origin, pool::Options { connect, ..pool::Options::default() })
        .map_err(|source| Error::Trust { name: name(), source })
}

fn connector_of(
    listener: &Listener,
    options: &Options,
    dialled: &Arc<Dialled>,
) -> Result<Connector, Error> {
    let name = || Arc::clone(&listener.name);
    let origin = Origin::raw(&listener.upstream)
        .map_err(|source| Error::Upstream { name: name(), source })?;
    Connector::new(origin, &connect_options(listener, options, dialled))
        .map_err(|source| Error::Trust { name: name(), source })
}

fn connect_options(
    listener: &Listener,
    options: &Options,
    dialled: &Arc<Dialled>,
) -> ConnectOptions {
    let mut connect = ConnectOptions {
        tls: listener.upstream_tls.clone(),
        http: listener.http,
        ..ConnectOptions::default()
    };
    if options.gateways.transparent.is_some() || options.mark.is_some() {
        let guard = Guard::none().marking(options.mark).noting(Arc::clone(dialled));
        connect.guard = Some(guard);
    }
    if let Some(timeout) = options.connect_timeout {
        connect.timeout = timeout;
    }
    connect
}

/// The proxy at work. Dropping it closes its listeners and connections at once.
#[derive(Debug)]
pub struct Running {
    listeners: Vec<Listening>,
    drain: CancellationToken,
}

#[derive(Debug)]
struct Listening {
    /// The dependency, or which gateway.
    name: Arc<str>,
    gateway: bool,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// Serves what comes in at a socket.
    fn open(
        &mut self,
        name: Arc<str>,
        gateway: bool,
        (socket, address): (TcpListener, SocketAddr),
        entrance: Entrance,
        engine: &Arc<Engine>,
    ) {
        let (engine, drain) = (Arc::clone(engine), self.drain.clone());
        let task = tokio::spawn(listen::accept(socket, address, Arc::new(entrance), engine, drain));
        self.listeners.push(Listening { name, gateway, address, task });
    }

    /// Where a dependency's listener is.
    pub fn address(&self, dependency: &str) -> Option<SocketAddr> {
        self.addresses().find(|(name, _)| ***name == *dependency).map(|(_, address)| address)
    }

    /// The listeners of dependencies, in the order they were given.
    pub fn addresses(&self) -> impl Iterator<Item = (&Arc<str>, SocketAddr)> {
        self.named(false)
    }

    /// The gateways: `forward`.
    pub fn gateway_addresses(&self) -> impl Iterator<Item = (&Arc<str>, SocketAddr)> {
        self.named(true)
    }

    fn named(&self, gateway: bool) -> impl Iterator<Item = (&Arc<str>, SocketAddr)> {
        let listeners = self.listeners.iter().filter(move |one| one.gateway == gateway);
        listeners.map(|listening| (&listening.name, listening.address))
    }

    /// The first dependency whose listener has ended although nobody asked for it.
    pub fn ended(&self) -> Option<&Arc<str>> {
        let ended = self.listeners.iter().find(|listening| listening.task.is_finished());
        ended.filter(|_| !self.drain.is_cancelled()).map(|listening| &listening.name)
    }

    /// Takes no more requests and lets those under way end, for so long at most; whether all did.
    pub async fn drain(mut self, timeout: Duration) -> bool {
        self.drain.cancel();
        let all = async {
            for listening in &mut self.listeners {
                let _ = (&mut listening.task).await;
            }
        };
        tokio::time::timeout(timeout, all).await.is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.cancel();
        for listening in &self.listeners {
            listening.task.abort();
        }
    }
}
