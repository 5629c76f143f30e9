//! The body of an answer on its way to the app: made up, passed as it comes, or pumped through
//! faults.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::call::Books;
use super::connection::{Connection, Killed};
use super::pump::Pump;
use super::request::RequestBody;
use crate::dialect::grpc;
use crate::exchange::Event;
use crate::fault::Ending;
use crate::measure::CallEnd;
use crate::net::pool::Answering;
use crate::net::{self, Stream, Wire};

/// The body of an answer.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// Made up by us; gone once it is sent.
    Made(Option<Bytes>, Books),
    Nothing,
    /// Said by us where there is no call to keep books of.
    Told(Option<Bytes>),
    Passed(Passed),
    Pumped(Box<Pump>),
}

/// A body that passes as it comes.
#[derive(Debug)]
pub(super) struct Passed {
    body: Answering<RequestBody>,
    books: Books,
    /// The upstream broke off; what came before goes out first.
    cut: Option<Ending>,
}

impl Passed {
    pub(super) fn new(body: Answering<RequestBody>, mut books: Books) -> Self {
        if body.is_end_stream() {
            books.ended(CallEnd::Complete);
        }
        Self { body, books, cut: None }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Killed>>> {
        if let Some(cut) = self.cut {
            return self.books.connection().poll_killed(cx, cut).map(|killed| Some(Err(killed)));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => self.books.sent(data.len()),
                    (None, Some(trailers)) => self.books.said(trailers),
                    (None, None) => {}
                }
                if self.body.is_end_stream() {
                    self.books.ended(CallEnd::Complete);
                }
                self.books.connection().line.wire.mark_dirty();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.books.ended(CallEnd::UpstreamCut);
                if let Some(status) = self.books.connection().status_of(&error) {
                    let trailers = grpc::trailers_of(&status).unwrap_or_default();
                    self.books.said(&trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                let cut = self.books.connection().cut_of(&error);
                self.cut = Some(cut);
                self.books.connection().poll_killed(cx, cut).map(|killed| Some(Err(killed)))
            }
            None => {
                self.books.ended(CallEnd::Complete);
                Poll::Ready(None)
            }
        }
    }
}

/// RST_STREAM: the other side could not go on.
const INTERNAL_ERROR: u32 = 2;

impl Connection {
    /// The status of a gRPC call whose upstream connection broke: what a client makes of it by
    /// itself. A stream that was reset is no such thing, its code says more.
    pub(super) fn status_of(&self, error: &net::Error) -> Option<Event> {
        let broken = self.line.is_grpc() && !matches!(error, net::Error::StreamReset { .. });
        broken.then(|| grpc::trailers(grpc::UNAVAILABLE, &error.to_string()))
    }

    /// How the app sees it that an upstream has broken off: a stream of its own ends alone.
    pub(super) fn cut_of(&self, error: &net::Error) -> Ending {
        match error {
            net::Error::StreamReset { code, .. } => Ending::StreamReset(*code),
            _ if self.line.is_http2() => Ending::StreamReset(INTERNAL_ERROR),
            net::Error::Reset { .. } => Ending::Reset,
            _ => Ending::Close,
        }
    }

    /// How the app sees the end of an answer that makes no sense from here on.
    pub(super) fn broken(&self) -> Ending {
        if self.line.is_http2() { Ending::StreamReset(INTERNAL_ERROR) } else { Ending::Close }
    }

    /// Ready to end the connection when all that came before has gone out. (Hyper throws away
    /// what it has not written when a body fails.)
    pub(super) fn poll_killed(&self, cx: &mut Context<'_>, ending: Ending) -> Poll<Killed> {
        if !self.line.is_http2() {
            ready!(self.line.wire.poll_flushed(cx));
        }
        Poll::Ready(self.kill(ending))
    }
}

/// A body that hyper sends to the app; the connection's wire is told when it is over.
#[derive(Debug)]
pub(super) struct Sending {
    body: AnswerBody,
    wire: Arc<Wire<Stream>>,
}

impl Sending {
    pub(super) fn new(body: AnswerBody, wire: Arc<Wire<Stream>>) -> Self {
        Self { body, wire }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.wire.answer_ended();
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Killed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Killed>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl AnswerBody {
    /// Whether nothing can follow its last piece. (What is pumped may have trailers that were not
    /// read yet.)
    pub(super) fn has_no_trailers(&self) -> bool {
        !matches!(self, Self::Pumped(_))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Killed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Killed>>> {
        match self.get_mut() {
            Self::Made(body, books) => Poll::Ready(body.take().map(|bytes| {
                books.sent(bytes.len());
                Ok(Frame::data(bytes))
            })),
            Self::Nothing => Poll::Ready(None),
            Self::Told(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passed(passed) => passed.poll_frame(cx),
            Self::Pumped(pump) => pump.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Made(body, _) | Self::Told(body) => body.is_none(),
            Self::Nothing => true,
            Self::Passed(passed) => passed.body.is_end_stream(),
            Self::Pumped(pump) => pump.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Made(body, _) | Self::Told(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Nothing => SizeHint::with_exact(0),
            Self::Passed(passed) => passed.body.size_hint(),
            Self::Pumped(pump) => pump.size_hint(),
        }
    }
}
