//! The app's request body on its way to the upstream: each piece as it comes, or a first part held
//! back for a fault to look at. With `Expect: 100-continue` nothing is asked of the app before the
//! upstream wants it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::net::pool::Interim;
use crate::net::{Clock, Sleep, Stream, Wire};

/// How much of a body is held back for faults to look at; the rest streams.
const PEEK: usize = 1 << 20;
/// How long an upstream may take to ask for a body. Apps, too, send theirs unasked after a while.
const UNASKED: Duration = Duration::from_secs(1);

/// A request's body as the app's protocol brings it.
#[derive(Debug)]
pub(super) enum Incoming {
    Http1(hyper::body::Incoming),
    /// With what is still to come, where the head said it.
    Http2(h2::RecvStream, Option<u64>),
}

/// The app broke off its own request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Incoming {
    /// The body of a request that came by HTTP/2.
    pub(super) fn of_stream(body: h2::RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let length = if body.is_end_stream() { Some(0) } else { length };
        Self::Http2(body, length)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let (stream, left) = match self {
            Self::Http1(body) => return Pin::new(body).poll_frame(cx).map_err(Broken::from),
            Self::Http2(stream, left) => (stream, left),
        };
        match ready!(stream.poll_data(cx)).transpose()? {
            Some(data) => {
                // Whoever reads on has passed on what came before.
                let _ = stream.flow_control().release_capacity(data.len());
                *left = left.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            None => {
                let trailers = ready!(stream.poll_trailers(cx))?;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(stream, _) => stream.is_end_stream(),
        }
    }

    /// How much is still to come, if that is known.
    fn left(&self) -> Option<u64> {
        match self {
            Self::Http1(body) => body.size_hint().exact(),
            Self::Http2(_, left) => *left,
        }
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct RequestBody {
    rest: Incoming,
    /// All of `rest` has been read.
    whole: bool,
    /// What an untouched body does without.
    extra: Option<Box<Extra>>,
    wire: Arc<Wire<Stream>>,
}

#[derive(Debug, Default)]
struct Extra {
    /// Read, but not passed on yet.
    held: VecDeque<Bytes>,
    held_len: u64,
    trailers: Option<HeaderMap>,
    /// Its end was read ahead and is still to be passed on: chunks have a terminator to send.
    end_untold: bool,
    gate: Option<Gate>,
}

impl RequestBody {
    pub(super) fn new(rest: Incoming, wire: Arc<Wire<Stream>>) -> Self {
        let whole = rest.is_end_stream();
        Self { rest, whole, extra: None, wire }
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    fn held_len(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.held_len)
    }

    /// Reads on until the body is whole or enough is held.
    pub(super) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.whole && self.held_len() < PEEK as u64 {
            match ready!(self.poll_rest(cx)?).map(Frame::into_data) {
                None => self.extra().end_untold = true,
                Some(Ok(data)) => {
                    let extra = self.extra();
                    extra.held_len += data.len() as u64;
                    extra.held.push_back(data);
                }
                Some(Err(other)) => self.extra().trailers = other.into_trailers().ok(),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The body's first part, cut at a length that does not depend on how it arrived.
    pub(super) fn prefix(&mut self) -> Bytes {
        let Some(extra) = &mut self.extra else { return Bytes::new() };
        if extra.held.len() > 1 {
            let mut all = BytesMut::with_capacity(extra.held_len as usize);
            extra.held.drain(..).for_each(|piece| all.extend_from_slice(&piece));
            extra.held.push_back(all.freeze());
        }
        let held = extra.held.front().cloned().unwrap_or_default();
        held.slice(..held.len().min(PEEK))
    }

    /// Holds the body back until the upstream asks for it, if the app waits to be asked.
    pub(super) fn wait_to_be_asked(request: &mut Request<Self>, clock: &dyn Clock) {
        let waits = !request.body().whole
            && request.body().held_len() == 0
            && request
                .headers()
                .get(header::EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if waits {
            let asked = Arc::<Asked>::default();
            let told = Arc::clone(&asked);
            let others = request.extensions_mut().remove::<Interim>();
            request.extensions_mut().insert(Interim::new(move |answer| {
                if answer.status() == http::StatusCode::CONTINUE {
                    told.tell();
                }
                if let Some(others) = &others {
                    others.tell(answer);
                }
            }));
            let gate = Gate { asked, unasked: clock.sleep(UNASKED) };
            request.body_mut().extra().gate = Some(gate);
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        let frame = ready!(self.rest.poll_frame(cx)).transpose()?;
        if frame.is_none() || self.rest.is_end_stream() {
            self.whole = true;
            self.wire.expect_head();
        }
        Poll::Ready(Ok(frame))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Some(extra) = &mut this.extra {
            if let Some(gate) = &mut extra.gate {
                ready!(gate.poll_open(cx));
                extra.gate = None;
            }
            if let Some(piece) = extra.held.pop_front() {
                extra.held_len -= piece.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.whole {
                extra.end_untold = false;
                let trailers = extra.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
        }
        if this.whole {
            return Poll::Ready(None);
        }
        this.poll_rest(cx).map(Result::transpose)
    }

    fn is_end_stream(&self) -> bool {
        let over =
            |extra: &Extra| extra.held.is_empty() && extra.trailers.is_none() && !extra.end_untold;
        self.whole && self.extra.as_deref().is_none_or(over)
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.left() {
            Some(rest) => SizeHint::with_exact(rest + self.held_len()),
            None => SizeHint::default(),
        }
    }
}

/// Closed until the upstream asks for the body.
struct Gate {
    asked: Arc<Asked>,
    unasked: Sleep,
}

impl Gate {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        *self.asked.waker.lock() = Some(cx.waker().clone());
        if self.asked.yes.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.unasked.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

#[derive(Default)]
struct Asked {
    yes: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Asked {
    fn tell(&self) {
        self.yes.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}
