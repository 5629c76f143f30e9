//! HTTP/2 connections to one upstream: few, shared by many requests at once. Each has a task that
//! drives it; a request that is given up resets its stream, and the connection stays.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream};
use http::{Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{BoxError, Interim};
use crate::net::connect::{Connector, Error, Origin};
use crate::net::outflow::Outflow;
use crate::net::stream::Stream;

/// How much of an answer an upstream may send ahead of its app (2 MiB): enough for 20 MB/s over
/// 100 ms.
const WINDOW: u32 = 2 << 20;
/// The same for all streams of a connection together: slow apps must not hold up the others, so
/// that it is the streams' windows that bound the memory.
const ALL_WINDOWS: u32 = 1 << 30;
/// The longest list of header fields of an answer (64 KiB, counted as RFC 9113 does).
const HEADERS: u32 = 64 << 10;
/// What may wait in a stream for the connection to write it.
const SEND_BUFFER: usize = 256 << 10;

/// The connections that there are, and the one that is being made.
#[derive(Debug, Default)]
pub(super) struct Conns {
    open: Vec<Arc<Conn>>,
    attempt: Option<Arc<Attempt>>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    sender: SendRequest<Bytes>,
    streams: AtomicUsize,
    /// When its last stream ended.
    idle_since: Mutex<Instant>,
    /// It takes no more streams: it has broken, or the upstream has said GOAWAY.
    retired: AtomicBool,
}

/// A connection that several requests wait for.
#[derive(Debug, Default)]
pub(super) struct Attempt(OnceCell<Result<(), Error>>);

/// A place for one stream on a connection.
#[derive(Debug)]
pub(super) struct Slot(Arc<Conn>);

/// What a new connection turned out to speak.
pub(super) enum Speaks {
    Http1(Stream),
    Http2(Arc<Conn>),
}

impl Conns {
    /// A place on a connection that has room.
    pub(super) fn slot(&mut self) -> Option<Slot> {
        self.open.retain(|conn| !conn.is_retired());
        self.open.iter().find_map(Conn::slot)
    }

    /// The attempt that is under way, or a new one.
    pub(super) fn attempt(&mut self) -> Arc<Attempt> {
        Arc::clone(self.attempt.get_or_insert_default())
    }

    /// An attempt is over.
    pub(super) fn conclude(&mut self, attempt: &Arc<Attempt>, conn: Option<Arc<Conn>>) {
        if self.attempt.as_ref().is_some_and(|current| Arc::ptr_eq(current, attempt)) {
            self.attempt = None;
        }
        self.open.extend(conn);
    }

    /// Lets go of connections that nobody has used for so long; whether any is left.
    pub(super) fn sweep(&mut self, idle: Duration) -> bool {
        self.open.retain(|conn| !conn.is_retired() && !conn.is_idle(idle));
        !self.open.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Attempt {
    /// Makes the connection, or waits until somebody else has made it.
    pub(super) async fn made(
        &self,
        make: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        self.0.get_or_init(|| make).await.clone()
    }
}

impl Conn {
    /// A connection whose settings have come: only then it is known how many streams it takes.
    /// Where nothing was agreed on by ALPN the upstream is taken to speak HTTP/2.
    pub(super) async fn open(
        connector: &Arc<Connector>,
        protocols: &'static [&'static [u8]],
    ) -> Result<Speaks, Error> {
        let stream = connector.connect_for(protocols).await?;
        let offered_both = protocols.len() > 1;
        match stream.protocol() {
            Some(b"http/1.1") => return Ok(Speaks::Http1(stream)),
            None if offered_both => return Ok(Speaks::Http1(stream)),
            _ => {}
        }
        let (sender, mut connection) = client::Builder::new()
            // Until its settings say how many.
            .initial_max_send_streams(0)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(ALL_WINDOWS)
            .max_header_list_size(HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(|error| failure(connector.origin(), &error))?;
        let settled = poll_fn(|cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            match (sender.current_max_send_streams(), ended) {
                (_, Poll::Ready(ended)) => Poll::Ready(Err(ended)),
                (0, Poll::Pending) => Poll::Pending,
                (_, Poll::Pending) => Poll::Ready(Ok(())),
            }
        });
        match tokio::time::timeout(connector.timeout(), settled).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => return Err(no_http2(connector.origin(), ended)),
            Err(_) => {
                let (origin, after) = (connector.origin().to_string(), connector.timeout());
                return Err(Error::Timeout { origin, after });
            }
        }
        let conn = Arc::new(Self {
            sender,
            streams: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            retired: AtomicBool::new(false),
        });
        tokio::spawn(drive(connection, Arc::downgrade(&conn)));
        Ok(Speaks::Http2(conn))
    }

    fn slot(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.sender.current_max_send_streams();
        let taken = self.streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < limit).then_some(count + 1)
        });
        taken.ok().map(|_| Slot(Arc::clone(self)))
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn is_idle(&self, time: Duration) -> bool {
        self.streams.load(Ordering::Acquire) == 0 && self.idle_since.lock().elapsed() > time
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.idle_since.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Drives a connection to its end. It ends by itself when nobody holds a sender or a stream.
async fn drive(connection: client::Connection<Stream>, conn: Weak<Conn>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an HTTP/2 connection to an upstream broke");
    }
    if let Some(conn) = conn.upgrade() {
        conn.retired.store(true, Ordering::Release);
    }
}

impl Slot {
    /// Whether the connection still takes a stream; else it is not used again.
    pub(super) async fn is_ready(&self) -> bool {
        let mut sender = self.0.sender.clone();
        let ready = poll_fn(|cx| sender.poll_ready(cx)).await.is_ok();
        if !ready {
            self.0.retired.store(true, Ordering::Release);
        }
        ready
    }

    /// Sends a request and waits for the head of its answer. The request's body flows meanwhile
    /// and on.
    pub(super) async fn exchange<B>(
        self,
        origin: &Origin,
        mut request: Request<B>,
    ) -> Result<Response<Streaming>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let interim = request.extensions_mut().remove::<Interim>();
        let (head, body) = request.into_parts();
        let bodyless = body.is_end_stream();
        let mut sender = self.0.sender.clone();
        let (mut answer, stream) = sender
            .send_request(Request::from_parts(head, ()), bodyless)
            .map_err(|error| failure(origin, &error))?;
        let upload = match bodyless {
            true => Uploading::default(),
            false => Uploading::start(Upload::new(body, Outflow::new(stream))).await,
        };
        let answer = poll_fn(|cx| {
            while let Some(told) = &interim
                && let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx)
            {
                told.tell(head);
            }
            Pin::new(&mut answer).poll(cx)
        });
        let answer = answer.await.map_err(|error| match upload.failure() {
            Some(reason) => Error::Request { origin: origin.to_string(), reason },
            None => failure(origin, &error),
        })?;
        let (head, incoming) = answer.into_parts();
        let length = head.headers.get(header::CONTENT_LENGTH);
        let left = match incoming.is_end_stream() {
            true => Some(0),
            false => length.and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        let streaming = Streaming { incoming, left, upload, _slot: self };
        Ok(Response::from_parts(head, streaming))
    }
}

/// The body of an answer. Dropped before its end it resets the stream with CANCEL.
#[derive(Debug)]
pub(super) struct Streaming {
    incoming: RecvStream,
    /// What is still to come, where the head said it.
    left: Option<u64>,
    upload: Uploading,
    _slot: Slot,
}

impl Streaming {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        origin: &Origin,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(self.incoming.poll_data(cx)) {
            Some(Ok(data)) => {
                // Read is passed on: whoever reads waits until the piece before has gone out.
                let _ = self.incoming.flow_control().release_capacity(data.len());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(self.failed(origin, &error)))),
            None => match ready!(self.incoming.poll_trailers(cx)) {
                Ok(trailers) => Poll::Ready(trailers.map(|map| Ok(Frame::trailers(map)))),
                Err(error) => Poll::Ready(Some(Err(self.failed(origin, &error)))),
            },
        }
    }

    fn failed(&self, origin: &Origin, error: &h2::Error) -> Error {
        match self.upload.failure() {
            Some(reason) => Error::Request { origin: origin.to_string(), reason },
            None => failure(origin, error),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A request's body on its way, in a task of its own: answers and requests flow both ways at once.
#[derive(Debug, Default)]
struct Uploading {
    task: Option<AbortHandle>,
    failure: Arc<OnceLock<String>>,
}

impl Uploading {
    /// Sends what is there at once; a task sends the rest.
    async fn start<B>(mut upload: Upload<B>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let failure = Arc::clone(&upload.failure);
        let done = poll_fn(|cx| Poll::Ready(Pin::new(&mut upload).poll(cx).is_ready())).await;
        let task = (!done).then(|| tokio::spawn(upload).abort_handle());
        Self { task, failure }
    }

    /// Why the body could not be sent, if it was its own fault.
    fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Upload<B> {
    body: Pin<Box<B>>,
    out: Outflow,
    failure: Arc<OnceLock<String>>,
}

impl<B> Upload<B> {
    fn new(body: B, out: Outflow) -> Self {
        Self { body: Box::pin(body), out, failure: Arc::default() }
    }
}

impl<B> Future for Upload<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if ready!(this.out.poll_sent(cx)).is_err() || this.out.poll_gone(cx).is_ready() {
                return Poll::Ready(());
            }
            let sent = match ready!(this.body.as_mut().poll_frame(cx)) {
                None => {
                    let _ = this.out.end();
                    return Poll::Ready(());
                }
                Some(Err(error)) => {
                    let error: BoxError = error.into();
                    let _ = this.failure.set(error.to_string());
                    this.out.reset(Reason::CANCEL.into());
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let last = this.body.is_end_stream();
                        let sent = this.out.put(data, last);
                        if last && sent.is_ok() {
                            // Its last piece may still wait for the window.
                            let _ = ready!(this.out.poll_sent(cx));
                            return Poll::Ready(());
                        }
                        sent
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => {
                            let _ = this.out.end_with(trailers);
                            return Poll::Ready(());
                        }
                        Err(_) => Ok(()),
                    },
                },
            };
            if sent.is_err() {
                return Poll::Ready(());
            }
        }
    }
}

/// A connection that ended before it began.
fn no_http2(origin: &Origin, ended: Result<(), h2::Error>) -> Error {
    let origin = origin.to_string();
    match ended {
        Err(error) if error.get_io().is_some_and(|io| io.kind() == ErrorKind::ConnectionReset) => {
            Error::Reset { origin }
        }
        Err(error) => Error::Http2 { origin, reason: error.to_string() },
        Ok(()) => Error::Http2 { origin, reason: "it closed the connection at once".to_owned() },
    }
}

/// What the library says about a connection to this origin, as one of ours.
fn failure(origin: &Origin, error: &h2::Error) -> Error {
    let origin = origin.to_string();
    if let Some(io) = error.get_io() {
        return match io.kind() {
            ErrorKind::ConnectionReset => Error::Reset { origin },
            _ => Error::Closed { origin },
        };
    }
    match error.reason() {
        Some(code) if error.is_reset() => Error::StreamReset { origin, code: code.into() },
        // A stream that is named in no GOAWAY was not looked at: the app may try again.
        Some(_) if error.is_go_away() && error.is_remote() => {
            Error::StreamReset { origin, code: Reason::REFUSED_STREAM.into() }
        }
        _ => Error::Http2 { origin, reason: error.to_string() },
    }
}
