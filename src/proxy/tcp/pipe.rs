//! One direction between two sockets. Bytes that pass go from one to the other through a buffer that
//! all connections of a thread share, so an idle connection holds none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

use crate::net::Stream;

/// The most that is read at once.
const READ: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    from: ReadHalf<Stream>,
    to: WriteHalf<Stream>,
    /// What was let pass and could not be written yet.
    rest: Vec<u8>,
    unflushed: bool,
}

/// What came.
#[derive(Debug)]
pub(super) enum Came {
    /// No more.
    End,
    /// Bytes that were not let pass, behind those that were.
    Held(Bytes),
}

/// Which side of a direction broke: the one that is read from, or the one that is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    From,
    To,
}

impl Pipe {
    /// The two directions between the app and the upstream.
    pub(super) fn both(app: Stream, upstream: Stream) -> (Self, Self) {
        let (app_read, app_write) = tokio::io::split(app);
        let (upstream_read, upstream_write) = tokio::io::split(upstream);
        let pipe = |from, to| Self { from, to, rest: Vec::new(), unflushed: false };
        (pipe(app_read, upstream_write), pipe(upstream_read, app_write))
    }

    /// The app's connection and the upstream's again.
    pub(super) fn apart(up: Self, down: Self) -> (Stream, Stream) {
        (up.from.unsplit(down.to), down.from.unsplit(up.to))
    }

    /// Passes bytes on for as long as `judge` lets all of them pass; it says how many. What it holds
    /// is handed over, with nothing of it written. May be dropped and called again at any time.
    pub(super) async fn pass(
        &mut self,
        mut judge: impl FnMut(&[u8]) -> usize,
    ) -> Result<Came, Broken> {
        poll_fn(|cx| {
            loop {
                ready!(self.poll_rest(cx))?;
                let came =
                    SCRATCH.with_borrow_mut(|scratch| self.poll_once(cx, scratch, &mut judge));
                if let Some(came) = ready!(came)? {
                    return Poll::Ready(Ok(came));
                }
            }
        })
        .await
    }

    /// The next bytes, which the caller passes on.
    pub(super) async fn read(&mut self) -> Result<Came, Broken> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(broken)) = self.poll_rest(cx) {
                return Poll::Ready(Err(broken));
            }
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                let read = Pin::new(&mut self.from).poll_read(cx, &mut buffer);
                ready!(read).map_err(|_| Broken::From)?;
                Poll::Ready(Ok(match buffer.filled() {
                    [] => Came::End,
                    bytes => Came::Held(Bytes::copy_from_slice(bytes)),
                }))
            })
        })
        .await
    }

    /// Writes bytes behind those that have passed.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        poll_fn(|cx| self.poll_rest(cx)).await?;
        let written = async {
            self.to.write_all(bytes).await?;
            self.to.flush().await
        };
        written.await.map_err(|_| Broken::To)
    }

    /// Passes the end on.
    pub(super) async fn end(&mut self) -> Result<(), Broken> {
        poll_fn(|cx| self.poll_rest(cx)).await?;
        self.to.shutdown().await.map_err(|_| Broken::To)
    }

    /// Writes what is left of what has passed.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut self.to).poll_write(cx, &self.rest));
            match written {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::To)),
            }
            self.rest.drain(..written.unwrap_or(0));
            if self.rest.is_empty() {
                // An idle connection keeps nothing.
                self.rest = Vec::new();
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.to).poll_flush(cx)).map_err(|_| Broken::To)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what may pass.
    fn poll_once(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        judge: &mut impl FnMut(&[u8]) -> usize,
    ) -> Poll<Result<Option<Came>, Broken>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.from).poll_read(cx, &mut buffer))
            .map_err(|_: io::Error| Broken::From)?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(Some(Came::End)));
        }
        let (passing, held) = bytes.split_at(judge(bytes));
        let mut sent = 0;
        while sent < passing.len() {
            match Pin::new(&mut self.to).poll_write(cx, &passing[sent..]) {
                Poll::Ready(Ok(count @ 1..)) => sent += count,
                Poll::Ready(_) => return Poll::Ready(Err(Broken::To)),
                Poll::Pending => {
                    self.rest.extend_from_slice(&passing[sent..]);
                    break;
                }
            }
        }
        self.unflushed |= !passing.is_empty();
        let held = (!held.is_empty()).then(|| Came::Held(Bytes::copy_from_slice(held)));
        Poll::Ready(Ok(held))
    }
}
