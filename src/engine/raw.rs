//! What has no HTTP head, as faults and selectors see it: connections, and the requests of protocols
//! over them.

use std::sync::Arc;

use bytes::Bytes;

use super::Engine;
use crate::exchange::{Exchange, ExchangeKey, Facts, Level, Transport};

impl Engine {
    /// A connection or a handshake as faults see it. `label` says which one it is, as far as that
    /// is known before anything was sent (a server name, a database and its user).
    pub fn connection(&self, dependency: &Arc<str>, level: Level, label: &str) -> Exchange {
        let key = ExchangeKey::labelled(label);
        Exchange {
            dependency: Arc::clone(dependency),
            level,
            transport: Transport::Tcp,
            key,
            ordinal: self.ordinal(dependency, key),
            method: http::Method::CONNECT,
            uri: http::Uri::from_static("/"),
            headers: http::HeaderMap::new(),
            facts: Facts::default(),
            body: Bytes::new(),
            user: None,
            session: None,
            api_key: None,
        }
    }

    /// A request of a protocol over a raw connection as faults see it, and counts its key. `path` says
    /// what it does (`/select`), `hash` what it asks.
    pub fn asked(&self, dependency: &Arc<str>, path: &str, facts: Facts, hash: u64) -> Exchange {
        let key = ExchangeKey::of(&http::Method::POST, path, &hash.to_be_bytes());
        Exchange {
            dependency: Arc::clone(dependency),
            level: Level::Request,
            transport: Transport::Tcp,
            key,
            ordinal: self.ordinal(dependency, key),
            method: http::Method::POST,
            uri: path.parse().unwrap_or_else(|_| http::Uri::from_static("/")),
            headers: http::HeaderMap::new(),
            facts,
            body: Bytes::new(),
            user: None,
            session: None,
            api_key: None,
        }
    }
}
