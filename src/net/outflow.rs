//! The way out of an HTTP/2 stream: data goes no further than the peer's window allows, so that
//! nothing is queued behind it and a slow peer slows whoever feeds this.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

/// The sending half of a stream, with at most one piece that waits for the window.
#[derive(Debug)]
pub struct Outflow {
    stream: SendStream<Bytes>,
    held: Bytes,
    /// The held piece is the last.
    last: bool,
}

/// The stream takes nothing more: the peer has reset it, or the connection is gone.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream is gone")]
pub struct Gone;

impl Outflow {
    /// The way out of this stream.
    pub fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, held: Bytes::new(), last: false }
    }

    /// Takes a piece; the one before must have gone out (`poll_sent`). `last`: the stream ends
    /// with it.
    pub fn put(&mut self, piece: Bytes, last: bool) -> Result<(), Gone> {
        if piece.is_empty() {
            return if last { self.end() } else { Ok(()) };
        }
        self.held = piece;
        self.last = last;
        Ok(())
    }

    /// Ready when what was put has been handed to the connection, within the window.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.held.is_empty() {
            self.stream.reserve_capacity(self.held.len());
            if self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
                }
            }
            let room = self.stream.capacity().min(self.held.len());
            let piece = self.held.split_to(room);
            let last = self.last && self.held.is_empty();
            self.stream.send_data(piece, last).map_err(|_| Gone)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has reset the stream or the connection is gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }

    /// Ends the stream in good order.
    pub fn end(&mut self) -> Result<(), Gone> {
        self.stream.send_data(Bytes::new(), true).map_err(|_| Gone)
    }

    /// Ends the stream with trailers.
    pub fn end_with(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.stream.send_trailers(trailers).map_err(|_| Gone)
    }

    /// Resets the stream. What the connection has not written yet is dropped.
    pub fn reset(&mut self, code: u32) {
        self.stream.send_reset(Reason::from(code));
    }
}
