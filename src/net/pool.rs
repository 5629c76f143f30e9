//! Upstream connections, kept and used again. One that speaks HTTP/1.1 has no task of its own: it is
//! driven by whoever waits for its answer, so an answer that is dropped ends its request at once.

mod answering;
mod http2;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::answering::Answering;
use self::answering::Source;
use self::http2::{Conn, Conns, Slot, Speaks};
use super::certificate::TrustError;
use super::connect::{ConnectOptions, Connector, Error, HttpVersion, Origin};
use super::head::{Lines, RawHead};
use super::raw::RawPool;
use super::replay::Replaying;
use super::socket::{RECORD, Socket, Wire};
use super::stream::Stream;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How connections are made and kept.
#[derive(Clone, Debug)]
pub struct Options {
    pub connect: ConnectOptions,
    /// An idle connection is closed after this long.
    pub idle: Duration,
    /// More idle connections than this are not kept.
    pub keep: usize,
    /// A request that meets a kept connection just closed goes out once more, on a new one.
    pub resend: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            idle: Duration::from_secs(60),
            keep: 20_000,
            resend: true,
        }
    }
}

/// The connections to one upstream; cheap to clone.
pub struct Pool<B: Body + 'static> {
    shared: Arc<Shared<B>>,
}

struct Shared<B: Body + 'static> {
    connector: Arc<Connector>,
    raw: Arc<RawPool>,
    options: Options,
    idle: Mutex<Idle<B>>,
    http2: Mutex<Conns>,
    /// The upstream was offered HTTP/2 by ALPN, and chose HTTP/1.1.
    chose_http1: AtomicBool,
}

struct Idle<B: Body + 'static> {
    /// Used longest ago first.
    lanes: VecDeque<(Instant, Box<Lane<B>>)>,
    swept: bool,
}

/// A connection for one request.
pub struct Way<B: Body + 'static>(On<B>);

enum On<B: Body + 'static> {
    Http1(Box<Lane<B>>),
    Http2(Slot),
}

/// An extension of requests: is told each interim answer (1xx).
#[derive(Clone)]
pub struct Interim(Arc<dyn Fn(Response<()>) + Send + Sync>);

/// One connection that speaks HTTP/1.1.
struct Lane<B: Body + 'static> {
    sender: SendRequest<B>,
    driver: http1::Connection<TokioIo<Socket<Replaying>>, B>,
    wire: Arc<Wire<Replaying>>,
    used: bool,
}

/// An answer from the upstream.
#[derive(Debug)]
pub struct Answer<B: Body + 'static> {
    pub response: Response<Answering<B>>,
    /// Its head as it was read; None when it was not asked for.
    pub head: Option<RawHead>,
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// No connection is made before the first request.
    pub fn new(origin: Origin, options: Options) -> Result<Self, TrustError> {
        let connector = Connector::new(origin, &options.connect)?;
        Ok(Self::over(connector, options))
    }

    /// Streams from a function in the place of the network, for tests; None refuses.
    pub fn in_memory(
        origin: Origin,
        make: impl Fn() -> Option<Stream> + Send + Sync + 'static,
    ) -> Self {
        Self::over(Connector::in_memory(origin, make), Options::default())
    }

    fn over(connector: Connector, options: Options) -> Self {
        let idle = Mutex::new(Idle { lanes: VecDeque::new(), swept: false });
        let connector = Arc::new(connector);
        let shared = Shared {
            raw: RawPool::new(Arc::clone(&connector), options.idle, options.keep),
            connector,
            options,
            idle,
            http2: Mutex::default(),
            chose_http1: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where the connections go.
    pub fn origin(&self) -> &Origin {
        self.shared.connector.origin()
    }

    /// The connections to the same upstream for those who frame messages themselves.
    pub fn raw(&self) -> &Arc<RawPool> {
        &self.shared.raw
    }

    /// Whether an app that speaks HTTP/1.1 gets HTTP/1.1 from the upstream.
    pub fn speaks_http1(&self) -> bool {
        self.shared.options.connect.http != HttpVersion::Http2
    }

    /// How many connections wait for a request.
    pub fn idle(&self) -> usize {
        self.shared.idle.lock().lanes.len()
    }

    /// Sends a request whose URI is a path (with the origin's base) and waits for the head of the
    /// answer. `Host` is added when it is missing; nothing else is.
    pub async fn send(&self, mut request: Request<B>) -> Result<Response<Answering<B>>, Error> {
        if !request.headers().contains_key(header::HOST)
            && let Ok(host) = self.origin().authority().parse()
        {
            request.headers_mut().insert(header::HOST, host);
        }
        let lane = self.shared.lane().await?;
        Ok(self.exchange(lane, request, None).await?.response)
    }

    /// A connection for a request of an app that speaks HTTP/2, or HTTP/1.1.
    pub async fn way(&self, http2: bool) -> Result<Way<B>, Error> {
        let encrypted = self.origin().scheme() == Scheme::HTTPS;
        let protocols: &[&[u8]] = match self.shared.options.connect.http {
            HttpVersion::Http2 => &[b"h2"],
            HttpVersion::Auto if http2 && !encrypted => &[b"h2"],
            HttpVersion::Auto if http2 && !self.shared.chose_http1.load(Ordering::Relaxed) => {
                &[b"h2", b"http/1.1"]
            }
            HttpVersion::Auto | HttpVersion::Http1 => {
                return self.shared.lane().await.map(|lane| Way(On::Http1(lane)));
            }
        };
        self.shared.slot_or_lane(protocols).await.map(Way)
    }

    /// Whether an app that speaks both versions is to be offered HTTP/2: as the upstream would. It is
    /// asked (connected to) when that is not known; one that cannot be reached is taken to.
    pub async fn speaks_http2(&self) -> bool {
        let chose_http1 = || self.shared.chose_http1.load(Ordering::Relaxed);
        match self.shared.options.connect.http {
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
            HttpVersion::Auto if self.origin().scheme() != Scheme::HTTPS || chose_http1() => false,
            HttpVersion::Auto => match self.shared.slot_or_lane(&[b"h2", b"http/1.1"]).await {
                Ok(On::Http1(lane)) => {
                    self.shared.give_back(lane);
                    false
                }
                Ok(On::Http2(_)) | Err(_) => true,
            },
        }
    }

    /// Sends a request on a connection that speaks HTTP/1.1, with the head's lines as they are to
    /// stand on the wire (framing included). The answer comes with its head as it was read.
    ///
    /// A connection that speaks HTTP/2 has no lines: there the request's own map counts.
    pub async fn send_on(
        &self,
        way: Way<B>,
        request: Request<B>,
        lines: Lines,
    ) -> Result<Answer<B>, Error> {
        match way.0 {
            On::Http1(lane) => self.exchange(lane, request, Some(lines)).await,
            On::Http2(slot) => {
                let response = slot.exchange(self.origin(), request).await?;
                let shared = Arc::clone(&self.shared);
                let from = |body| Answering { from: Source::Http2(Box::new(body)), shared };
                Ok(Answer { response: response.map(from), head: None })
            }
        }
    }

    async fn exchange(
        &self,
        mut lane: Box<Lane<B>>,
        mut request: Request<B>,
        lines: Option<Lines>,
    ) -> Result<Answer<B>, Error> {
        if let Some(interim) = request.extensions_mut().remove::<Interim>() {
            hyper::ext::on_informational(&mut request, move |answer| {
                let mut head = Response::new(());
                *head.status_mut() = answer.status();
                *head.headers_mut() = answer.headers().clone();
                interim.tell(head);
            });
        }
        let raw = lines.is_some();
        if let Some(lines) = lines {
            lane.wire.write_head(request.headers_mut(), lines, true);
            lane.wire.expect_head();
        }
        if lane.used && self.shared.options.resend {
            lane.wire.set(RECORD);
        }
        lane.used = true;
        let mut sending = std::pin::pin!(lane.sender.send_request(request));
        let response = poll_fn(|cx| {
            let ended = lane.driver.poll_without_shutdown(cx);
            // Only the driver moves it on, so it needs no waker of its own.
            match sending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending if ended.is_ready() => sending.as_mut().poll(cx),
                polled => polled,
            }
        })
        .await
        .map_err(|error| Error::from_hyper(self.origin(), &error))?;
        let head = if raw { lane.wire.take_head() } else { None };
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let response = response.map(|incoming| {
            let whole = incoming.is_end_stream() && !upgraded;
            let from = Source::Http1 { incoming, lane: Some(lane) };
            let mut body = Answering { from, shared: Arc::clone(&self.shared) };
            if whole {
                body.release();
            }
            body
        });
        Ok(Answer { response, head })
    }
}

impl<B: Body + 'static> Way<B> {
    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self.0, On::Http2(_))
    }
}

impl Interim {
    /// Calls this with each interim answer.
    pub fn new(told: impl Fn(Response<()>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Hands it an interim answer.
    pub fn tell(&self, head: Response<()>) {
        (self.0)(head);
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// A connection that speaks HTTP/1.1.
    async fn lane(&self) -> Result<Box<Lane<B>>, Error> {
        match self.checkout() {
            Some(lane) => Ok(lane),
            None => self.dress(self.connector.connect().await?).await,
        }
    }

    /// A place on a shared connection. One that is being made is waited for, not made twice; it may
    /// turn out to speak HTTP/1.1.
    async fn slot_or_lane(
        self: &Arc<Self>,
        protocols: &'static [&'static [u8]],
    ) -> Result<On<B>, Error> {
        loop {
            let (slot, attempt) = {
                let mut conns = self.http2.lock();
                match conns.slot() {
                    Some(slot) => (Some(slot), None),
                    None => (None, Some(conns.attempt())),
                }
            };
            if let Some(slot) = slot {
                if slot.is_ready().await {
                    return Ok(On::Http2(slot));
                }
                continue;
            }
            let Some(attempt) = attempt else { continue };
            let mut own = None;
            let made = attempt.made(async {
                let (spoken, conn) = match Conn::open(&self.connector, protocols).await {
                    Ok(Speaks::Http1(stream)) => {
                        self.chose_http1.store(true, Ordering::Relaxed);
                        own = Some(stream);
                        (Ok(()), None)
                    }
                    Ok(Speaks::Http2(conn)) => (Ok(()), Some(conn)),
                    Err(error) => (Err(error), None),
                };
                self.http2.lock().conclude(&attempt, conn);
                spoken
            });
            made.await?;
            if let Some(stream) = own {
                return self.dress(stream).await.map(On::Http1);
            }
            if self.chose_http1.load(Ordering::Relaxed) {
                return self.lane().await.map(On::Http1);
            }
            self.keep_sweeping();
        }
    }

    /// The idle connection that was used last, if there is a sound one.
    fn checkout(&self) -> Option<Box<Lane<B>>> {
        loop {
            let (since, mut lane) = self.idle.lock().lanes.pop_back()?;
            if since.elapsed() > self.options.idle {
                // All others are older.
                self.idle.lock().lanes.clear();
                return None;
            }
            if lane.is_sound() {
                return Some(lane);
            }
        }
    }

    /// Speaks HTTP/1.1 on a new connection.
    async fn dress(&self, stream: Stream) -> Result<Box<Lane<B>>, Error> {
        let wire = Arc::<Wire<Replaying>>::default();
        let stream = Replaying::new(stream, Arc::clone(&self.connector), wire.bits().clone());
        let socket = TokioIo::new(Socket::client(stream, Arc::clone(&wire)));
        let (sender, driver) = http1::Builder::new()
            .handshake(socket)
            .await
            .map_err(|error| Error::from_hyper(self.connector.origin(), &error))?;
        Ok(Box::new(Lane { sender, driver, wire, used: false }))
    }

    fn give_back(self: &Arc<Self>, lane: Box<Lane<B>>) {
        let mut idle = self.idle.lock();
        idle.lanes.push_back((Instant::now(), lane));
        if idle.lanes.len() > self.options.keep {
            idle.lanes.pop_front();
        }
        drop(idle);
        self.keep_sweeping();
    }

    fn keep_sweeping(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.idle.lock().swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.options.idle));
        }
    }
}

/// Closes idle connections that are old or that the upstream has closed. Ends when none is left;
/// the next one that is given back starts it again.
async fn sweep<B>(shared: Weak<Shared<B>>, idle: Duration)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    loop {
        tokio::time::sleep((idle / 4).min(Duration::from_secs(5))).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut state = shared.idle.lock();
        state.lanes.retain_mut(|(since, lane)| since.elapsed() <= idle && lane.is_sound());
        let shared_left = shared.http2.lock().sweep(idle);
        if state.lanes.is_empty() && !shared_left {
            state.swept = false;
            return;
        }
    }
}

impl<B> Lane<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Whether the idle connection can take a request, as far as can be seen from here.
    fn is_sound(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.driver.poll_without_shutdown(&mut cx).is_pending() && self.sender.is_ready()
    }
}

impl<B: Body + 'static> Clone for Pool<B> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<B: Body + 'static> fmt::Debug for Pool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("origin", self.shared.connector.origin())
            .field("idle", &self.shared.idle.lock().lanes.len())
            .field("shared", &self.shared.http2.lock().len())
            .finish_non_exhaustive()
    }
}

impl<B: Body + 'static> fmt::Debug for Way<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("http2", &self.is_http2()).finish()
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_dropped_answer_closes_its_connection() {
        let (ours, mut theirs) = duplex(4096);
        let ours = Mutex::new(Some(ours));
        let origin = Origin::new(&"http://upstream".parse().unwrap()).unwrap();
        let pool =
            Pool::in_memory(origin, move || Some(Stream::Memory(Box::new(ours.lock().take()?))));
        let upstream = tokio::spawn(async move {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
            theirs.write_all(head).await.unwrap();
            let mut request = Vec::new();
            theirs.read_to_end(&mut request).await.unwrap();
            request
        });
        let request = Request::get("/").body(Full::new(Bytes::new())).unwrap();
        let answer = pool.send(request).await.unwrap();
        drop(answer);
        let request = tokio::time::timeout(Duration::from_secs(10), upstream).await;
        assert!(request.expect("it sees the end").unwrap().starts_with(b"GET / HTTP/1.1"));
    }
}
