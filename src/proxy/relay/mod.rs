//! The short way for what no fault touches: HTTP/1.1 heads and bodies go on as the bytes they came
//! in, and no parser builds anything from them. What it does not take goes to hyper, with every
//! byte that was read.

mod exchange;
mod head;
mod lane;
mod side;

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use self::exchange::{After, Exchange};
use self::side::{Scratch, Side};
use super::call::RETRY_COUNT;
use super::connection::{Connection, Dependency, IDLE};
use crate::net::Stream;
use crate::wire::http1::{self, Body, Unusual};

/// A head that is not whole after this long goes to hyper, where slow ones are refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request as it goes to the upstream.
struct Request {
    /// The head for the upstream, and what came of the body with it.
    first: Vec<u8>,
    /// What is still to come.
    body: Body,
    is_head: bool,
    /// The app wants the connection closed behind the answer.
    close: bool,
    retry: Option<u32>,
}

/// What comes next on a connection.
enum Next {
    Gone,
    HandOver(Why),
    Request(Request),
}

/// Why a connection is not for the relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// For now: something is armed.
    Touched,
    /// Its app asks for what the relay does not do.
    Unusual,
}

/// Serves a connection until it ends, or gives it back at the start of a request that is not for
/// the relay.
pub(super) async fn serve(stream: Stream, dependency: &Arc<Dependency>) -> Option<(Stream, Why)> {
    let drain = dependency.drain.clone();
    let mut drained = pin!(drain.cancelled());
    let mut idle = pin!(sleep(IDLE));
    let mut used = false;
    let line = Connection { dependency: Arc::clone(dependency), line: Arc::default() };
    let (first, stream) = stream.unwound();
    let mut relay = Relay {
        app: Side::new(stream),
        ahead: first.into(),
        searched: 0,
        connection: Arc::new(line),
    };
    loop {
        let mut patience: Option<Pin<Box<Sleep>>> = None;
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = relay.poll_next(cx) {
                return Poll::Ready(next);
            }
            if drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Gone);
            }
            if !relay.ahead.is_empty() {
                let patience = patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                return patience.as_mut().poll(cx).map(|()| Next::HandOver(Why::Unusual));
            }
            // Its time is not begun anew with each request, so it may be up to twice as long.
            while idle.as_mut().poll(cx).is_ready() {
                if !std::mem::take(&mut used) {
                    return Poll::Ready(Next::Gone);
                }
                idle.as_mut().reset(Instant::now() + IDLE);
            }
            Poll::Pending
        })
        .await;
        used = true;
        let after = match next {
            Next::Gone => return None,
            Next::HandOver(why) => {
                return Some((relay.app.stream.rewound(relay.ahead.into()), why));
            }
            Next::Request(request) => {
                let mut exchange = Exchange::new(&mut relay, request);
                poll_fn(|cx| exchange.poll(cx, &mut Scratch::default())).await
            }
        };
        match after {
            After::Next if drain.is_cancelled() => return None,
            After::Next => {}
            After::Reset => {
                relay.app.stream.reset().await;
                return None;
            }
            After::Close if !drain.is_cancelled() => {
                relay.app.stream.close().await;
                return None;
            }
            After::Close | After::Gone => return None,
        }
    }
}

/// A connection of an app.
struct Relay {
    app: Side,
    /// Bytes that were read and belong to a later request.
    ahead: Vec<u8>,
    /// So many of them were searched for the end of a head.
    searched: usize,
    connection: Arc<Connection>,
}

impl Relay {
    /// The next request, as soon as its head is whole.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            if let Some(next) = self.take(&ahead) {
                return Poll::Ready(next);
            }
        }
        let mut scratch = Scratch::default();
        loop {
            let Ok(count @ 1..) = ready!(self.app.poll_read(cx, &mut scratch)) else {
                return Poll::Ready(Next::Gone);
            };
            let new = scratch.read(count);
            let next = if self.ahead.is_empty() {
                self.take(new)
            } else {
                let mut all = std::mem::take(&mut self.ahead);
                all.extend_from_slice(new);
                self.take(&all)
            };
            if let Some(next) = next {
                return Poll::Ready(next);
            }
        }
    }

    /// A request from the start of these bytes; the rest stays ahead. None: its head is not whole.
    fn take(&mut self, bytes: &[u8]) -> Option<Next> {
        match self.request(bytes) {
            Ok(Some((request, used))) => {
                self.ahead.extend_from_slice(&bytes[used..]);
                Some(Next::Request(request))
            }
            Ok(None) => {
                self.ahead.extend_from_slice(bytes);
                None
            }
            Err(unusual) => {
                tracing::trace!(%unusual, "not for the relay");
                self.ahead.extend_from_slice(bytes);
                let touched = !self.connection.dependency.is_untouched();
                Some(Next::HandOver(if touched { Why::Touched } else { Why::Unusual }))
            }
        }
    }

    fn request(&mut self, bytes: &[u8]) -> Result<Option<(Request, usize)>, Unusual> {
        let Some(end) = http1::request_end(bytes, &mut self.searched)? else { return Ok(None) };
        self.searched = 0;
        let dependency = &self.connection.dependency;
        if !dependency.is_untouched() {
            return Err(Unusual::Special);
        }
        let mut retry = None;
        let (head, rest) = bytes.split_at(end);
        let asked = http1::request(head, |name, value| {
            if name.len() == RETRY_COUNT.as_str().len()
                && name.eq_ignore_ascii_case(RETRY_COUNT.as_str())
            {
                retry = std::str::from_utf8(value).ok().and_then(|count| count.parse().ok());
            }
        })?;
        let mut body = Body::of_request(asked.framing);
        let taken = body.follow(rest).map_err(|_| Unusual::Framing)?;
        let body_part = &rest[..taken.bytes];
        let request = Request {
            first: head::request(head, &asked, dependency.pool.origin(), body_part),
            body,
            is_head: asked.method == "HEAD",
            close: asked.close,
            retry,
        };
        Ok(Some((request, end + taken.bytes)))
    }
}
