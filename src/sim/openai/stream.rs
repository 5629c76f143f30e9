//! Bodies whose events are due at set times. Times count from the answer's start, so that a late
//! event does not delay the ones after it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body::Frame;

use super::super::capacity::Slot;
use crate::net::{Clock, Sleep};

/// An event and when it is due on the clock.
pub(super) type Due = (Duration, Bytes);

/// A body of events; it holds the machine's slot until its end, or until it is dropped.
struct Paced {
    clock: Arc<dyn Clock>,
    events: VecDeque<Due>,
    sleep: Option<Sleep>,
    slot: Option<Slot>,
}

/// A streamed answer.
pub(super) fn respond(clock: Arc<dyn Clock>, events: VecDeque<Due>, slot: Slot) -> Response {
    let body = Paced { clock, events, sleep: None, slot: Some(slot) };
    let content_type = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")];
    (content_type, Body::new(body)).into_response()
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            let Some((due, _)) = self.events.front() else {
                self.slot = None;
                return Poll::Ready(None);
            };
            if *due > self.clock.now() {
                self.sleep = Some(self.clock.sleep_until(*due));
                continue;
            }
            let event = self.events.pop_front().map(|(_, event)| Ok(Frame::data(event)));
            if self.events.is_empty() {
                self.slot = None;
            }
            return Poll::Ready(event);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.events.is_empty()
    }
}
