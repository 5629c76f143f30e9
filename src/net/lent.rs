//! A stream that is lent to a protocol's library: it comes back when the library drops it, and it
//! is known whether all that was written has gone to the kernel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// The stream while it is lent.
#[derive(Debug)]
pub struct Lent {
    /// None only while it is dropped.
    stream: Option<Stream>,
    loan: Arc<Loan>,
}

/// What its owner keeps meanwhile.
#[derive(Debug, Default)]
pub struct Loan {
    flushed: AtomicBool,
    back: Mutex<Option<Stream>>,
}

impl Lent {
    /// Lends a stream.
    pub fn new(stream: Stream) -> (Self, Arc<Loan>) {
        let loan = Arc::<Loan>::default();
        (Self { stream: Some(stream), loan: Arc::clone(&loan) }, loan)
    }

    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.stream.as_mut().expect("it is taken only when this is dropped"))
    }
}

impl Loan {
    /// Whether nothing that was written is still held back. Only the task that writes can rely on
    /// it.
    pub fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire)
    }

    /// The stream, once it has been dropped.
    pub fn take(&self) -> Option<Stream> {
        self.back.lock().take()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.loan.back.lock() = self.stream.take();
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.loan.flushed.store(false, Ordering::Release);
        self.get_mut().stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.loan.flushed.store(false, Ordering::Release);
        self.get_mut().stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.stream().poll_flush(cx))?;
        this.loan.flushed.store(true, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_shutdown(cx)
    }
}
