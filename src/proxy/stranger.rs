//! Hosts that are no dependency. An exchange with one takes the same way as any other, behind a
//! gate where no fault is ever armed, and nobody keeps books of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::connection::Dependency;
use super::destination;
use crate::dialect::{self, Dialect};
use crate::engine::Engine;
use crate::engine::identify::Identify;
use crate::measure::Recorder;
use crate::net::{Clock, ConnectOptions, Guard, Origin, Pool, pool};

/// So many hosts are remembered with their idle connections; the one used longest ago goes first.
const REMEMBERED: usize = 256;

/// The hosts that were asked for.
#[derive(Debug)]
pub(super) struct Strangers {
    pub(super) engine: Arc<Engine>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) drain: CancellationToken,
    pub(super) connect_timeout: Duration,
    /// The gateways' own addresses.
    pub(super) own: Vec<SocketAddr>,
    pub(super) known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    uses: u64,
    hosts: HashMap<Key, (u64, Arc<Dependency>)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    tls: bool,
    authority: String,
    local: bool,
}

impl Strangers {
    /// What guards connections of a client.
    pub(super) fn guard(&self, local: bool) -> Guard {
        let own = self.own.clone();
        Guard::new(move |address| destination::against(address, local, &own))
    }

    /// The host of an authority as the client wrote it, or why it is none.
    pub(super) fn get(
        &self,
        tls: bool,
        authority: &str,
        local: bool,
    ) -> Result<Arc<Dependency>, String> {
        let key = Key { tls, authority: authority.to_owned(), local };
        let mut known = self.known.lock();
        known.uses += 1;
        let now = known.uses;
        if let Some((used, host)) = known.hosts.get_mut(&key) {
            *used = now;
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(self.meet(&key)?);
        if known.hosts.len() >= REMEMBERED
            && let Some(oldest) =
                known.hosts.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone())
        {
            known.hosts.remove(&oldest);
        }
        known.hosts.insert(key, (now, Arc::clone(&host)));
        Ok(host)
    }

    fn meet(&self, key: &Key) -> Result<Dependency, String> {
        let scheme = if key.tls { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{}", key.authority))
            .map_err(|error| format!("`{}` is no host: {error}", key.authority))?;
        let origin = Origin::new(&url).map_err(|error| error.to_string())?.named(&key.authority);
        let connect = ConnectOptions {
            timeout: self.connect_timeout,
            guard: Some(self.guard(key.local)),
            ..ConnectOptions::default()
        };
        let pool = Pool::new(origin, pool::Options { connect, ..pool::Options::default() })
            .map_err(|error| error.to_string())?;
        Ok(Dependency {
            name: key.authority.as_str().into(),
            hosts: Vec::new(),
            own_host: None,
            path: String::new(),
            // No rule targets it.
            gate: self.engine.gate(""),
            dialect: unknown(),
            identify: Identify::default(),
            pool,
            engine: Arc::clone(&self.engine),
            recorder: Recorder::none(),
            clock: Arc::clone(&self.clock),
            drain: self.drain.clone(),
            mark_faults: false,
            latest: Arc::default(),
            _keeps: None,
        })
    }
}

fn unknown() -> &'static dyn Dialect {
    dialect::by_kind("auto").expect("it is one of the kinds")
}
