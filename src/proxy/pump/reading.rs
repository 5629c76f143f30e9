//! Reads an answer for the effects: from the upstream, unpacked where it is compressed, cut into items;
//! each is shown to them when its turn has come.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::Body;

use super::{End, Pump, Stage};
use crate::exchange::Item;
use crate::fault::{Ending, Order};
use crate::net::pool::Answering;

impl Pump {
    /// Gets the next orders: from the next item, or from the upstream's end. Each item is shown to
    /// the effects when its turn has come, not before.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(item) = self.items.pop_front().or_else(|| self.cutter.next()) {
                let now = self.books.now();
                self.orders.extend(self.books.decision.chain.on_item(now, item));
                return Poll::Ready(());
            }
            match self.packing.as_mut().and_then(|packing| packing.unpacker.next()) {
                Some(Ok(piece)) => {
                    self.cutter.push(piece);
                    continue;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "an answer cannot be unpacked");
                    let cut = self.books.connection().broken();
                    self.finish(End::Cut(cut));
                    continue;
                }
                None => {}
            }
            match self.stage {
                Stage::Reading => {
                    if self.poll_upstream(cx).is_pending() {
                        return self.poll_due(cx);
                    }
                }
                Stage::Emptying(End::Whole) => {
                    self.stage = Stage::Over;
                    let now = self.books.now();
                    self.orders.extend(self.books.decision.chain.on_end(now));
                    return Poll::Ready(());
                }
                Stage::Emptying(End::Cut(ending)) => {
                    self.stage = Stage::Over;
                    self.cut = true;
                    let status = self.status.take();
                    self.orders.push_back(match status {
                        Some(status) => Order::Send(Item::Event(status)),
                        None => Order::End(ending),
                    });
                    return Poll::Ready(());
                }
                Stage::Over | Stage::Ended(_) => return Poll::Ready(()),
            }
        }
    }

    /// Reads on; at the end takes what the cutter still has.
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(upstream) = &mut self.upstream else {
            self.finish(End::Whole);
            return Poll::Ready(());
        };
        match ready!(Pin::new(upstream).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => match &mut self.packing {
                    Some(packing) => packing.unpacker.push(data),
                    None => {
                        self.cutter.push(data);
                    }
                },
                Err(other) => self.trailers = other.into_trailers().ok(),
            },
            Some(Err(error)) => {
                let connection = self.books.connection();
                let (cut, status) = (connection.cut_of(&error), connection.status_of(&error));
                self.finish(End::Cut(cut));
                self.status = status;
            }
            None => self.finish(End::Whole),
        }
        Poll::Ready(())
    }

    fn finish(&mut self, end: End) {
        if let Some(packing) = &mut self.packing {
            packing.ended();
        }
        self.upstream = None;
        self.items.extend(self.cutter.finish());
        self.stage = Stage::Emptying(end);
    }

    /// An answer with an announced length may be edited or cut short. If it is one item (a whole
    /// answer that is no stream is), the effects see it now, and the length that it will really
    /// have is announced; else none is, and the body goes out in chunks. A body that is to be cut
    /// off keeps the length that the upstream announced.
    pub(super) async fn look_ahead(&mut self, announced: u64) -> Option<u64> {
        while self.stage != Stage::Over {
            if !self.orders.is_empty() && !self.is_seen() {
                return None;
            }
            poll_fn(|cx| self.poll_more(cx)).await;
        }
        if self.orders.iter().any(|order| matches!(order, Order::Pulse(_))) {
            return None;
        }
        let mut length = 0;
        for order in &self.orders {
            match order {
                Order::Send(item) => length += item.raw().len() as u64,
                Order::End(Ending::Clean) => break,
                Order::End(_) => return Some(announced.max(length + 1)),
                _ => {}
            }
        }
        Some(length)
    }

    /// Whether the effects have seen all of the body but its end.
    fn is_seen(&mut self) -> bool {
        self.items.extend(self.cutter.next());
        self.items.is_empty() && self.upstream.as_ref().is_none_or(Answering::is_end_stream)
    }
}
