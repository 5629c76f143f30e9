//! A raw upstream, a raw client, faults that do what a test says, and a proxy between them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brownout::dialect;
use brownout::engine::{Arming, Engine, Rule, Selector};
use brownout::exchange::{Grain, Item};
use brownout::fault::{self, Effect, Fault, Impossible, Orders};
use brownout::measure::{Call, Observation, Recorder, Tap};
use brownout::net::{Clock, RealClock};
use brownout::proxy::{Listener, Options, Proxy, Running};
use brownout::units::Ramp;
use http::{request, response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for anything that should happen at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Waits, but not for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it takes too long")
}

/// An upstream: what it does with each connection is up to the test.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = stream.set_nodelay(true);
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Peer::new(stream)));
            }
        });
        Self { address, connections }
    }

    /// Answers every request with the same bytes.
    pub(crate) async fn answering(answer: &'static [u8]) -> Self {
        Self::start(move |mut peer| async move {
            while peer.message().await.is_some() {
                peer.write(answer).await;
            }
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One side of a raw connection, with the bytes that were read and not taken yet.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream)
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads more; false at the end.
    pub(crate) async fn more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// Bytes up to and with a mark; None when the connection ends before.
    pub(crate) async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, mark) {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            if !self.more().await.unwrap_or(false) {
                return None;
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.more().await.unwrap(), "ended after {} of {count}", self.buffer.len());
        }
        self.buffer.drain(..count).collect()
    }

    /// A whole message by its own framing: its head and its body (chunks joined, trailers behind a
    /// blank line). None when the connection has ended before it.
    pub(crate) async fn message(&mut self) -> Option<(String, Vec<u8>)> {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await?).unwrap();
        let lower = head.to_lowercase();
        let mut body = Vec::new();
        if lower.contains("transfer-encoding: chunked") {
            loop {
                let line = String::from_utf8(self.until(b"\r\n").await?).unwrap();
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                if size == 0 {
                    while let Some(line) = self.until(b"\r\n").await.filter(|line| line.len() > 2) {
                        body.extend_from_slice(&line);
                    }
                    break;
                }
                body.extend(self.exactly(size).await);
                assert_eq!(self.exactly(2).await, b"\r\n");
            }
        } else if let Some(at) = lower.find("content-length:") {
            let length = lower[at + 15..].lines().next().unwrap().trim().parse().unwrap();
            body = self.exactly(length).await;
        }
        Some((head, body))
    }

    /// Everything until the connection ends, and how it ends.
    pub(crate) async fn rest(&mut self) -> (String, io::Result<()>) {
        let ended = loop {
            match self.more().await {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (String::from_utf8(std::mem::take(&mut self.buffer)).unwrap(), ended)
    }
}

/// Sends one request on a connection of its own and reads all that comes back.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> (String, io::Result<()>) {
    let mut peer = Peer::connect(address).await;
    peer.write(request).await;
    soon(peer.rest()).await
}

/// A proxy in front of one dependency named `llm`, with one fault named `test`.
pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Engine>,
    pub(crate) tap: Tap,
    pub(crate) running: Option<Running>,
}

impl Bench {
    pub(crate) async fn passing(upstream: SocketAddr) -> Self {
        Self::start(&format!("http://{upstream}"), Script::default(), Options::default()).await
    }

    /// With the fault armed.
    pub(crate) async fn faulty(upstream: SocketAddr, script: Script) -> Self {
        let bench = Self::start(&format!("http://{upstream}"), script, Options::default()).await;
        bench.arm();
        bench
    }

    pub(crate) async fn start(upstream: &str, script: Script, options: Options) -> Self {
        let openai = dialect::by_kind("openai").unwrap();
        let listener = Listener::new("llm", openai, upstream.parse().unwrap());
        Self::of(listener, script, options).await
    }

    /// With an effect of the experiment file, armed.
    pub(crate) async fn with_effect(
        upstream: SocketAddr,
        name: &'static str,
        options: Value,
    ) -> Self {
        let rule = real_rule(name, options);
        let openai = dialect::by_kind("openai").unwrap();
        let listener = Listener::new("llm", openai, format!("http://{upstream}").parse().unwrap());
        let bench = Self::with(listener, rule, Options::default()).await;
        bench.arm();
        bench
    }

    /// In front of this dependency, which is called `llm`.
    pub(crate) async fn of(listener: Listener, script: Script, options: Options) -> Self {
        Self::with(listener, script_rule(script), options).await
    }

    /// The same with this fault.
    pub(crate) async fn with(listener: Listener, rule: Rule, options: Options) -> Self {
        let (recorder, tap) = Recorder::channel(100_000);
        let engine = Arc::new(Engine::new(1, vec![rule], Recorder::none()));
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let running = Proxy::start(vec![listener], Arc::clone(&engine), recorder, clock, options)
            .await
            .unwrap();
        let address = running.address("llm").unwrap();
        Self { address, engine, tap, running: Some(running) }
    }

    pub(crate) fn arm(&self) {
        self.engine.arm("test", Arming::default()).unwrap();
    }

    /// The next call that was recorded.
    pub(crate) async fn call(&mut self) -> Call {
        match soon(self.tap.next()).await {
            Some(Observation::Call(call)) => *call,
            other => panic!("no call but {other:?}"),
        }
    }
}

/// The fault `test`, which acts on all that goes to `llm`.
pub(crate) fn script_rule(script: Script) -> Rule {
    rule("script", Box::new(script))
}

/// The fault `test` with this effect of the file, with its options as in the file.
pub(crate) fn real_rule(name: &'static str, options: serde_json::Value) -> Rule {
    let kind = fault::KINDS.iter().find(|kind| kind.name == name).unwrap();
    rule(name, (kind.try_build)(options).unwrap())
}

fn rule(name: &'static str, effect: Box<dyn Fault>) -> Rule {
    Rule {
        name: "test".into(),
        targets: vec!["llm".into()],
        target_text: "llm".to_owned(),
        selector: Selector::default(),
        percent: Ramp { from: 100.0, to: 100.0 },
        effects: vec![(name, effect)],
        ..Rule::default()
    }
}

type OnRequest = dyn Fn(&mut request::Parts, &mut Orders) + Send + Sync;
type OnResponse = dyn Fn(&mut response::Parts, &mut Orders) + Send + Sync;
type OnItem = dyn Fn(usize, Item, &mut Orders) + Send + Sync;
type OnEnd = dyn Fn(&mut Orders) + Send + Sync;

/// A fault that does what the test says; items are counted from 0.
#[derive(Clone, Default)]
pub(crate) struct Script {
    grain: Grain,
    refuses: bool,
    on_request: Option<Arc<OnRequest>>,
    on_response: Option<Arc<OnResponse>>,
    on_item: Option<Arc<OnItem>>,
    on_end: Option<Arc<OnEnd>>,
}

impl Script {
    pub(crate) fn refusing() -> Self {
        Self { refuses: true, ..Self::default() }
    }

    pub(crate) fn on_request(
        hook: impl Fn(&mut request::Parts, &mut Orders) + Send + Sync + 'static,
    ) -> Self {
        Self { on_request: Some(Arc::new(hook)), ..Self::default() }
    }

    pub(crate) fn on_item(
        grain: Grain,
        hook: impl Fn(usize, Item, &mut Orders) + Send + Sync + 'static,
    ) -> Self {
        Self { grain, on_item: Some(Arc::new(hook)), ..Self::default() }
    }

    pub(crate) fn with_heads(
        mut self,
        on_request: impl Fn(&mut request::Parts, &mut Orders) + Send + Sync + 'static,
        on_response: impl Fn(&mut response::Parts, &mut Orders) + Send + Sync + 'static,
    ) -> Self {
        self.on_request = Some(Arc::new(on_request));
        self.on_response = Some(Arc::new(on_response));
        self
    }

    pub(crate) fn and_on_end(mut self, hook: impl Fn(&mut Orders) + Send + Sync + 'static) -> Self {
        self.on_end = Some(Arc::new(hook));
        self
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Fault for Script {
    fn arm(&self, _: &mut fault::Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        Ok(Box::new(Acting { script: self.clone(), items: 0 }))
    }

    fn refuses_connections(&self) -> bool {
        self.refuses
    }
}

struct Acting {
    script: Script,
    items: usize,
}

impl Effect for Acting {
    fn grain(&self) -> Grain {
        self.script.grain
    }

    fn on_request(&mut self, _: Duration, head: &mut request::Parts, out: &mut Orders) {
        if let Some(hook) = &self.script.on_request {
            hook(head, out);
        }
    }

    fn on_response(
        &mut self,
        _: Duration,
        _: Duration,
        head: &mut response::Parts,
        out: &mut Orders,
    ) {
        if let Some(hook) = &self.script.on_response {
            hook(head, out);
        }
    }

    fn on_item(&mut self, _: Duration, item: Item, out: &mut Orders) {
        match &self.script.on_item {
            Some(hook) => hook(self.items, item, out),
            None => out.send(item),
        }
        self.items += 1;
    }

    fn on_end(&mut self, _: Duration, out: &mut Orders) {
        if let Some(hook) = &self.script.on_end {
            hook(out);
        }
    }
}
