//! One side of a relayed exchange: a stream, and what could not be written to it yet.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::net::{LONGEST_RESENT, Stream};

/// As much is read at once; twice as much is held at most for a side that takes it slowly.
const SCRATCH: usize = 512 << 10;
/// With so much at once a stream begins. One that has more to give is read in larger pieces.
const FIRST: usize = 16 << 10;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// So many are kept for later.
const SPARE: usize = 4;

/// Room to read into: this thread's own, borrowed when something is read. A stream that waits holds
/// none.
#[derive(Default)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    fn room(&mut self, size: usize) -> &mut [u8] {
        if self.0.len() < SCRATCH {
            self.0 = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
            self.0.resize(SCRATCH, 0);
        }
        &mut self.0[..size]
    }

    /// What was read last, as a buffer of its own.
    fn taken(&mut self, count: usize) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.truncate(count);
        buffer
    }

    /// What was read last.
    pub(super) fn read(&self, count: usize) -> &[u8] {
        &self.0[..count]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

fn give_back(buffer: Vec<u8>) {
    if buffer.capacity() >= SCRATCH {
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < SPARE {
                buffers.push(buffer);
            }
        });
    }
}

pub(super) struct Side {
    pub(super) stream: Stream,
    out: Vec<u8>,
    /// So much of `out` is written.
    written: usize,
    /// What comes behind `out`.
    behind: Vec<u8>,
    /// What is written stays in `out`, to be sent again.
    keeping: bool,
    unflushed: bool,
    /// So much is read at once.
    piece: usize,
}

impl Side {
    pub(super) fn new(stream: Stream) -> Self {
        Self::sending(stream, Vec::new(), false)
    }

    /// With something to write first.
    pub(super) fn sending(stream: Stream, out: Vec<u8>, keeping: bool) -> Self {
        Self {
            stream,
            out,
            written: 0,
            behind: Vec::new(),
            keeping,
            unflushed: false,
            piece: FIRST,
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch.room(self.piece));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        if count == self.piece {
            self.piece = (4 * count).min(SCRATCH);
        }
        Poll::Ready(Ok(count))
    }

    /// Writes what is to be written, as far as it goes; the rest is held. Only when nothing is held
    /// already, it goes out without being copied. Errors show when it is drained.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        let count = self.write_now(cx, bytes);
        self.hold(&bytes[count..]);
    }

    fn hold(&mut self, bytes: &[u8]) {
        match self.behind.is_empty() {
            true => self.out.extend_from_slice(bytes),
            false => self.behind.extend_from_slice(bytes),
        }
    }

    /// Whether another piece may be read for it although it has not taken the last one: when that
    /// was a large one.
    pub(super) fn has_room(&self) -> bool {
        self.behind.is_empty() && !self.keeping && self.out.len() - self.written > FIRST
    }

    /// The same with the first `count` bytes of what was read last. If much is left of it, the whole
    /// buffer is held, since copying costs more than another buffer.
    pub(super) fn write_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, count: usize) {
        let written = self.write_now(cx, scratch.read(count));
        if count - written > FIRST && self.out.is_empty() {
            self.out = scratch.taken(count);
            self.written = written;
        } else if self.has_room() {
            self.behind = match count > FIRST {
                true => scratch.taken(count),
                false => scratch.read(count).to_vec(),
            };
        } else {
            self.hold(&scratch.read(count)[written..]);
        }
    }

    /// How much went out at once.
    fn write_now(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
        if self.keeping && self.out.len() + bytes.len() > LONGEST_RESENT {
            self.forget();
        }
        let mut written = 0;
        if self.is_drained() && !self.keeping {
            while written < bytes.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &bytes[written..]) {
                    Poll::Ready(Ok(count @ 1..)) => written += count,
                    _ => break,
                }
            }
            self.unflushed = true;
        }
        written
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
        loop {
            while self.written < self.out.len() {
                let rest = &self.out[self.written..];
                match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => self.written += count,
                }
                self.unflushed = true;
            }
            if self.keeping || self.out.is_empty() {
                break;
            }
            give_back(std::mem::replace(&mut self.out, std::mem::take(&mut self.behind)));
            self.written = 0;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn is_drained(&self) -> bool {
        self.written == self.out.len() && self.behind.is_empty()
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
        self.behind = Vec::new();
        self.written = 0;
        self.unflushed = false;
    }
}
