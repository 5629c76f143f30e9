//! The socket below hyper: it keeps each head as it was read, writes heads as they are to be, and
//! gives the stream back when hyper is done with it. It never changes a body.

mod inbound;

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use self::inbound::Reading;
use super::head::{Lines, MARK_NAME, Patch, RawHead, Scanner, mark_value};
use crate::wire::strict::Refusal;

/// A head is to be written in place of hyper's.
const PATCH: u8 = 1;
/// The next bytes read begin a head.
const HEAD: u8 = 2;
/// Hyper was given something that has not been written yet.
const DIRTY: u8 = 4;
/// Bytes are recorded so that they can be sent again on a new connection.
pub(super) const RECORD: u8 = 8;
/// The stream is wanted back when hyper drops the socket.
const KEEP: u8 = 16;

/// What a socket and those above hyper share. All of them run in one task, so its lock is free.
#[derive(Debug)]
pub struct Wire<S> {
    bits: Bits,
    /// Answers of ours that have ended.
    answered: AtomicU64,
    slots: Mutex<Slots<S>>,
}

/// The flags of a wire. A stream below the socket has these alone: a wire may come to own the
/// stream, and a stream that owned the wire would then never be closed.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Arc<AtomicU8>);

#[derive(Debug)]
struct Slots<S> {
    head: Option<RawHead>,
    patch: Option<Patch>,
    flushed: Option<Waker>,
    stream: Option<S>,
    refusal: Option<Refusal>,
    /// A request that hyper has not seen, with all that came behind it.
    left: Option<Bytes>,
}

impl<S> Default for Wire<S> {
    fn default() -> Self {
        let slots = Slots {
            head: None,
            patch: None,
            flushed: None,
            stream: None,
            refusal: None,
            left: None,
        };
        Self { bits: Bits::default(), answered: AtomicU64::new(0), slots: Mutex::new(slots) }
    }
}

impl<S> Wire<S> {
    /// The head that was read last, once.
    pub fn take_head(&self) -> Option<RawHead> {
        self.slots.lock().head.take()
    }

    /// Why the request that hyper shows now stands for one that is refused, once. Nothing more is
    /// read from the connection.
    pub fn take_refusal(&self) -> Option<Refusal> {
        self.slots.lock().refusal.take()
    }

    /// Says that the next bytes read begin a head (behind a body whose end only hyper sees).
    pub fn expect_head(&self) {
        self.set(HEAD);
    }

    /// Has these lines written in the place of all of `headers`, which hyper will be given with
    /// the next head. `framed`: the lines say how the body is framed; else hyper's word is kept.
    pub fn write_head(&self, headers: &mut HeaderMap, lines: Lines, framed: bool) {
        // Hyper sends only those trailers that its map announces.
        let trailers: Vec<_> = if headers.contains_key(header::TRAILER) {
            headers.get_all(header::TRAILER).iter().cloned().collect()
        } else {
            Vec::new()
        };
        headers.clear();
        headers.insert(MARK_NAME.clone(), mark_value().clone());
        for value in trailers {
            headers.append(header::TRAILER, value);
        }
        self.slots.lock().patch = Some(Patch { lines, framed });
        self.set(PATCH);
    }

    /// Says that hyper was given something to write.
    pub fn mark_dirty(&self) {
        self.set(DIRTY);
    }

    /// Ready when everything that hyper was given has gone to the kernel.
    pub fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has(DIRTY) {
            return Poll::Ready(());
        }
        self.slots.lock().flushed = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Wants the stream back when hyper drops the socket.
    pub fn keep_stream(&self) {
        self.set(KEEP);
    }

    /// The stream, after hyper has dropped the socket.
    pub fn take_stream(&self) -> Option<S> {
        self.slots.lock().stream.take()
    }

    /// Says that an answer has ended, as far as hyper is to be told of it.
    pub fn answer_ended(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// What the socket left with: the request that it kept from hyper, and what came behind it.
    pub fn take_left(&self) -> Option<Bytes> {
        self.slots.lock().left.take()
    }

    pub(super) fn bits(&self) -> &Bits {
        &self.bits
    }

    fn has(&self, bit: u8) -> bool {
        self.bits.has(bit)
    }

    pub(super) fn set(&self, bit: u8) {
        self.bits.set(bit);
    }

    fn clear(&self, bit: u8) {
        self.bits.clear(bit);
    }
}

impl Bits {
    pub(super) fn has(&self, bit: u8) -> bool {
        self.0.load(Ordering::Relaxed) & bit != 0
    }

    pub(super) fn set(&self, bit: u8) {
        self.0.store(self.0.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
    }

    pub(super) fn clear(&self, bit: u8) {
        self.0.store(self.0.load(Ordering::Relaxed) & !bit, Ordering::Relaxed);
    }
}

/// The socket below hyper.
#[derive(Debug)]
pub struct Socket<S> {
    /// None only while it is dropped.
    stream: Option<S>,
    wire: Arc<Wire<S>>,
    reading: Reading,
    scanner: Scanner,
    /// Bytes read that hyper must not see yet: they begin the next head.
    stash: Vec<u8>,
    /// Bytes that were followed and that hyper has not asked for yet.
    ready: Vec<u8>,
    /// Runs while a head has begun and is not complete.
    slow: Option<Pin<Box<tokio::time::Sleep>>>,
    /// A head on its way out, and how much of it is written.
    outbox: Vec<u8>,
    written: usize,
    leaving: Leaving,
}

/// When a socket leaves hyper: at the start of a request, behind the answers to all before it.
#[derive(Default)]
struct Leaving {
    /// Asked at the start of each request but the first; None never leaves.
    wanted: Option<Box<dyn Fn() -> bool + Send + Sync>>,
    /// Requests that hyper was shown.
    shown: u64,
    /// Answers that have gone to the kernel.
    sent: u64,
    has_left: bool,
}

impl Leaving {
    fn is_due(&self) -> bool {
        let between = self.shown > 0 && self.shown == self.sent;
        between && self.wanted.as_ref().is_some_and(|wanted| wanted())
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaving").field("has_left", &self.has_left).finish_non_exhaustive()
    }
}

impl<S> Socket<S> {
    /// A socket to an app; its wire gives the stream back.
    pub fn server(stream: S) -> (Self, Arc<Wire<S>>) {
        let (socket, wire) = Self::new(stream, Arc::default(), Reading::RequestHead);
        wire.keep_stream();
        (socket, wire)
    }

    /// Leaves hyper when this says so at the start of a request, as if the app had gone. The wire
    /// then has the stream and the request. The first request, which is why hyper was called, and
    /// whatever comes before the answers to all others have been sent, is hyper's in any case.
    pub fn leave_when(&mut self, wanted: impl Fn() -> bool + Send + Sync + 'static) {
        self.leaving.wanted = Some(Box::new(wanted));
    }

    /// A socket to an upstream; its wire was made before it.
    pub(super) fn client(stream: S, wire: Arc<Wire<S>>) -> Self {
        Self::new(stream, wire, Reading::Answer).0
    }

    fn new(stream: S, wire: Arc<Wire<S>>, reading: Reading) -> (Self, Arc<Wire<S>>) {
        let socket = Self {
            stream: Some(stream),
            wire: Arc::clone(&wire),
            reading,
            scanner: Scanner::default(),
            stash: Vec::new(),
            ready: Vec::new(),
            slow: None,
            outbox: Vec::new(),
            written: 0,
            leaving: Leaving::default(),
        };
        (socket, wire)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.as_mut().expect("it is taken only when the socket is dropped"))
    }

    /// Writes what is left of the outbox.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outbox.len() {
            let (bytes, written) = (std::mem::take(&mut self.outbox), self.written);
            let result = self.stream().poll_write(cx, &bytes[written..]);
            self.outbox = bytes;
            match ready!(result)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.outbox.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// The outbox and the slices behind it, in one call to the kernel.
    fn poll_behind_outbox(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let outbox = std::mem::take(&mut self.outbox);
            let head = &outbox[self.written..];
            let mut all = [IoSlice::new(&[]); 16];
            all[0] = IoSlice::new(head);
            let behind = slices.len().min(all.len() - 1);
            all[1..=behind].copy_from_slice(&slices[..behind]);
            let result = self.stream().poll_write_vectored(cx, &all[..=behind]);
            let head = head.len();
            self.outbox = outbox;
            let count = ready!(result)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if count < head {
                self.written += count;
                continue;
            }
            self.outbox.clear();
            self.written = 0;
            // Nothing of the slices yet would read as a closed stream.
            if count > head {
                return Poll::Ready(Ok(count - head));
            }
            return self.stream().poll_write_vectored(cx, slices);
        }
    }

    /// Takes in the marked head if these bytes have it.
    fn take_marked(&mut self, bytes: &[u8]) -> bool {
        let mut slots = self.wire.slots.lock();
        let Some(out) = slots.patch.as_ref().and_then(|patch| patch.apply(bytes)) else {
            return false;
        };
        slots.patch = None;
        drop(slots);
        self.wire.clear(PATCH);
        if self.outbox.is_empty() {
            self.outbox = out;
        } else {
            self.outbox.extend_from_slice(&out);
        }
        true
    }
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        if self.wire.has(KEEP) {
            self.wire.slots.lock().stream = self.stream.take();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wire.has(PATCH) && this.take_marked(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(this.poll_outbox(cx))?;
        this.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wire.has(PATCH)
            && let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && this.take_marked(first)
        {
            return Poll::Ready(Ok(first.len()));
        }
        if !this.outbox.is_empty() {
            return this.poll_behind_outbox(cx, slices);
        }
        this.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.outbox.is_empty() {
            ready!(this.poll_outbox(cx))?;
        }
        ready!(this.stream().poll_flush(cx))?;
        this.leaving.sent = this.wire.answered.load(Ordering::Relaxed);
        if this.wire.has(DIRTY) {
            this.wire.clear(DIRTY);
            if let Some(waker) = this.wire.slots.lock().flushed.take() {
                waker.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.leaving.has_left {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_outbox(cx))?;
        this.stream().poll_shutdown(cx)
    }
}
