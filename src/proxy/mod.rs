//! The proxy in front of the dependencies: a listener for each. What no fault touches passes as it
//! came, byte for byte; what faults order is carried out here and nowhere else.

mod answer;
mod call;
mod connection;
mod headers;
mod listen;
mod pump;
#[cfg(test)]
mod pump_tests;
mod request;
mod reverse;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::connection::Dependency;
use crate::dialect::Dialect;
use crate::engine::Engine;
use crate::engine::identify::Identify;
use crate::measure::Recorder;
use crate::net::{BadOrigin, Clock, ConnectOptions, Origin, Pool, TrustError, pool};

/// A dependency, and where the app finds us in its place.
#[derive(Clone, Debug)]
pub struct Listener {
    pub name: Arc<str>,
    pub dialect: &'static dyn Dialect,
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    /// http or https, with an optional base path.
    pub upstream: Url,
    pub identify: Identify,
}

/// What is the same for all listeners.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Takes a free port where the wanted one is taken.
    pub fallback_to_free: bool,
    /// Names the faults in the answers that they make up (`x-brownout-fault`).
    pub mark_faults: bool,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long connecting to an upstream may take; 10 s when not set.
    pub connect_timeout: Option<Duration>,
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
        let mut bound = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let socket = listen::bind(&listener.name, listener.listen, options.fallback_to_free)?;
            let pool = pool_of(&listener, &options)?;
            let dependency = Dependency {
                gate: engine.gate(&listener.name),
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
            bound.push((socket, Arc::new(dependency)));
        }
        let mut running = Running { listeners: Vec::with_capacity(bound.len()), drain };
        for ((socket, address), dependency) in bound {
            let name = Arc::clone(&dependency.name);
            let task = tokio::spawn(listen::accept(socket, address, dependency));
            running.listeners.push(Listening { name, address, task });
        }
        Ok(running)
    }
}

fn pool_of(listener: &Listener, options: &Options) -> Result<Pool<request::RequestBody>, Error> {
    let name = || Arc::clone(&listener.name);
    let origin = Origin::new(&listener.upstream)
        .map_err(|source| Error::Upstream { name: name(), source })?;
    let mut connect =
        ConnectOptions { ca_file: options.ca_file.clone(), ..ConnectOptions::default() };
    if let Some(timeout) = options.connect_timeout {
        connect.timeout = timeout;
    }
    Pool::new(origin, pool::Options { connect, ..pool::Options::default() })
        .map_err(|source| Error::Trust { name: name(), source })
}

/// The proxy at work. Dropping it closes its listeners and connections at once.
#[derive(Debug)]
pub struct Running {
    listeners: Vec<Listening>,
    drain: CancellationToken,
}

#[derive(Debug)]
struct Listening {
    name: Arc<str>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Running {
    /// Where a dependency's listener is.
    pub fn address(&self, dependency: &str) -> Option<SocketAddr> {
        self.addresses().find(|(name, _)| ***name == *dependency).map(|(_, address)| address)
    }

    /// All listeners, in the order they were given.
    pub fn addresses(&self) -> impl Iterator<Item = (&Arc<str>, SocketAddr)> {
        self.listeners.iter().map(|listening| (&listening.name, listening.address))
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
