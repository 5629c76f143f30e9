//! One connection of an app: its exchanges one after another, in one task with the upstream
//! connections they use, and its end in the way that was ordered.

use std::any::Any;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, Method, Request, Uri};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::answer::Sending;
use super::request::{Incoming, RequestBody};
use super::route::{Host, Route};
use super::{forward, http2, reverse};
use crate::dialect::{Asking, Dialect};
use crate::engine::identify::Identify;
use crate::engine::{Engine, Gate};
use crate::fault::Ending;
use crate::measure::Recorder;
use crate::net::pool::Interim;
use crate::net::{Clock, Pool, Socket, Stream, Wire};

/// RST_STREAM: nobody waits for the stream any more.
const CANCEL: u32 = 8;

/// A kept connection on which nothing is asked for so long is closed. Providers close theirs after
/// seconds to a quarter of an hour; whoever closes first risks that a request is on its way.
pub(super) const IDLE: Duration = Duration::from_secs(15 * 60);

/// A dependency as its connections see it.
#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) name: Arc<str>,
    /// The hosts that it names: what means it at a gateway.
    pub(super) hosts: Vec<Host>,
    /// Its upstream's own host, which means it too.
    pub(super) own_host: Option<Host>,
    /// The path prefix that means it at the shared gateway, `/llm`.
    pub(super) path: String,
    pub(super) gate: Gate,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) identify: Identify,
    pub(super) pool: Pool<RequestBody>,
    pub(super) engine: Arc<Engine>,
    pub(super) recorder: Recorder,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when no more requests are taken.
    pub(super) drain: CancellationToken,
    pub(super) mark_faults: bool,
    /// What took its place when the file was read anew.
    pub(super) latest: Arc<Latest>,
    /// Lives as long as the upstream is called: its simulator.
    pub(super) _keeps: Option<Arc<dyn Any + Send + Sync>>,
}

/// The dependency of a name as it is now, once it has been replaced. All that had the name share it.
#[derive(Default)]
pub(super) struct Latest(ArcSwapOption<Dependency>);

impl Latest {
    /// None lets go of the last one: they hold each other.
    pub(super) fn set(&self, dependency: Option<Arc<Dependency>>) {
        self.0.store(dependency);
    }
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Latest")
    }
}

impl Dependency {
    /// Whether its exchanges may take the short way: nothing is armed for it, and nothing has taken
    /// its place.
    pub(super) fn is_untouched(&self) -> bool {
        let demand = self.engine.demand_at(self.gate);
        !demand.any && !demand.steered && !demand.refuse && self.successor().is_none()
    }

    /// The dialect of a request, where a kind stands for several.
    pub(super) fn dialect_of(
        &self,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        body: &[u8],
    ) -> &'static dyn Dialect {
        let host = self.pool.origin().authority();
        let asking = Asking { host, method, uri, headers, body };
        self.dialect.of_request(&asking).unwrap_or(self.dialect)
    }

    /// What has taken its place, if anything has.
    pub(super) fn successor(&self) -> Option<Arc<Self>> {
        let latest = self.latest.0.load();
        latest.as_ref().filter(|latest| !std::ptr::eq(Arc::as_ptr(latest), self)).cloned()
    }
}

/// A connection of an app, as one of its exchanges sees it: with the dependency that it is for.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) dependency: Arc<Dependency>,
    pub(super) line: Arc<Line>,
}

/// The connection itself, whatever its exchanges are for; in HTTP/2 one stream of it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Of no use in HTTP/2.
    pub(super) wire: Arc<Wire<Stream>>,
    fate: Mutex<Fate>,
    stream: Option<http2::Line>,
}

/// How a connection ends that is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fate {
    #[default]
    Close,
    /// HTTP/2: it says GOAWAY and ends.
    GoAway,
    /// A tunnel has taken it over.
    HandedOver,
    Reset,
    /// HTTP/2: this stream alone is reset, with this code.
    Stream(u32),
}

/// What hyper is told when an exchange ends its connection.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection ends here")]
pub(super) struct Killed;

impl Connection {
    /// With the dependency as it is now: a reload is felt by the next exchange.
    pub(super) fn renewed(self: Arc<Self>) -> Arc<Self> {
        match self.dependency.successor() {
            None => self,
            Some(dependency) => Arc::new(Self { dependency, line: Arc::clone(&self.line) }),
        }
    }

    /// The connection ends now, without another byte: by a reset, or by a FIN.
    pub(super) fn kill(&self, ending: Ending) -> Killed {
        self.line.kill(ending)
    }

    /// The exchange is given up because the app or the proxy leaves: in HTTP/2 its stream alone.
    pub(super) fn give_up(&self) -> Killed {
        self.kill(if self.line.is_http2() { Ending::StreamReset(CANCEL) } else { Ending::Close })
    }

    /// Another task takes the stream when hyper has handed it over.
    pub(super) fn hand_over(&self) {
        self.line.hand_over();
    }

    /// Stays silent until the app goes away (then this is dropped) or the proxy is drained.
    pub(super) async fn hang(&self) -> Killed {
        self.dependency.drain.cancelled().await;
        self.give_up()
    }
}

impl Line {
    /// The connection ends now, without another byte: by a reset, or by a FIN.
    pub(super) fn kill(&self, ending: Ending) -> Killed {
        let ending = if self.is_http2() { ending } else { ending.of_connection() };
        *self.fate.lock() = match ending {
            Ending::GoAway => Fate::GoAway,
            Ending::Reset => Fate::Reset,
            Ending::StreamReset(code) => Fate::Stream(code),
            _ => Fate::Close,
        };
        Killed
    }

    /// One stream of an HTTP/2 connection.
    pub(super) fn of_stream(stream: http2::Line, wire: Arc<Wire<Stream>>) -> Self {
        Self { wire, fate: Mutex::default(), stream: Some(stream) }
    }

    /// Whether it is a gRPC call.
    pub(super) fn is_grpc(&self) -> bool {
        self.stream.as_ref().is_some_and(http2::Line::is_grpc)
    }

    /// Where the app is told of interim answers, in HTTP/2.
    pub(super) fn interim(&self) -> Option<Interim> {
        let told = self.stream.as_ref()?.interim().clone();
        Some(Interim::new(move |head| {
            let _ = told.send(head);
        }))
    }

    /// Whether a fault has ended the connection under this stream.
    pub(super) fn is_broken(&self) -> bool {
        self.stream.as_ref().is_some_and(http2::Line::is_broken)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.stream.is_some()
    }

    /// A tunnel takes the stream when hyper has handed it over.
    pub(super) fn hand_over(&self) {
        *self.fate.lock() = Fate::HandedOver;
    }

    /// How the connection or the stream is to end.
    pub(super) fn fate(&self) -> Fate {
        *self.fate.lock()
    }
}

/// Serves HTTP/1.1 on a connection until it ends, or gives it back at the start of a request: with
/// `lent`, as soon as that one's exchanges are untouched again.
pub(super) async fn serve(
    stream: Stream,
    route: Arc<Route>,
    drain: CancellationToken,
    lent: Option<Arc<Dependency>>,
) -> Option<Stream> {
    let (mut socket, wire) = Socket::server(stream);
    if let Some(dependency) = lent {
        socket.leave_when(move || dependency.is_untouched());
    }
    let line = Arc::new(Line { wire, ..Line::default() });
    let exchanges = Arc::clone(&line);
    // Most connections are for one dependency.
    let fixed = route.fixed().map(|dependency| {
        Arc::new(Connection { dependency: Arc::clone(dependency), line: Arc::clone(&line) })
    });
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        // Now, not when the future is polled: by then hyper may have read the next head.
        let head = exchanges.wire.take_head();
        let refusal = exchanges.wire.take_refusal();
        let visit = route.visit().filter(|_| request.method() == Method::CONNECT).cloned();
        let connection = match &fixed {
            Some(connection) => Ok(Arc::clone(connection)),
            None => route.find(&mut request).map(|dependency| {
                Arc::new(Connection { dependency, line: Arc::clone(&exchanges) })
            }),
        };
        let line = Arc::clone(&exchanges);
        async move {
            let answer = match (refusal, visit, connection) {
                (Some(refusal), ..) => reverse::refused(&line, reverse::malformed(refusal)),
                (_, Some(visit), _) => {
                    Box::pin(forward::connect(visit, Arc::clone(&line), request)).await?
                }
                (.., Ok(connection)) => {
                    reverse::exchange(connection, request.map(Incoming::Http1), head).await?
                }
                (.., Err(unknown)) => reverse::refused(&line, unknown),
            };
            let sending = |body| Sending::new(body, Arc::clone(&line.wire));
            Ok::<_, Killed>(answer.map(sending))
        }
    });
    let served = http1::Builder::new()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    {
        let mut served = pin!(served);
        let result = tokio::select! {
            biased;
            result = served.as_mut() => result,
            () = drain.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = result {
            tracing::trace!(%error, "connection ended");
        }
    }
    let fate = line.fate();
    let stream = if fate == Fate::HandedOver { None } else { line.wire.take_stream() };
    match (stream, fate, line.wire.take_left()) {
        (Some(stream), Fate::Reset, _) => stream.reset().await,
        (Some(stream), _, Some(left)) => return Some(stream.rewound(left)),
        (Some(stream), ..) if !drain.is_cancelled() => stream.close().await,
        _ => {}
    }
    None
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pool.origin())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dialect;
    use crate::net::{Origin, PausedClock, pool};

    /// A dependency that is called by nobody.
    pub(in crate::proxy) fn dependency(name: &str, upstream: &str, hosts: &[&str]) -> Dependency {
        let upstream = upstream.parse().unwrap();
        let engine = Arc::new(Engine::new(1, Vec::new(), Recorder::none()));
        Dependency {
            name: name.into(),
            hosts: hosts.iter().map(|host| Host::of(host)).collect(),
            own_host: Some(Host::of_url(&upstream)),
            path: format!("/{name}"),
            gate: engine.gate(name),
            dialect: dialect::by_kind("openai").unwrap(),
            identify: Identify::default(),
            pool: Pool::new(Origin::new(&upstream).unwrap(), pool::Options::default()).unwrap(),
            engine,
            recorder: Recorder::none(),
            clock: Arc::new(PausedClock::new()),
            drain: CancellationToken::new(),
            mark_faults: false,
            latest: Arc::default(),
            _keeps: None,
        }
    }

    #[test]
    fn a_dependency_knows_what_took_its_place() {
        let old = Arc::new(dependency("llm", "http://a", &[]));
        assert!(old.successor().is_none());
        let latest = Arc::clone(&old.latest);
        let new = Arc::new(Dependency { latest, ..dependency("llm", "http://b", &[]) });
        old.latest.set(Some(Arc::clone(&new)));
        assert!(Arc::ptr_eq(&old.successor().unwrap(), &new));
        assert!(new.successor().is_none());
        let connection = Arc::new(Connection { dependency: old, line: Arc::default() });
        assert!(Arc::ptr_eq(&connection.renewed().dependency, &new));
        new.latest.set(None);
        assert_eq!(Arc::strong_count(&new), 1, "nothing holds it any more");
    }
}
