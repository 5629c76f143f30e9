//! An exchange as selectors ask about it: its body is parsed at most once, and only if one asks.

use std::cell::OnceCell;

use http::{HeaderName, header};
use serde_json::Value;

use super::super::pattern::Pattern;
use crate::dialect::prompt;
use crate::exchange::Exchange;

/// An exchange and what was read of it.
#[derive(Debug)]
pub(in crate::engine) struct Reading<'a> {
    exchange: &'a Exchange,
    json: OnceCell<Option<Value>>,
    prompt: OnceCell<String>,
}

impl<'a> Reading<'a> {
    pub(in crate::engine) fn new(exchange: &'a Exchange) -> Self {
        Self { exchange, json: OnceCell::new(), prompt: OnceCell::new() }
    }

    pub(in crate::engine) fn exchange(&self) -> &'a Exchange {
        self.exchange
    }

    /// The body; None where it is no JSON or longer than what was read of it.
    pub(super) fn json(&self) -> Option<&Value> {
        let read = || serde_json::from_slice(&self.exchange.body).ok();
        self.json.get_or_init(read).as_ref()
    }

    /// The text of the prompt; empty where there is none.
    pub(super) fn prompt(&self) -> &str {
        self.prompt.get_or_init(|| self.json().map(prompt::text).unwrap_or_default())
    }

    /// The host that the request names, without its port.
    pub(super) fn host(&self) -> Option<&str> {
        let named = || self.exchange.headers.get(header::HOST)?.to_str().ok();
        let host = self.exchange.uri.host().or_else(named)?;
        let bare = match host.rsplit_once(':') {
            Some((bare, port)) if port.bytes().all(|b| b.is_ascii_digit()) => bare,
            _ => host,
        };
        Some(bare)
    }

    /// Whether any value of the header looks so.
    pub(super) fn has_header(&self, name: &HeaderName, wanted: &Pattern) -> bool {
        let mut values = self.exchange.headers.get_all(name).iter();
        values.any(|value| wanted.fits_bytes(value.as_bytes()))
    }
}
