//! A byte stream to an app or an upstream, and the ways to end it that TCP has.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// How long bytes that were sent may take to leave the machine before a reset.
const SEND_OFF: Duration = Duration::from_secs(2);
/// How long a closed connection waits for the other side to close, and how much it reads meanwhile.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

/// What a stream in memory must be able to do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A byte stream.
pub enum Stream {
    /// In memory, for tests.
    Memory(Box<dyn Io>),
    /// A stream of which some bytes have been read already; they come first.
    Rewound(Box<Rewound>),
    /// TLS with the app; below it TCP, or a tunnel.
    Secured(Box<server::TlsStream<Self>>),
    Tcp(TcpStream),
    /// TLS with an upstream.
    Tls(Box<client::TlsStream<TcpStream>>),
}

/// A stream with bytes in front of it.
#[derive(Debug)]
pub struct Rewound {
    first: Bytes,
    rest: Stream,
}

impl Stream {
    /// Puts bytes that were read from this stream back in front of it.
    pub fn rewound(self, first: Bytes) -> Self {
        match self {
            rest if first.is_empty() => rest,
            rest => Self::Rewound(Box::new(Rewound { first, rest })),
        }
    }

    /// The bytes in front of it, and the stream behind them.
    pub fn unwound(self) -> (Bytes, Self) {
        match self {
            Self::Rewound(rewound) => (rewound.first, rewound.rest),
            rest => (Bytes::new(), rest),
        }
    }

    /// What was agreed on by ALPN, if anything was.
    pub fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(_) | Self::Tcp(_) => None,
            Self::Rewound(rewound) => rewound.rest.protocol(),
            Self::Secured(tls) => tls.get_ref().1.alpn_protocol(),
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// The TCP connection at the bottom, if there is one.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Memory(_) => None,
            Self::Rewound(rewound) => rewound.rest.tcp(),
            Self::Secured(tls) => tls.get_ref().0.tcp(),
            Self::Tcp(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls.get_ref().0),
        }
    }

    /// Sends a FIN and waits a little for the other side's, so that unread bytes do not turn the
    /// FIN into a reset.
    pub async fn close(mut self) {
        if self.shutdown().await.is_err() {
            return;
        }
        let drained = async {
            let mut scratch = vec![0; 16 << 10];
            let mut left = LINGER_BYTES;
            while let Ok(read @ 1..) = self.read(&mut scratch).await {
                left = left.saturating_sub(read);
                if left == 0 {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drained).await;
    }

    /// Sends a RST, after what was written before has left the machine (a reset discards what the
    /// kernel has not sent yet).
    pub async fn reset(self) {
        if let Some(tcp) = self.tcp() {
            reset(tcp).await;
        }
    }
}

async fn reset(tcp: &TcpStream) {
    let _ = tokio::time::timeout(SEND_OFF, sent_off(tcp)).await;
    if let Err(error) = tcp.set_zero_linger() {
        tracing::warn!(%error, "a connection is closed in good order: it cannot be reset");
    }
}

/// Waits until the kernel holds no unsent byte. With the low-water mark at one byte, a socket is
/// writable only then.
#[cfg(target_os = "linux")]
async fn sent_off(tcp: &TcpStream) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    if socket2::SockRef::from(tcp).set_tcp_notsent_lowat(1).is_err() {
        return;
    }
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut asked = [PollFd::new(tcp, PollFlags::OUT)];
        match poll(&mut asked, Some(&now)) {
            Ok(0) => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => return,
        }
    }
}

#[cfg(not(target_os = "linux"))]
async fn sent_off(_: &TcpStream) {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "Memory",
            Self::Rewound(_) => "Rewound",
            Self::Secured(_) => "Secured",
            Self::Tcp(_) => "Tcp",
            Self::Tls(_) => "Tls",
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Rewound(rewound) if !rewound.first.is_empty() => {
                let count = rewound.first.len().min(buf.remaining());
                buf.put_slice(&rewound.first[..count]);
                rewound.first.advance(count);
                Poll::Ready(Ok(()))
            }
            Self::Rewound(rewound) => Pin::new(&mut rewound.rest).poll_read(cx, buf),
            Self::Secured(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Self::Memory(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Rewound(rewound) => Pin::new(&mut rewound.rest).poll_write(cx, bytes),
            Self::Secured(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::Memory(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Rewound(rewound) => Pin::new(&mut rewound.rest).poll_write_vectored(cx, slices),
            Self::Secured(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
            Self::Memory(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Rewound(rewound) => rewound.rest.is_write_vectored(),
            Self::Secured(tls) => tls.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
            Self::Memory(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Rewound(rewound) => Pin::new(&mut rewound.rest).poll_flush(cx),
            Self::Secured(tls) => Pin::new(tls).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::Memory(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Rewound(rewound) => Pin::new(&mut rewound.rest).poll_shutdown(cx),
            Self::Secured(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::Memory(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
