//! One side of a relayed exchange: a stream, and what could not be written to it yet.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::net::{LONGEST_RESENT, Stream};

/// As much is read at once, and so at most held for a side that takes it slowly.
const SCRATCH: usize = 64 << 10;

/// Lends this thread's buffer to read into. A stream that waits holds none.
pub(super) fn with_scratch<R>(act: impl FnOnce(&mut [u8]) -> R) -> R {
    thread_local! {
        static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    }
    let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice());
    let result = act(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}

pub(super) struct Side {
    pub(super) stream: Stream,
    out: Vec<u8>,
    /// So much of `out` is written.
    written: usize,
    /// What is written stays in `out`, to be sent again.
    keeping: bool,
    unflushed: bool,
}

impl Side {
    pub(super) fn new(stream: Stream) -> Self {
        Self::sending(stream, Vec::new(), false)
    }

    /// With something to write first.
    pub(super) fn sending(stream: Stream, out: Vec<u8>, keeping: bool) -> Self {
        Self { stream, out, written: 0, keeping, unflushed: false }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes what is to be written, as far as it goes; the rest is held. Only when nothing is held
    /// already, it goes out without being copied. Errors show when it is drained.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        if self.keeping && self.out.len() + bytes.len() > LONGEST_RESENT {
            self.forget();
        }
        let mut rest = bytes;
        if self.is_drained() && !self.keeping {
            while !rest.is_empty() {
                match Pin::new(&mut self.stream).poll_write(cx, rest) {
                    Poll::Ready(Ok(count @ 1..)) => rest = &rest[count..],
                    _ => break,
                }
            }
            self.unflushed = true;
        }
        self.out.extend_from_slice(rest);
    }

    /// The same with bytes that may be held as they are.
    pub(super) fn write_owned(&mut self, cx: &mut Context<'_>, bytes: Vec<u8>) {
        if !self.is_drained() || self.keeping {
            return self.write(cx, &bytes);
        }
        self.out = bytes;
        self.written = 0;
    }

    /// Ready when everything has gone to the kernel.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
            self.unflushed = true;
        }
        if !self.keeping && self.written > 0 {
            self.out = Vec::new();
            self.written = 0;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn is_drained(&self) -> bool {
        self.written == self.out.len()
    }

    /// What was written will not be sent again.
    pub(super) fn forget(&mut self) {
        if std::mem::take(&mut self.keeping) {
            match self.is_drained() {
                true => self.out = Vec::new(),
                false => drop(self.out.drain(..self.written)),
            }
            self.written = 0;
        }
    }

    /// What has to be sent again if this connection is dead: everything so far.
    pub(super) fn take_kept(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.keeping).then(|| std::mem::take(&mut self.out))
    }

    /// Nothing more is written.
    pub(super) fn discard(&mut self) {
        self.keeping = false;
        self.out = Vec::new();
        self.written = 0;
        self.unflushed = false;
    }
}
