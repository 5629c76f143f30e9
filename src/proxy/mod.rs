//! The proxy in front of the dependencies: a listener for each. What no fault touches passes as it
//! came, byte for byte; what faults order is carried out here and nowhere else.

mod answer;
mod behind;
mod call;
mod connection;
mod destination;
mod due;
mod entrance;
mod forward;
mod headers;
mod http2;
#[cfg(test)]
mod http2_tests;
mod intercept;
mod keys;
mod listen;
mod packing;
mod place;
mod pump;
#[cfg(test)]
mod pump_tests;
mod rehearsal;
mod relay;
mod request;
mod reverse;
mod route;
mod running;
mod secure;
mod served;
mod shared;
mod stranger;
mod tcp;
mod transparent;
mod tunnel;
mod websocket;
#[cfg(test)]
mod websocket_tests;

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub use self::running::{Prepared, Running};
use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::engine::identify::Identify;
use crate::measure::Recorder;
use crate::net::ca::CaError;
use crate::net::handover::Inheritance;
use crate::net::{BadOrigin, Clock, HttpVersion, KeyPair, TrustError, UpstreamTls};

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
    /// Lives as long as the upstream is called: its simulator.
    pub keeps: Option<Arc<dyn Any + Send + Sync>>,
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
            keeps: None,
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
    /// Listening sockets that were taken over from another process.
    pub inherited: Inheritance,
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
    #[error(
        "`{name}` cannot listen on {address} while {held} is listened on here; take another port, or \
         start anew"
    )]
    Held { name: Arc<str>, address: SocketAddr, held: SocketAddr },
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
    /// Listens for every dependency and every gateway, or for nothing when one of them cannot.
    pub async fn start(
        listeners: Vec<Listener>,
        engine: Arc<Engine>,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Running, Error> {
        let gateways = options.gateways.clone();
        let mut running = Running::nowhere(engine, recorder, clock, options);
        let prepared = running.prepare(listeners, &gateways)?;
        running.commit(prepared);
        Ok(running)
    }
}
