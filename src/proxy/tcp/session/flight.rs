//! One request under way: what was decided on it, where its answer comes from, and its books.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};

use super::Raw;
use crate::dialect::{Refusal, Session};
use crate::engine::Decision;
use crate::exchange::{Exchange, Grain, Item};
use crate::fault::Order;
use crate::measure::{Call, CallEnd, Observation, Recorder};
use crate::net::Clock;

/// One request.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) decision: Decision,
    pub(super) source: Source,
    /// The effects have seen that the answer begins.
    began: bool,
    /// The answer was ended early, in good order.
    ended_early: bool,
    /// Rows that have gone to the app.
    rows: u64,
    last: Last,
    called_at: Duration,
    books: Books,
}

/// Where an answer comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// From us; the upstream has not seen the request.
    Ours {
        bytes: BytesMut,
        over: bool,
        close: bool,
    },
    Server,
    /// From the server, but for what it says of the failure; None once that has been said.
    Swapped(Option<Bytes>),
}

/// What was sent to the app last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Last {
    /// A piece of a message.
    Bytes,
    Error,
    Whole,
}

/// The call of a request; it is handed over when this is dropped.
#[derive(Debug)]
struct Books {
    call: Option<Box<Call>>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
}

impl Flight {
    pub(super) fn begun(dependency: &Raw) -> Self {
        let at = dependency.clock.now();
        let call = Call::begun(&dependency.name, at);
        Self {
            decision: Decision::default(),
            source: Source::Server,
            began: false,
            ended_early: false,
            rows: 0,
            last: Last::Whole,
            called_at: at,
            books: Books {
                call: Some(Box::new(call)),
                recorder: dependency.recorder.clone(),
                clock: Arc::clone(&dependency.clock),
            },
        }
    }

    /// One that passes.
    pub(super) fn passing(dependency: &Raw) -> Self {
        let mut flight = Self::begun(dependency);
        flight.upstream_called();
        flight
    }

    pub(super) fn decide(&mut self, dependency: &Raw, exchange: &Exchange) {
        let now = self.books.clock.now();
        self.decision = dependency.engine.decide(now, exchange, dependency.dialect);
        let key = exchange.key.0;
        self.note(|call| call.key = Some(key));
    }

    fn note(&mut self, change: impl FnOnce(&mut Call)) {
        if let Some(call) = &mut self.books.call {
            change(call);
        }
    }

    /// A fault holds the request back.
    pub(super) async fn hold(&mut self, dependency: &Raw, time: Duration) {
        dependency.clock.sleep(time).await;
        self.held(time);
    }

    pub(super) fn held(&mut self, time: Duration) {
        self.decision.held(time);
        self.note(|call| call.injected_delay += time);
    }

    pub(super) fn upstream_called(&mut self) {
        self.called_at = self.books.clock.now();
        self.note(|call| call.upstream = true);
    }

    /// Whether its answer must be looked at message by message.
    pub(super) fn is_touched(&self) -> bool {
        let chain = &self.decision.chain;
        !matches!(self.source, Source::Server)
            || self.ended_early
            || !chain.is_empty() && (!self.began || chain.grain() > Grain::Head)
    }

    /// Whether we answer it.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.source, Source::Ours { .. })
    }

    /// A fault answers it.
    pub(super) fn refused(&mut self, status: u16, refusal: &Refusal) {
        self.source = if refusal.upstream.is_empty() {
            let bytes = BytesMut::from(&refusal.app[..]);
            Source::Ours { bytes, over: refusal.over, close: refusal.close }
        } else {
            Source::Swapped(Some(refusal.app.clone()))
        };
        self.note(|call| (call.status, call.ended) = (Some(status), CallEnd::Injected));
    }

    /// More of an answer of ours.
    pub(super) fn add(&mut self, reply: &[u8], done: bool) {
        if let Source::Ours { bytes, over, .. } = &mut self.source {
            bytes.extend_from_slice(reply);
            *over |= done;
        }
    }

    /// What the app gets in place of this message, where the effects are past; None: they are to see
    /// it.
    pub(super) fn stand_in(
        &mut self,
        session: &dyn Session,
        item: &Item,
        said: bool,
    ) -> Option<Option<Bytes>> {
        if let Source::Swapped(ours) = &mut self.source {
            let swapped = if said { ours.take() } else { None };
            return Some(Some(swapped.unwrap_or_else(|| item.raw().clone())));
        }
        if !self.ended_early {
            return None;
        }
        let erred = self.last == Last::Error;
        Some(match item {
            Item::Event(event) => session.after_end(event, self.rows, erred),
            _ => None,
        })
    }

    /// Shows a piece of the answer to the effects.
    pub(super) fn show(
        &mut self,
        now: Duration,
        item: Item,
        whole: bool,
        ends: bool,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        let alone = !self.began && ends && whole;
        if !self.began {
            self.began = true;
            let (mut head, ()) = Response::new(()).into_parts();
            if is_error(&item) {
                head.status = StatusCode::BAD_REQUEST;
            }
            let took = now.saturating_sub(self.called_at);
            for index in 0..self.decision.chain.len() {
                orders.extend(self.decision.chain.on_response(index, now, took, &mut head));
            }
        }
        let grain = self.decision.chain.grain();
        let item = match item {
            // The only message of an answer is its whole.
            Item::Event(event) if grain == Grain::Event && alone => Item::Message(event.raw),
            Item::Event(event) if grain == Grain::Event => Item::Event(event),
            other => Item::Bytes(other.raw().clone()),
        };
        if grain == Grain::Head {
            orders.push(Order::Send(item));
        } else {
            orders.extend(self.decision.chain.on_item(now, item));
        }
        if ends && !orders.iter().any(|order| matches!(order, Order::End(_))) {
            orders.extend(self.decision.chain.on_end(now));
        }
        orders
    }

    /// A piece goes to the app.
    pub(super) fn sends(&mut self, item: &Item) {
        self.sent(item.raw().len());
        self.last = match item {
            Item::Event(event) => {
                self.rows += u64::from(event.name.as_deref() == Some("D"));
                if is_error(item) { Last::Error } else { Last::Whole }
            }
            Item::Message(_) => Last::Whole,
            Item::Bytes(_) if self.ended_early => self.last,
            Item::Bytes(_) => Last::Bytes,
        };
    }

    /// Bytes go to the app.
    pub(super) fn sent(&mut self, bytes: usize) {
        let now = self.books.clock.now();
        self.note(|call| {
            call.head.get_or_insert(now);
            call.first_byte.get_or_insert(now);
            call.bytes += bytes as u64;
        });
    }

    /// The rest of the answer is dropped; false where the app could not tell what follows from it.
    pub(super) fn end_early(&mut self) -> bool {
        self.ended_early = true;
        self.note(|call| call.ended = CallEnd::Injected);
        self.last != Last::Bytes
    }

    /// The answer is whole.
    pub(super) fn complete(mut self, status: u16) {
        self.note(|call| {
            if call.ended == CallEnd::ClientGone {
                (call.status, call.ended) = (Some(status), CallEnd::Complete);
            }
        });
    }

    /// A fault ended it before anything was decided on it by itself.
    pub(super) fn injected(mut self, status: u16, faults: Vec<Arc<str>>) {
        self.note(|call| {
            call.status = (status > 0).then_some(status);
            call.ended = CallEnd::Injected;
            call.faults = faults;
        });
    }

    pub(super) fn ended(mut self, ended: CallEnd) {
        self.note(|call| call.ended = ended);
    }

    /// The connection has ended before the answer.
    pub(super) fn cut(mut self, ended: CallEnd) {
        self.note(|call| {
            if call.ended == CallEnd::ClientGone {
                call.ended = ended;
            }
        });
    }

    /// It is no call after all.
    pub(super) fn forget(mut self) {
        self.books.call = None;
    }
}

/// Whether a message says that the request has failed.
fn is_error(item: &Item) -> bool {
    match item {
        Item::Event(event) => matches!(event.name.as_deref(), Some("E" | "-" | "!")),
        _ => false,
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = self.books.clock.now();
        let acted = self.decision.acted();
        if let Some(mut call) = self.books.call.take() {
            call.end = now;
            call.faults.extend(acted);
            self.books.recorder.record(Observation::Call(call));
        }
    }
}
