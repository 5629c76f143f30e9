//! The body of an answer on its way from the upstream, whichever version of HTTP it came by.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http2::Streaming;
use super::{BoxError, Lane, Shared};
use crate::net::connect::Error;
use crate::net::stream::Stream;

/// The body of an answer. Read to its end it gives the connection back; dropped before, it closes
/// the connection or resets its stream, which tells the upstream at once.
pub struct Answering<B: Body + 'static> {
    pub(super) from: Source<B>,
    pub(super) shared: Arc<Shared<B>>,
}

pub(super) enum Source<B: Body + 'static> {
    Http1 { incoming: Incoming, lane: Option<Box<Lane<B>>> },
    Http2(Box<Streaming>),
}

impl<B> Answering<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// The answer is whole: the connection is kept if it can take another request.
    pub(super) fn release(&mut self) {
        if let Source::Http1 { lane, .. } = &mut self.from
            && let Some(mut lane) = lane.take()
            && (lane.sender.is_ready() || lane.is_sound())
        {
            self.shared.give_back(lane);
        }
    }

    /// After a 101: the connection itself, with the bytes that came behind the head.
    pub async fn upgraded(self) -> Option<(Stream, Bytes)> {
        let Source::Http1 { lane: Some(mut lane), .. } = self.from else { return None };
        poll_fn(|cx| lane.driver.poll_without_shutdown(cx)).await.ok()?;
        let Lane { driver, wire, .. } = *lane;
        let parts = driver.into_parts();
        wire.keep_stream();
        drop(parts.io);
        Some((wire.take_stream()?.into_stream(), parts.read_buf))
    }
}

impl<B> Body for Answering<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let origin = this.shared.connector.origin();
        let (incoming, lane) = match &mut this.from {
            Source::Http1 { incoming, lane } => (incoming, lane),
            Source::Http2(streaming) => return streaming.poll_frame(cx, origin),
        };
        let mut driven = false;
        loop {
            // While there is a connection only its driver moves the body on: no waker is needed.
            let mut idle = Context::from_waker(Waker::noop());
            let cx_body = if lane.is_some() { &mut idle } else { &mut *cx };
            match Pin::new(&mut *incoming).poll_frame(cx_body) {
                Poll::Ready(Some(Ok(frame))) => {
                    if incoming.is_end_stream() {
                        this.release();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => {
                    *lane = None;
                    return Poll::Ready(Some(Err(Error::from_hyper(origin, &error))));
                }
                Poll::Ready(None) => {
                    this.release();
                    return Poll::Ready(None);
                }
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {}
            }
            driven = true;
            if let Some(open) = lane
                && open.driver.poll_without_shutdown(cx).is_ready()
            {
                *lane = None;
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            Source::Http1 { incoming, .. } => incoming.is_end_stream(),
            Source::Http2(streaming) => streaming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            Source::Http1 { incoming, .. } => incoming.size_hint(),
            Source::Http2(streaming) => streaming.size_hint(),
        }
    }
}

impl<B: Body + 'static> fmt::Debug for Answering<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}
