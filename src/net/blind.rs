//! Two streams joined blindly: bytes go across as they come, ends are passed on as they are. While
//! nothing moves it holds no buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// How much is read at once.
const PIECE: usize = 64 << 10;
/// When a silent side is asked whether it is still there, how often again, and how many times.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

thread_local! {
    /// Bytes stay here only between a read and the write behind it.
    static PIECES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Carries bytes both ways until both sides have ended, each by itself: a FIN leaves the other way
/// open, a reset is passed on. Gives back how many bytes went from the first to the second, and
/// how many the other way.
pub async fn join(mut one: Stream, mut other: Stream) -> (u64, u64) {
    notice_the_dead(&one);
    notice_the_dead(&other);
    let (mut there, mut back) = (Way::default(), Way::default());
    let ended = poll_fn(|cx| {
        let there = there.poll(cx, &mut one, &mut other);
        if let Poll::Ready(Err(broken)) = there {
            return Poll::Ready(Err(broken.of(Side::One, Side::Other)));
        }
        match (there, back.poll(cx, &mut other, &mut one)) {
            (_, Poll::Ready(Err(broken))) => Poll::Ready(Err(broken.of(Side::Other, Side::One))),
            (Poll::Ready(_), Poll::Ready(_)) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await;
    match ended {
        Ok(()) => {}
        Err(Side::One) => other.reset().await,
        Err(Side::Other) => one.reset().await,
    }
    (there.moved, back.moved)
}

/// A side that vanished without a word is found out by the kernel.
fn notice_the_dead(stream: &Stream) {
    if let Some(tcp) = stream.tcp() {
        let probes = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_EVERY)
            .with_retries(PROBES);
        let _ = SockRef::from(tcp).set_tcp_keepalive(&probes);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    One,
    Other,
}

/// Which end of a way broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broken {
    Reader,
    Writer,
}

impl Broken {
    fn of(self, reader: Side, writer: Side) -> Side {
        match self {
            Self::Reader => reader,
            Self::Writer => writer,
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// What the writer has not taken yet.
    held: Vec<u8>,
    written: usize,
    moved: u64,
    unflushed: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Open,
    /// The reader has ended; the writer is to be told.
    Ended,
    Closed,
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Stream,
        writer: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.poll_held(cx, writer)).map_err(|_| Broken::Writer)?;
            match self.stage {
                Stage::Closed => return Poll::Ready(Ok(())),
                Stage::Ended => {
                    // It may have closed both ways already.
                    let _ = ready!(Pin::new(&mut *writer).poll_shutdown(cx));
                    self.stage = Stage::Closed;
                }
                Stage::Open => match self.poll_piece(cx, reader, writer)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *writer).poll_flush(cx))
                                .map_err(|_| Broken::Writer)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Writes what is held back.
    fn poll_held(&mut self, cx: &mut Context<'_>, writer: &mut Stream) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let rest = &self.held[self.written..];
            match ready!(Pin::new(&mut *writer).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.held = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Moves one piece; what cannot be written now is held.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Stream,
        writer: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        PIECES.with_borrow_mut(|piece| {
            piece.resize(PIECE, 0);
            let mut buffer = ReadBuf::new(piece);
            ready!(Pin::new(reader).poll_read(cx, &mut buffer)).map_err(|_| Broken::Reader)?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.stage = Stage::Ended;
                return Poll::Ready(Ok(()));
            }
            self.moved += bytes.len() as u64;
            self.unflushed = true;
            let count = match Pin::new(writer).poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Writer)),
                Poll::Pending => 0,
            };
            self.held.extend_from_slice(&bytes[count..]);
            Poll::Ready(Ok(()))
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    fn pair(size: usize) -> (Stream, DuplexStream) {
        let (ours, theirs) = duplex(size);
        (Stream::Memory(Box::new(ours)), theirs)
    }

    #[tokio::test]
    async fn bytes_and_ends_go_across_each_way_by_itself() {
        let (one, mut app) = pair(64);
        let (other, mut upstream) = pair(64);
        let joined = tokio::spawn(join(one, other));
        let question: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
        let sent = question.clone();
        let asking = tokio::spawn(async move {
            app.write_all(&sent).await.unwrap();
            app.shutdown().await.unwrap();
            let mut answer = Vec::new();
            app.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut asked = Vec::new();
        upstream.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, question);
        // The other way is still open.
        upstream.write_all(b"answer").await.unwrap();
        drop(upstream);
        assert_eq!(asking.await.unwrap(), b"answer");
        assert_eq!(joined.await.unwrap(), (100_000, 6));
    }

    #[tokio::test]
    async fn nothing_is_held_while_nothing_moves() {
        let (mut one, mut app) = pair(64);
        let (mut other, mut upstream) = pair(64);
        app.write_all(b"hello").await.unwrap();
        let mut way = Way::default();
        let polled = poll_fn(|cx| Poll::Ready(way.poll(cx, &mut one, &mut other))).await;
        assert!(polled.is_pending());
        assert_eq!((way.held.capacity(), way.moved), (0, 5));
        let mut got = [0; 5];
        upstream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }
}
