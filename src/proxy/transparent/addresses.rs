//! Dependencies by the addresses of their upstreams: for what names no host, and for protocols in
//! which the server speaks first. Names are looked up again from time to time, and what they meant
//! before still counts for a while.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::net::Origin;
use crate::proxy::route::{Directory, Found};

/// A name is looked up again after this.
const FRESH: Duration = Duration::from_secs(10);
/// An address that a name had counts for so long: a connection may be made with an old answer.
const KEPT: Duration = Duration::from_secs(600);
/// How long the first connection waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

impl Found {
    fn origin(&self) -> &Origin {
        match self {
            Self::Http(dependency) => dependency.pool.origin(),
            Self::Raw(raw) => raw.connector.origin(),
        }
    }

    /// The hosts and ports that it may be called at without saying a name: its upstream, and of one
    /// that speaks no HTTP the hosts that it names, at the upstream's port where they name none.
    fn places(&self) -> Vec<(String, u16)> {
        let origin = self.origin();
        let mut places = vec![(origin.host().to_owned(), origin.port())];
        if let Self::Raw(raw) = self {
            let whole = raw.hosts.iter().filter(|host| !host.is_pattern());
            places
                .extend(whole.map(|host| (host.name.clone(), host.port.unwrap_or(origin.port()))));
        }
        places
    }
}

/// What is known of the upstreams' addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    directory: Arc<Directory>,
    /// By the upstream's name.
    known: Mutex<HashMap<String, Known>>,
    /// One at a time: whoever comes meanwhile waits for the same answer.
    lookup: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    looked_up: Option<Instant>,
    addresses: Vec<(IpAddr, Instant)>,
}

impl Addresses {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, known: Mutex::default(), lookup: tokio::sync::Mutex::default() }
    }

    /// The dependency that is at this address and port.
    pub(super) async fn find(&self, place: SocketAddr) -> Option<Found> {
        let (raw, http) = (self.directory.raw(), self.directory.all());
        let raw = raw.iter().cloned().map(Found::Raw);
        for found in raw.chain(http.iter().cloned().map(Found::Http)) {
            for (host, port) in found.places() {
                let here = port == place.port()
                    && match host.parse::<IpAddr>() {
                        Ok(address) => address.to_canonical() == place.ip(),
                        Err(_) => self.means(&host, place).await,
                    };
                if here {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Whether a name leads there.
    async fn means(&self, host: &str, place: SocketAddr) -> bool {
        if self.known(host, place.ip()) {
            return true;
        }
        let _alone = self.lookup.lock().await;
        let now = Instant::now();
        {
            let mut known = self.known.lock();
            let known = known.entry(host.to_owned()).or_default();
            if known.looked_up.is_some_and(|then| now.duration_since(then) < FRESH) {
                return known.addresses.iter().any(|(one, _)| *one == place.ip());
            }
            known.looked_up = Some(now);
        }
        let looked_up = tokio::net::lookup_host((host, place.port()));
        let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, looked_up).await else {
            return false;
        };
        {
            let mut known = self.known.lock();
            let known = known.entry(host.to_owned()).or_default();
            known.addresses.retain(|(_, seen)| now.duration_since(*seen) < KEPT);
            for address in found {
                let ip = address.ip().to_canonical();
                known.addresses.retain(|(one, _)| *one != ip);
                known.addresses.push((ip, now));
            }
        }
        self.known(host, place.ip())
    }

    fn known(&self, host: &str, ip: IpAddr) -> bool {
        let known = self.known.lock();
        known.get(host).is_some_and(|known| known.addresses.iter().any(|(one, _)| *one == ip))
    }
}
