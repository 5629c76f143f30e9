//! An open WebSocket. Its frames are followed all along, so that a fault that is armed later can act
//! at the next message; they are read only while one is. Untouched bytes pass as they come.

mod lane;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{header, request, response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::lane::{Lane, Stop, Way};
use super::call::Books;
use super::connection::{Connection, Dependency};
use super::tunnel::Ends;
use crate::dice::Dice;
use crate::exchange::{Exchange, Grain, Level};
use crate::fault::{Ending, Order};
use crate::measure::CallEnd;
use crate::net::Stream;
use crate::wire::websocket::{Kind, Side, Tracker, frame};

/// What a socket that says nothing is closed with.
const NORMAL: u16 = 1000;

/// A request for a WebSocket, kept so that the socket can be decided on anew.
#[derive(Debug)]
pub(super) struct Handshake {
    request: request::Parts,
    /// What was armed when it came.
    version: u64,
    exchange: Option<Exchange>,
    /// What effects want done as soon as the socket is open.
    pub(super) orders: VecDeque<Order>,
}

/// A handshake that the upstream has accepted.
#[derive(Debug)]
pub(super) struct Opening {
    handshake: Handshake,
    answer: response::Parts,
}

impl Handshake {
    /// None when another protocol is asked for.
    pub(super) fn of(request: &request::Parts, connection: &Connection) -> Option<Box<Self>> {
        if !is_named(&request.headers, "websocket") {
            return None;
        }
        let dependency = &connection.dependency;
        Some(Box::new(Self {
            request: request.clone(),
            version: dependency.engine.version_at(dependency.gate),
            exchange: None,
            orders: VecDeque::new(),
        }))
    }

    /// It was read and decided on.
    pub(super) fn decided(&mut self, exchange: Exchange) {
        self.exchange = Some(exchange);
    }

    pub(super) fn answered(self: Box<Self>, answer: response::Parts) -> Opening {
        Opening { handshake: *self, answer }
    }
}

impl Opening {
    /// The handshake as faults see it. Its key is counted when it is read, so it is read here at
    /// the latest, in the order in which sockets open.
    fn exchange(&mut self, dependency: &Dependency) -> Exchange {
        self.handshake.exchange.take().unwrap_or_else(|| {
            let request = &self.handshake.request;
            let (name, identify) = (&dependency.name, &dependency.identify);
            let head = (&request.method, &request.uri, &request.headers);
            let dialect = dependency.dialect_of(head, b"");
            dependency.engine.exchange(name, request, &Bytes::new(), dialect, identify)
        })
    }
}

/// Whether this answer opens a WebSocket.
pub(super) fn is_opened(answer: &response::Parts) -> bool {
    answer.status == http::StatusCode::SWITCHING_PROTOCOLS && is_named(&answer.headers, "websocket")
}

fn is_named(headers: &http::HeaderMap, protocol: &str) -> bool {
    let named = headers.get(header::UPGRADE);
    named.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
}

/// Joins the two ends until they or a fault end it.
pub(super) async fn join(ends: Ends, opening: Opening, books: Books) {
    let mut changes = books.connection().dependency.engine.changes();
    let mut socket = Socket::new(ends, opening, books);
    let over = loop {
        if let Some(over) = socket.renew() {
            break over;
        }
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            over = poll_fn(|cx| socket.poll(cx)) => break over,
        }
    };
    socket.finish(over).await;
}

/// How a socket ends.
#[derive(Debug)]
enum Over {
    AppGone,
    /// Both sides have said that they are done.
    Closed,
    Ordered(Ending),
    UpstreamGone(io::Error),
}

#[derive(Debug)]
struct Socket {
    app: Stream,
    upstream: Stream,
    down: Lane,
    up: Lane,
    /// What was armed when this was decided.
    version: u64,
    exchange: Exchange,
    request: request::Parts,
    answer: response::Parts,
    books: Books,
    /// Who was done first.
    first_done: Option<Way>,
}

impl Socket {
    fn new(ends: Ends, mut opening: Opening, books: Books) -> Self {
        let exchange = opening.exchange(&books.connection().dependency);
        let Opening { handshake, answer } = opening;
        let extended = answer.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
        let dice = Dice::from_seed(exchange.key.0).fork_number(exchange.ordinal.into());
        let mut socket = Self {
            app: ends.app,
            upstream: ends.upstream,
            down: Lane::new(Way::Down, Tracker::new(Side::Upstream, extended), None),
            up: Lane::new(Way::Up, Tracker::new(Side::App, extended), Some(dice.fork("masks"))),
            version: handshake.version,
            exchange,
            request: handshake.request,
            answer,
            books,
            first_done: None,
        };
        let reads = socket.books.decision.chain.grain() > Grain::Head;
        socket.watch(reads || !handshake.orders.is_empty());
        socket.down.order(handshake.orders);
        socket.down.take(ends.from_upstream, &mut socket.books);
        socket.up.take(ends.from_app, &mut socket.books);
        socket
    }

    /// Decides anew when what is armed for the dependency has changed. What was held comes at once;
    /// what acts on requests acts on the open socket.
    fn renew(&mut self) -> Option<Over> {
        let dependency = &self.books.connection().dependency;
        let version = dependency.engine.version_at(dependency.gate);
        if version == self.version {
            return None;
        }
        self.version = version;
        let demand = dependency.engine.demand_at(dependency.gate);
        if demand.refuse {
            dependency.engine.count_refused(&dependency.name);
            return Some(Over::Ordered(Ending::Reset));
        }
        self.exchange.level = Level::Socket;
        let now = dependency.clock.now();
        let asked = &self.exchange;
        let dialect = dependency.dialect_of((&asked.method, &asked.uri, &asked.headers), b"");
        let decision = dependency.engine.decide(now, asked, dialect);
        self.down.relent(&mut self.books);
        for item in self.books.decision.chain.release(now) {
            self.down.send(item, &mut self.books);
        }
        self.up.relent(&mut self.books);
        self.books.identify(&self.exchange);
        self.books.decide_anew(decision);
        let orders = self.ask();
        if let Some(Order::End(ending)) =
            orders.iter().find(|order| matches!(order, Order::End(ending) if !is_spoken(*ending)))
        {
            return Some(Over::Ordered(*ending));
        }
        let reads = self.books.decision.chain.grain() > Grain::Head || !orders.is_empty();
        self.watch(reads);
        self.down.order(orders);
        None
    }

    /// What the effects want at once.
    fn ask(&mut self) -> VecDeque<Order> {
        let now = self.books.now();
        let chain = &mut self.books.decision.chain;
        let mut orders = VecDeque::new();
        for index in 0..chain.len() {
            orders.extend(chain.on_request(index, now, &mut self.request.clone()));
            let mut answer = self.answer.clone();
            orders.extend(chain.on_response(index, now, Duration::ZERO, &mut answer));
        }
        orders.retain(|order| matches!(order, Order::Send(_) | Order::End(_) | Order::Pulse(_)));
        orders
    }

    fn watch(&mut self, reads: bool) {
        self.down.watch(reads, &mut self.books);
        self.up.watch(reads, &mut self.books);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        if !self.down.is_done() {
            match self.down.poll(cx, &mut self.upstream, &mut self.app, &mut self.books) {
                Poll::Ready(Ok(())) => {
                    self.first_done.get_or_insert(Way::Down);
                }
                Poll::Ready(Err(Stop::Ordered(ending))) => {
                    return Poll::Ready(Over::Ordered(ending));
                }
                Poll::Ready(Err(Stop::Read(error))) => {
                    return Poll::Ready(Over::UpstreamGone(error));
                }
                Poll::Ready(Err(Stop::Write)) => return Poll::Ready(Over::AppGone),
                Poll::Pending => {}
            }
        }
        if !self.up.is_done() {
            match self.up.poll(cx, &mut self.app, &mut self.upstream, &mut self.books) {
                Poll::Ready(Ok(())) => {
                    self.first_done.get_or_insert(Way::Up);
                }
                Poll::Ready(Err(Stop::Ordered(ending))) => {
                    return Poll::Ready(Over::Ordered(ending));
                }
                Poll::Ready(Err(Stop::Read(_))) => return Poll::Ready(Over::AppGone),
                // What the upstream sent before it went still comes, and how it went.
                Poll::Ready(Err(Stop::Write)) => self.up.give_up(),
                Poll::Pending => {}
            }
        }
        match (self.down.is_done(), self.up.is_done()) {
            (true, true) => Poll::Ready(Over::Closed),
            // Nobody waits for what is held.
            (false, true) if self.down.is_holding() && self.first_done == Some(Way::Up) => {
                Poll::Ready(Over::AppGone)
            }
            _ => Poll::Pending,
        }
    }

    async fn finish(mut self, over: Over) {
        let spoken = self.down.is_closed() || self.up.is_closed();
        match over {
            Over::AppGone => {
                self.books.ended(CallEnd::ClientGone);
                drop(self.books);
                // One that has been told of the end in good order needs no other word.
                if !self.up.is_done() {
                    self.upstream.reset().await;
                }
            }
            Over::Closed => self.books.ended(match self.first_done {
                _ if spoken => CallEnd::Complete,
                Some(Way::Down) => CallEnd::UpstreamCut,
                _ => CallEnd::ClientGone,
            }),
            Over::UpstreamGone(error) => {
                self.books.ended(CallEnd::UpstreamCut);
                drop(self.books);
                if error.kind() == io::ErrorKind::ConnectionReset {
                    self.app.reset().await;
                } else {
                    self.app.close().await;
                }
            }
            Over::Ordered(ending) => self.end(ending).await,
        }
    }

    /// Ends the socket as a fault has ordered; the upstream is told at once.
    async fn end(mut self, ending: Ending) {
        self.books.ended(CallEnd::Injected);
        drop(self.upstream);
        let code = match ending {
            Ending::Clean => Some(NORMAL),
            Ending::CloseFrame(code) => Some(code),
            _ => None,
        };
        if let Some(code) = code
            && self.down.can_close()
        {
            let close = frame(Kind::Close, &code.to_be_bytes(), None);
            self.books.sent(close.len());
            let _ = self.app.write_all(&close).await;
        }
        match ending {
            Ending::Hang => {
                let dependency = Arc::clone(&self.books.connection().dependency);
                silent(&mut self.app, &dependency, self.version).await;
                drop(self.books);
                self.app.close().await;
            }
            Ending::Reset | Ending::StreamReset(_) => {
                drop(self.books);
                self.app.reset().await;
            }
            _ => {
                drop(self.books);
                self.app.close().await;
            }
        }
    }
}

/// Whether an ending is told in the socket's own words, behind what was sent before.
fn is_spoken(ending: Ending) -> bool {
    matches!(ending, Ending::Clean | Ending::CloseFrame(_))
}

/// Says nothing until the app goes away or another fault is armed, or this one disarmed.
async fn silent(app: &mut Stream, dependency: &Dependency, version: u64) {
    let mut changes = dependency.engine.changes();
    let mut scratch = vec![0; 4096];
    while dependency.engine.version_at(dependency.gate) == version {
        tokio::select! {
            read = app.read(&mut scratch) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
            }
            _ = changes.changed() => {}
        }
    }
}
