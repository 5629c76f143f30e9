//! Orders that are more than one piece or one wait: keep-alives, pieces that share a write, and what
//! effects do when nothing comes.

use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use super::Pump;
use crate::dialect::grpc;
use crate::exchange::Item;
use crate::fault::{Order, Pulse};
use crate::measure::CallEnd;

impl Pump {
    /// Waits for the next keep-alive, and puts the rest behind it.
    pub(super) fn pulse(&mut self, mut pulse: Pulse) {
        if pulse.time.is_none() && !self.endless {
            self.endless = true;
            self.books.ended(CallEnd::Injected);
            // An upstream that is not read to its end is told so at once.
            self.upstream = None;
            self.orders.clear();
        }
        let Some((wait, beats)) = pulse.step() else { return };
        let piece = beats.then(|| Order::Send(pulse.item.clone()));
        self.orders.push_front(Order::Pulse(pulse));
        if let Some(piece) = piece {
            self.orders.push_front(piece);
        }
        self.orders.push_front(Order::Wait(wait));
    }

    /// A piece with those that are to go out in one write with it.
    pub(super) fn joined(&mut self, first: Item) -> Item {
        let mut more = Vec::new();
        while self.orders.front() == Some(&Order::Join) {
            self.orders.pop_front();
            match self.orders.pop_front() {
                Some(Order::Send(item)) if !is_trailers(&item) => more.push(item),
                Some(other) => self.orders.push_front(other),
                None => {}
            }
        }
        if more.is_empty() {
            return first;
        }
        let length = more.iter().map(|item| item.raw().len()).sum::<usize>();
        let mut joined = BytesMut::with_capacity(first.raw().len() + length);
        for item in std::iter::once(&first).chain(&more) {
            joined.extend_from_slice(item.raw());
            if matches!(item, Item::Event(event) if !event.is_control()) {
                self.books.sent_event();
            }
        }
        Item::Bytes(joined.freeze())
    }

    /// Tells the effects of the time, where one of them waits for it.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.books.decision.chain.due();
        let clock = self.books.connection().dependency.clock.as_ref();
        ready!(self.due.poll(cx, due, clock));
        let now = self.books.now();
        self.orders.extend(self.books.decision.chain.on_due(now));
        Poll::Ready(())
    }
}

/// Whether an event is the end of a gRPC call, which is no body.
fn is_trailers(item: &Item) -> bool {
    matches!(item, Item::Event(event) if grpc::trailers_of(event).is_some())
}
