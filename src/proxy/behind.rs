//! What stands behind each place that is listened on: a dependency, or one of the gateways.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::entrance::Entrance;
use super::forward::Forward;
use super::place::Place;
use super::route::{Directory, Route};
use super::running::Site;
use super::secure::Secure;
use super::served::{Served, Stand};
use super::shared::Shared;
use super::stranger::Strangers;
use super::transparent::{self, Transparent};
use super::{Gateways, Listener};
use crate::dialect::speaks_http;
use crate::net::ConnectOptions;

/// What the gateways need beside the dependencies.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) gateways: Gateways,
    /// For what comes over TLS through a gateway.
    pub(super) intercept: Option<Arc<Secure>>,
}

/// Whether apps may come over TLS, through a gateway, for what they take for dependencies.
pub(super) fn intercepts(listeners: &[Listener], gateways: &Gateways) -> bool {
    let secured = |one: &Listener| match one.upstream.scheme() {
        "https" | "tls" | "rediss" => true,
        _ => speaks_http(one.dialect) && !one.hosts.is_empty(),
    };
    (gateways.forward.is_some() || gateways.transparent.is_some()) && listeners.iter().any(secured)
}

/// What is behind all places at one time.
pub(super) struct Scene<'a> {
    pub(super) site: &'a Site,
    pub(super) behind: &'a Behind,
    pub(super) directory: &'a Arc<Directory>,
    pub(super) dependencies: &'a [Served],
    /// Where this process listens, and its gateways among that.
    pub(super) own: Vec<SocketAddr>,
    pub(super) doors: Vec<SocketAddr>,
    /// One gateway, though it may have two sockets.
    pub(super) transparent: Option<Arc<Transparent>>,
}

impl Scene<'_> {
    /// What stands behind a place.
    pub(super) fn entrance(
        &self,
        place: &Place,
        address: SocketAddr,
        drain: CancellationToken,
    ) -> Entrance {
        let own = |(listener, ..): &&Served| *place == Place::Dependency(listener.name.clone());
        match self.dependencies.iter().find(own) {
            Some((_, Stand::Http(dependency, Some(secure)))) => {
                return Entrance::Https(Arc::clone(dependency), Arc::clone(secure));
            }
            Some((_, Stand::Http(dependency, None))) => {
                return Entrance::Http(Arc::clone(dependency));
            }
            Some((_, Stand::Raw(raw))) => return Entrance::Raw(Arc::clone(raw)),
            None => {}
        }
        match (place, &self.transparent) {
            (Place::Gateway("forward"), _) => Entrance::Forward(Arc::new(self.forward(drain))),
            (Place::Gateway("transparent"), Some(gateway)) => {
                Entrance::Transparent(Arc::clone(gateway))
            }
            _ => {
                let directory = Arc::clone(self.directory);
                let shared = Shared { directory, port: address.port(), drain };
                Entrance::Shared(Arc::new(Route::Shared(Arc::new(shared))))
            }
        }
    }

    fn forward(&self, drain: CancellationToken) -> Forward {
        let strangers = Strangers {
            engine: Arc::clone(&self.site.engine),
            clock: Arc::clone(&self.site.clock),
            drain: drain.clone(),
            connect_timeout: self.connect_timeout(),
            own: self.doors.clone(),
            known: Mutex::default(),
        };
        Forward {
            directory: Arc::clone(self.directory),
            secure: self.behind.intercept.clone(),
            strangers,
            clients: self.behind.gateways.clients.clone(),
            connect_timeout: self.connect_timeout(),
            drain,
        }
    }

    /// The transparent gateway, where there is one.
    pub(super) fn transparent(&self, drain: CancellationToken) -> Option<Arc<Transparent>> {
        let parts = transparent::Parts {
            settings: self.behind.gateways.transparent?,
            directory: Arc::clone(self.directory),
            secure: self.behind.intercept.clone(),
            clients: self.behind.gateways.clients.clone(),
            own: self.own.clone(),
            dialled: Arc::clone(&self.site.dialled),
            mark: self.site.options.mark,
            connect_timeout: self.connect_timeout(),
            drain,
        };
        Some(Arc::new(Transparent::new(parts)))
    }

    fn connect_timeout(&self) -> Duration {
        self.site.options.connect_timeout.unwrap_or(ConnectOptions::default().timeout)
    }
}
