//! The provider's own error event inside a running stream, after which the stream ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::response;

use super::super::lengths::Lengths;
use super::super::place::{Follower, Found, unreadable};
use super::super::{Arming, Effect, Ending, Fault, Impossible, NO_REQUESTS, Orders, Place};
use crate::dialect::{Dialect, Failure, SoFar, inband_message};
use crate::exchange::{Event, Grain, Item, Level, Operation, Transport};

/// Breaks into a running stream.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) place: Place,
    pub(super) class: Arc<str>,
    pub(super) message: Option<Arc<str>>,
    /// The end of a gRPC call.
    pub(super) status: Event,
    pub(super) lengths: Arc<Lengths>,
}

impl Fault for Inside {
    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        let dialect: &'static dyn Dialect = arming.dialect;
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        let words = || self.message.as_deref().unwrap_or_else(|| inband_message(&self.class));
        let said = Said {
            class: Arc::clone(&self.class),
            message: self.message.clone(),
            model: arming.exchange.facts.model.clone(),
            request: arming.exchange.body.clone(),
            id: arming.draw.fork("id").bits(),
            dialect,
        };
        let events = match arming.exchange.transport {
            Transport::Grpc => vec![self.status.clone()],
            Transport::WebSocket => dialect.socket_error(words()).into_iter().collect(),
            _ => said.behind(&SoFar::default()),
        };
        if events.is_empty() {
            return Err(Impossible("this kind of dependency reports no errors inside a stream"));
        }
        let http = !matches!(arming.exchange.transport, Transport::Grpc | Transport::WebSocket);
        let follower = Some(Follower::new(self.place, &self.lengths, arming));
        let operation = arming.exchange.facts.operation;
        let said = http.then(|| (said, operation, SoFar::default()));
        Ok(Box::new(Breaking { events, said, follower }))
    }
}

/// A failure that is said inside a stream of events.
struct Said {
    class: Arc<str>,
    message: Option<Arc<str>>,
    model: Option<String>,
    request: Bytes,
    id: u64,
    dialect: &'static dyn Dialect,
}

impl Said {
    /// The events, as they follow on what has passed.
    fn behind(&self, so_far: &SoFar) -> Vec<Event> {
        let (class, message) = (Some(&*self.class), self.message.as_deref());
        let model = self.model.as_deref();
        let request = &self.request[..];
        let failure = Failure { class, message, model, request, id: self.id, ..Failure::default() };
        self.dialect.failing(&failure, so_far)
    }
}

struct Breaking {
    events: Vec<Event>,
    /// Where the events depend on those before them.
    said: Option<(Said, Operation, SoFar)>,
    /// None when there is nothing to look for.
    follower: Option<Follower>,
}

impl Effect for Breaking {
    fn grain(&self) -> Grain {
        Grain::Event
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(reason) = unreadable(head) {
            out.impossible(reason);
            self.follower = None;
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        let Some(follower) = &mut self.follower else { return out.send(item) };
        if matches!(item, Item::Message(_)) {
            out.impossible("the answer is no stream");
            self.follower = None;
            return out.send(item);
        }
        match follower.step(&item) {
            Found::Before => {
                out.note("reached_tokens", follower.seen.tokens as f64);
                let events = match &self.said {
                    Some((said, _, so_far)) => said.behind(so_far),
                    None => std::mem::take(&mut self.events),
                };
                for event in events {
                    out.send(Item::Event(event));
                }
                out.end(Ending::Clean);
            }
            _ => {
                if let (Some((said, operation, so_far)), Item::Event(event)) = (&mut self.said, &item) {
                    so_far.add(said.dialect, *operation, event);
                }
                out.send(item);
            }
        }
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if self.follower.is_some() {
            out.impossible("the answer ended before the error");
        }
    }
}
