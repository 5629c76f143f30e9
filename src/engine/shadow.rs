//! A fault in the shadow: it is armed and asked about the request as if it acted, and what it orders
//! is counted and thrown away. What would depend on the answer counts as if the answer gave it cause.

use std::fmt;
use std::time::Duration;

use http::{Request, request};

use crate::exchange::{Exchange, Level};
use crate::fault::{Effect, Orders};

/// What would have become of a fault on an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Hit,
    Impossible(&'static str),
    LetGo(&'static str),
}

/// Effects that are kept as long as their exchange lasts, since some hold a place in a queue.
#[derive(Default)]
pub(super) struct Shadows(Vec<Box<dyn Effect>>);

impl Shadows {
    /// Asks an effect about the request, and keeps it.
    pub(super) fn ask(
        &mut self,
        at: Duration,
        exchange: &Exchange,
        mut effect: Box<dyn Effect>,
    ) -> Outcome {
        let mut out = Orders::default();
        match exchange.level {
            Level::Connection | Level::Handshake => effect.on_connect(at, &mut out),
            Level::Request => effect.on_request(at, &mut head_of(exchange), &mut out),
            Level::Socket => {}
        }
        self.0.push(effect);
        match (out.impossible, out.let_go) {
            _ if out.hit => Outcome::Hit,
            (Some(reason), _) => Outcome::Impossible(reason),
            (None, Some(reason)) => Outcome::LetGo(reason),
            (None, None) => Outcome::Hit,
        }
    }
}

impl Outcome {
    /// Of two effects of a fault: it hits when one of them does.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Hit, _) | (_, Self::Hit) => Self::Hit,
            (Self::Impossible(_), _) => self,
            _ => other,
        }
    }
}

fn head_of(exchange: &Exchange) -> request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = exchange.method.clone();
    head.uri = exchange.uri.clone();
    head.headers = exchange.headers.clone();
    head
}

impl fmt::Debug for Shadows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the shadow", self.0.len())
    }
}
