//! An upstream and an app that speak HTTP/2, and a proxy with real faults between them.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brownout::dialect;
use brownout::engine::{Arming, Engine, Rule, Selector};
use brownout::exchange::Event;
use brownout::fault;
use brownout::measure::{Call, Observation, Recorder, Tap};
use brownout::net::{Clock, HttpVersion, RealClock};
use brownout::proxy::{Listener, Options, Proxy, Running};
use brownout::units::Ramp;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

pub(crate) use crate::proxy::kit::{Peer, soon};

/// A request as the upstream gets it.
pub(crate) type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// An upstream: what it does with each request is up to the test.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::of(h2::server::Builder::new(), serve).await
    }

    pub(crate) async fn of<F, Fut>(builder: h2::server::Builder, serve: F) -> Self
    where
        F: Fn(Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::connections(move |stream| {
            let (builder, serve) = (builder.clone(), serve.clone());
            async move {
                let Ok(mut connection) = builder.handshake(stream).await else { return };
                while let Some(Ok(asked)) = connection.accept().await {
                    tokio::spawn(serve(asked));
                }
            }
        })
        .await
    }

    /// What it does with each connection is up to the test.
    pub(crate) async fn connections<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections }
    }

    pub(crate) fn connected(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Answers each call with so many messages, a little apart, and status OK.
    pub(crate) async fn messages(count: usize) -> Self {
        Self::start(move |(request, respond)| async move {
            let mut out = begin_grpc(respond);
            read(request.into_body()).await.unwrap();
            for number in 0..count {
                let message = Event::grpc(format!("message {number}")).raw;
                if out.send_data(message, false).is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let _ = out.send_trailers(status(0));
        })
        .await
    }
}

pub(crate) fn begin_grpc(mut respond: SendResponse<Bytes>) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    respond.send_response(head, false).unwrap()
}

pub(crate) fn status(code: u32) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    trailers
}

/// A whole body with its trailers.
pub(crate) async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, body.trailers().await?))
}

/// What came of a body before it broke, and the code that it broke with.
pub(crate) async fn read_broken(mut body: RecvStream) -> (Vec<u8>, Option<Reason>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                bytes.extend_from_slice(&data);
            }
            Err(error) => return (bytes, error.reason()),
        }
    }
    match body.trailers().await {
        Err(error) => (bytes, error.reason()),
        Ok(trailers) => panic!("it ended in good order: {trailers:?} after {} bytes", bytes.len()),
    }
}

/// An app's connection.
pub(crate) struct App {
    pub(crate) send: SendRequest<Bytes>,
    /// How the connection ended.
    pub(crate) ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl App {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with(h2::client::Builder::new(), address).await
    }

    pub(crate) async fn with(builder: h2::client::Builder, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = soon(builder.handshake(stream)).await.unwrap();
        Self { send, ended: tokio::spawn(connection) }
    }

    /// Begins a request; its body is the test's.
    pub(crate) async fn begin(
        &self,
        request: Request<()>,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut send = soon(self.send.clone().ready()).await.unwrap();
        send.send_request(request, false).unwrap()
    }

    pub(crate) async fn ask(
        &self,
        request: Request<()>,
        body: impl Into<Bytes>,
    ) -> Result<Response<RecvStream>, h2::Error> {
        let (answer, mut out) = self.begin(request).await;
        out.send_data(body.into(), true)?;
        soon(answer).await
    }

    /// A gRPC call with one message.
    pub(crate) async fn call(&self, path: &str) -> Result<Response<RecvStream>, h2::Error> {
        self.ask(grpc(path), Event::grpc("question").raw).await
    }
}

pub(crate) fn grpc(path: &str) -> Request<()> {
    Request::post(format!("http://app.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A proxy in front of one dependency named `db`, with one fault named `test`.
pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Engine>,
    pub(crate) tap: Tap,
    _running: Running,
}

impl Bench {
    pub(crate) async fn passing(upstream: SocketAddr) -> Self {
        Self::speaking(upstream, HttpVersion::Auto).await
    }

    pub(crate) async fn speaking(upstream: SocketAddr, http: HttpVersion) -> Self {
        Self::start(upstream, http, &[]).await
    }

    /// With these effects armed.
    pub(crate) async fn faulty(upstream: SocketAddr, effects: &[(&'static str, Value)]) -> Self {
        let bench = Self::start(upstream, HttpVersion::Auto, effects).await;
        bench.engine.arm("test", Arming::default()).unwrap();
        bench
    }

    async fn start(
        upstream: SocketAddr,
        http: HttpVersion,
        effects: &[(&'static str, Value)],
    ) -> Self {
        let (recorder, tap) = Recorder::channel(100_000);
        let build = |(name, options): &(&'static str, Value)| {
            let kind = fault::KINDS.iter().find(|kind| kind.name == *name).unwrap();
            (*name, (kind.try_build)(options.clone()).unwrap())
        };
        let rule = Rule {
            name: "test".into(),
            targets: vec!["db".into()],
            target_text: "db".to_owned(),
            selector: Selector::default(),
            percent: Ramp { from: 100.0, to: 100.0 },
            effects: effects.iter().map(build).collect(),
            ..Rule::default()
        };
        let engine = Arc::new(Engine::new(1, vec![rule], Recorder::none()));
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let qdrant = dialect::by_kind("qdrant").unwrap();
        let url = format!("http://{upstream}").parse().unwrap();
        let listener = Listener { http, ..Listener::new("db", qdrant, url) };
        let options = Options::default();
        let running = Proxy::start(vec![listener], Arc::clone(&engine), recorder, clock, options)
            .await
            .unwrap();
        let address = running.address("db").unwrap();
        Self { address, engine, tap, _running: running }
    }

    /// The next call that was recorded.
    pub(crate) async fn recorded(&mut self) -> Call {
        match soon(self.tap.next()).await {
            Some(Observation::Call(call)) => *call,
            other => panic!("no call but {other:?}"),
        }
    }

    /// What the fault said: hits, and why it could not act.
    pub(crate) fn tally(&self) -> brownout::engine::Tally {
        self.engine.tallies().remove(0).1
    }
}

/// Waits until the peer resets a stream.
pub(crate) async fn reset_of(out: &mut SendStream<Bytes>) -> Reason {
    soon(poll_fn(|cx| out.poll_reset(cx))).await.unwrap()
}
