//! An app's connection that speaks HTTP/2: each of its streams is an exchange with a task of its
//! own; this task alone drives the connection, and ends it in the way that was ordered.

pub(super) mod head;
mod stream;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::Fate;
use super::route::Route;
use crate::net::{Lent, Loan, Outflow, Stream, Wire};

/// What every connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much of one request's body an app may send ahead (1 MiB), and of all on a connection
/// together (16 MiB): requests that a fault holds back must not hold up the others.
const WINDOW: u32 = 1 << 20;
const ALL_WINDOWS: u32 = 16 << 20;
/// Requests at once on one connection.
const STREAMS: u32 = 256;
/// The longest list of header fields (64 KiB, counted as RFC 9113 does). What comes in endless
/// CONTINUATION frames ends the connection.
const HEADERS: u32 = 64 << 10;
/// Streams that the app has reset before they were looked at; more end the connection
/// (CVE-2023-44487).
const RESETS: usize = 32;
/// Streams that had to be reset for errors of the app's; more end the connection.
const ERRORS: usize = 256;
/// What may wait in a stream for the connection to write it.
const SEND_BUFFER: usize = 256 << 10;

/// One stream of a connection, as its exchange sees it.
#[derive(Debug)]
pub(super) struct Line {
    /// A fault has ended the connection.
    broken: Arc<AtomicBool>,
    /// It is a gRPC call.
    grpc: bool,
    /// To its task: interim answers of the upstream.
    interim: mpsc::UnboundedSender<Response<()>>,
}

impl Line {
    /// Whether a fault has ended the connection under this stream.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Where interim answers of the upstream go.
    pub(super) fn interim(&self) -> &mpsc::UnboundedSender<Response<()>> {
        &self.interim
    }

    /// Whether it is a gRPC call.
    pub(super) fn is_grpc(&self) -> bool {
        self.grpc
    }
}

/// Looks at the first bytes of a connection; whether they begin HTTP/2. None when nothing comes.
pub(super) async fn sniff(mut stream: Stream) -> Option<(Stream, bool)> {
    if let Stream::Tcp(tcp) = &stream {
        let mut first = [0; PREFACE.len()];
        let count = tcp.peek(&mut first).await.ok()?;
        match &first[..count] {
            [] => return None,
            PREFACE => return Some((stream, true)),
            other if !PREFACE.starts_with(other) => return Some((stream, false)),
            // The rest is still to come.
            _ => {}
        }
    }
    let mut first = BytesMut::with_capacity(512);
    loop {
        if stream.read_buf(&mut first).await.ok()? == 0 {
            return (!first.is_empty()).then(|| (stream.rewound(first.freeze()), false));
        }
        let known = first.len().min(PREFACE.len());
        let fits = first[..known] == PREFACE[..known];
        if !fits || known == PREFACE.len() {
            return Some((stream.rewound(first.freeze()), fits));
        }
    }
}

/// What a stream's task asks of the task that drives the connection.
enum Command {
    /// Reset a stream when all that came before has been written.
    Reset(stream::Handle, Reason),
    /// End the connection when all that came before has been written. A stream that is let go
    /// before would be reset, and take back what it has still to write.
    End(stream::Handle, Fate),
}

/// What all streams of a connection have.
struct Session {
    route: Arc<Route>,
    commands: mpsc::UnboundedSender<Command>,
    broken: Arc<AtomicBool>,
    /// Of no use but to fill its place.
    wire: Arc<Wire<Stream>>,
}

/// Serves HTTP/2 on a connection until it ends.
pub(super) async fn serve(stream: Stream, route: Arc<Route>, drain: CancellationToken) {
    let (lent, loan) = Lent::new(stream);
    let handshake = server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(ALL_WINDOWS)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(ERRORS))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(lent);
    let connection = tokio::select! {
        connection = handshake => connection,
        () = drain.cancelled() => return,
    };
    let mut connection = match connection {
        Ok(connection) => connection,
        Err(error) => {
            tracing::trace!(%error, "no HTTP/2 connection came about");
            return;
        }
    };
    let (commands, orders) = mpsc::unbounded_channel();
    let broken = Arc::<AtomicBool>::default();
    let session =
        Arc::new(Session { route, commands, broken: Arc::clone(&broken), wire: Arc::default() });
    let mut driver = Driver { orders, waiting: VecDeque::new(), loan, exchanges: JoinSet::new() };
    let mut draining = false;
    let end = loop {
        let event = tokio::select! {
            biased;
            event = poll_fn(|cx| driver.poll(cx, &mut connection)) => event,
            () = drain.cancelled(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        match event {
            Event::Request(request, respond) => {
                driver.exchanges.spawn(stream::serve(Arc::clone(&session), request, respond));
            }
            Event::Ended => break None,
            Event::End(handle, fate) => break Some((handle, fate)),
        }
    };
    let fate = end.as_ref().map(|(_, fate)| *fate);
    if fate.is_some() {
        broken.store(true, Ordering::Relaxed);
    }
    if fate == Some(Fate::GoAway) {
        connection.abrupt_shutdown(Reason::NO_ERROR);
        let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
    }
    drop((connection, end));
    // What the connection took with it.
    driver.exchanges.shutdown().await;
    match (driver.loan.take(), fate) {
        (Some(stream), Some(Fate::Reset)) => stream.reset().await,
        (Some(stream), Some(_)) => stream.close().await,
        _ => {}
    }
}

struct Driver {
    orders: mpsc::UnboundedReceiver<Command>,
    /// Commands that wait until all that came before them has been written.
    waiting: VecDeque<Command>,
    loan: Arc<Loan>,
    exchanges: JoinSet<()>,
}

enum Event {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    /// The app has closed the connection, or it broke.
    Ended,
    /// A fault ends it.
    End(stream::Handle, Fate),
}

impl Driver {
    /// Drives the connection to its next event.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut server::Connection<Lent, Bytes>,
    ) -> Poll<Event> {
        loop {
            while let Poll::Ready(Some(command)) = self.orders.poll_recv(cx) {
                self.waiting.push_back(command);
            }
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    return Poll::Ready(Event::Request(request, respond));
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::trace!(%error, "an HTTP/2 connection ended");
                    return Poll::Ready(Event::Ended);
                }
                Poll::Ready(None) => return Poll::Ready(Event::Ended),
                Poll::Pending => {}
            }
            while let Poll::Ready(Some(ended)) = self.exchanges.poll_join_next(cx) {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!("an exchange panicked");
                }
            }
            // What was written since the commands came is out when the stream is flushed: the
            // library flushes whenever it has nothing more to write.
            if self.waiting.is_empty() || !self.loan.is_flushed() {
                return Poll::Pending;
            }
            for command in std::mem::take(&mut self.waiting) {
                match command {
                    Command::Reset(handle, reason) => handle.reset(reason),
                    Command::End(handle, fate) => {
                        return Poll::Ready(Event::End(handle, fate));
                    }
                }
            }
        }
    }
}

/// How a stream ends whose exchange was killed.
fn command(fate: Fate, handle: stream::Handle) -> Command {
    match fate {
        Fate::Stream(code) => Command::Reset(handle, Reason::from(code)),
        fate => Command::End(handle, fate),
    }
}

impl From<Outflow> for stream::Handle {
    fn from(out: Outflow) -> Self {
        Self::Body(out)
    }
}
