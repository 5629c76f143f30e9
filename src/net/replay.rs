//! A connection to an upstream that hides one keep-alive race: when a connection that was used
//! before turns out closed before any byte of an answer, the request goes out again on a new one.
//! It is done below hyper, on the bytes as they were written, once, and while they are few.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::{Connecting, Connector};
use super::socket::{Bits, RECORD};
use super::stream::Stream;

/// A longer request is not kept, so it is not sent again.
const LONGEST: usize = 64 << 10;
/// Room for a request that an idle connection keeps.
const KEPT: usize = 4 << 10;

/// The stream to an upstream.
pub(super) struct Replaying {
    stream: Stream,
    connector: Arc<Connector>,
    /// Its `RECORD` bit is set for a request on a connection that was used before.
    wire: Bits,
    /// The request so far.
    sent: Vec<u8>,
    again: Again,
}

enum Again {
    No,
    Connecting(Connecting),
    /// So many bytes of the request have gone out again.
    Sending(usize),
}

impl Replaying {
    pub(super) fn new(stream: Stream, connector: Arc<Connector>, wire: Bits) -> Self {
        Self { stream, connector, wire, sent: Vec::new(), again: Again::No }
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    fn is_recording(&self) -> bool {
        self.wire.has(RECORD)
    }

    fn forget(&mut self) {
        self.wire.clear(RECORD);
        self.sent.clear();
        self.sent.shrink_to(KEPT);
    }

    fn record(&mut self, slices: &[IoSlice<'_>], count: usize) {
        if self.sent.len() + count > LONGEST {
            return self.forget();
        }
        let mut left = count;
        for slice in slices {
            let part = &slice[..left.min(slice.len())];
            self.sent.extend_from_slice(part);
            left -= part.len();
        }
    }

    /// Whether this failure of the old connection is to be hidden.
    fn start_over(&mut self) -> bool {
        if !self.is_recording() {
            return false;
        }
        tracing::debug!(
            upstream = %self.connector.origin(),
            "a kept connection was closed; the request goes out on a new one"
        );
        // Once only: the new connection's failures count.
        self.wire.clear(RECORD);
        self.again = Again::Connecting(self.connector.connect());
        true
    }

    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.again {
                Again::No => return Poll::Ready(Ok(())),
                Again::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(stream) => {
                        self.stream = stream;
                        self.again = Again::Sending(0);
                    }
                    Err(error) => {
                        self.again = Again::No;
                        return Poll::Ready(Err(io::Error::other(error)));
                    }
                },
                Again::Sending(done) if *done == self.sent.len() => {
                    self.again = Again::No;
                    self.sent.clear();
                }
                Again::Sending(done) => {
                    let left = &self.sent[*done..];
                    match ready!(Pin::new(&mut self.stream).poll_write(cx, left))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        count => *done += count,
                    }
                }
            }
        }
    }
}

/// Whether this says that the other side has closed the connection.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}

impl std::fmt::Debug for Replaying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Replaying").field(&self.stream).finish()
    }
}

impl AsyncRead for Replaying {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_again(cx))?;
            let before = buf.filled().len();
            match ready!(Pin::new(&mut this.stream).poll_read(cx, buf)) {
                Ok(()) if buf.filled().len() == before => {
                    if !this.start_over() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(error) => {
                    if !is_closed(&error) || !this.start_over() {
                        return Poll::Ready(Err(error));
                    }
                }
                Ok(()) => {
                    if this.is_recording() {
                        this.forget();
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Replaying {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_again(cx))?;
            match ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices)) {
                Ok(count) => {
                    if this.is_recording() {
                        this.record(slices, count);
                    }
                    return Poll::Ready(Ok(count));
                }
                // What could not be written any more is written after what is sent again.
                Err(error) => {
                    if !is_closed(&error) || !this.start_over() {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_again(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
