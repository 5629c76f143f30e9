//! TLS with the app in the place of a dependency. What faults order for a handshake is carried out
//! here, and an app that does not trust what it is shown is named in the log and the metrics.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::connection::Dependency;
use super::entrance;
use super::request::RequestBody;
use super::route::Route;
use super::tcp::Raw;
use crate::dialect::Dialect;
use crate::engine::{Decision, Engine, Gate};
use crate::exchange::Level;
use crate::fault::{Ending, Flaw, Order};
use crate::measure::{FailedHandshake, Observation, Recorder};
use crate::net::ca::{Authority, Soundness};
use crate::net::secure::{Broken, Hello, NoHello};
use crate::net::{Certificates, Clock, Pool, Stream};

/// More complaints than these are counted and not told.
const MOST_TOLD: usize = 200;

/// What handshakes with apps need.
#[derive(Debug)]
pub(super) struct Secure {
    certificates: Certificates,
    /// Signs what is flawed.
    authority: Arc<Authority>,
    /// What the log has been told.
    told: Mutex<BTreeSet<String>>,
}

/// In whose place a handshake is made.
pub(super) struct Stead<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) gate: Gate,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) engine: &'a Arc<Engine>,
    pub(super) recorder: &'a Recorder,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) drain: &'a CancellationToken,
    /// None: it speaks no HTTP.
    pub(super) pool: Option<&'a Pool<RequestBody>>,
}

impl Dependency {
    pub(super) fn stead(&self) -> Stead<'_> {
        Stead {
            name: &self.name,
            gate: self.gate,
            dialect: self.dialect,
            engine: &self.engine,
            recorder: &self.recorder,
            clock: &self.clock,
            drain: &self.drain,
            pool: Some(&self.pool),
        }
    }
}

impl Raw {
    pub(super) fn stead(&self) -> Stead<'_> {
        Stead {
            name: &self.name,
            gate: self.gate,
            dialect: self.dialect,
            engine: &self.engine,
            recorder: &self.recorder,
            clock: &self.clock,
            drain: &self.drain,
            pool: None,
        }
    }
}

/// What a client is to meet.
enum Fate {
    End(Ending),
    Shown(Option<Flaw>),
}

impl Secure {
    pub(super) fn new(certificates: Certificates, authority: Arc<Authority>) -> Self {
        Self { certificates, authority, told: Mutex::default() }
    }

    /// Certificates made on the fly by this authority.
    pub(super) fn minted(authority: Arc<Authority>) -> Self {
        Self::new(Certificates::Minted(Arc::clone(&authority)), authority)
    }

    /// The handshake with a client that is to believe it speaks to `host` (where it names none
    /// itself), in the place of this dependency. None: nothing came of it.
    pub(super) async fn handshake(
        &self,
        hello: Hello,
        stead: &Stead<'_>,
        host: &str,
    ) -> Option<Stream> {
        let host = hello.server_name().unwrap_or(host).to_owned();
        let (fate, decision) = fate(stead, &host).await;
        // What it does is in the books at once, not when the client gives up.
        decision.close();
        match fate {
            Fate::End(ending) => {
                end(hello, ending, stead).await;
                None
            }
            Fate::Shown(Some(Flaw::Missing)) => {
                hello.refuse().await;
                None
            }
            Fate::Shown(flaw) => self.show(hello, stead, &host, flaw).await,
        }
    }

    async fn show(
        &self,
        hello: Hello,
        stead: &Stead<'_>,
        host: &str,
        flaw: Option<Flaw>,
    ) -> Option<Stream> {
        let flawed = |soundness| self.certificates.flawed(&self.authority, host, soundness);
        let shown = match flaw {
            None | Some(Flaw::Missing) => self.certificates.shown(host),
            Some(Flaw::Expired) => flawed(Soundness::Expired),
            Some(Flaw::Untrusted) => flawed(Soundness::Untrusted),
            Some(Flaw::WrongName) => flawed(Soundness::WrongName),
        };
        let shown = match shown {
            Ok(shown) => shown,
            Err(error) => {
                self.tell(format!("{}: a TLS handshake was refused: {error}", stead.name));
                hello.refuse().await;
                return None;
            }
        };
        let alpn = offered(stead, hello.alpn()).await;
        let result = match flaw {
            None => hello.accept(shown, alpn).await,
            // A client that resumes an earlier session would not see it.
            Some(_) => hello.accept_anew(shown, alpn).await,
        };
        match (&result, flaw) {
            (Ok(_), Some(flaw)) => self.tell(format!(
                "the app took {} for `{host}` ({}): it does not verify certificates",
                flawed_text(flaw),
                stead.name
            )),
            (Err(broken), None) => self.complain(stead, host, broken),
            (Ok(_), None) | (Err(_), Some(_)) => {}
        }
        result.ok()
    }

    /// A handshake broke that no fault touched.
    pub(super) fn complain(&self, stead: &Stead<'_>, host: &str, broken: &Broken) {
        let distrusted = matches!(broken, Broken::Distrusts { .. });
        stead.recorder.record(Observation::Handshake(Box::new(FailedHandshake {
            dependency: Arc::clone(stead.name),
            at: stead.clock.now(),
            reason: reason(broken),
        })));
        let remedy = match &self.certificates {
            Certificates::Files(_) if distrusted => {
                "; it must trust whoever signed the certificate in `tls.cert`".to_owned()
            }
            Certificates::Minted(authority) if distrusted => format!(
                "; let it trust `{}`: set NODE_EXTRA_CA_CERTS to it, and SSL_CERT_FILE, \
                 REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, AWS_CA_BUNDLE and \
                 GRPC_DEFAULT_SSL_ROOTS_FILE_PATH to what `brownout ca --bundle FILE` writes; \
                 `brownout ca` says more",
                authority.certificate_path().display()
            ),
            _ => String::new(),
        };
        let text = format!("{}: the app {broken} for `{host}`{remedy}", stead.name);
        match broken {
            // Health checks connect and go, and so does everybody at the end of a run.
            Broken::Gone => tracing::debug!("{text}"),
            _ => self.tell(text),
        }
    }

    /// Warns, but says nothing twice.
    fn tell(&self, text: String) {
        let mut told = self.told.lock();
        if told.len() < MOST_TOLD && !told.contains(&text) {
            tracing::warn!("{text}");
            told.insert(text);
        }
    }
}

/// The versions of HTTP that the app is offered.
async fn offered(stead: &Stead<'_>, asked: &[Vec<u8>]) -> &'static [&'static [u8]] {
    // What speaks no HTTP has no names for it.
    let Some(pool) = stead.pool else { return &[] };
    let asks = |protocol: &[u8]| asked.iter().any(|name| name == protocol);
    if !asks(b"h2") {
        &[b"http/1.1"]
    } else if !asks(b"http/1.1") {
        // A client of gRPC speaks nothing else.
        &[b"h2"]
    } else {
        match pool.speaks_http2().await {
            true => &[b"h2", b"http/1.1"],
            false => &[b"http/1.1"],
        }
    }
}

/// What faults have decided for this handshake, waits included.
async fn fate(stead: &Stead<'_>, host: &str) -> (Fate, Decision) {
    let (engine, clock) = (stead.engine, stead.clock);
    if !engine.demand_at(stead.gate).handshake {
        return (Fate::Shown(None), Decision::default());
    }
    let exchange = engine.connection(stead.name, Level::Handshake, host);
    let mut decision = engine.decide(clock.now(), &exchange, stead.dialect);
    for index in 0..decision.chain.len() {
        let mut asking = true;
        while std::mem::take(&mut asking) {
            for order in decision.chain.on_connect(index, clock.now()) {
                match order {
                    Order::Again(time) => {
                        clock.sleep(time).await;
                        asking = true;
                    }
                    Order::Certificate(flaw) => return (Fate::Shown(Some(flaw)), decision),
                    Order::End(ending) => return (Fate::End(ending), decision),
                    Order::Wait(time) => clock.sleep(time).await,
                    // There is nothing to answer, and nothing to send.
                    Order::Answer(_) | Order::Join | Order::Pulse(_) | Order::Send(_) => {}
                }
            }
        }
    }
    (Fate::Shown(None), decision)
}

async fn end(hello: Hello, ending: Ending, stead: &Stead<'_>) {
    let mut stream = hello.into_stream();
    match ending.of_connection() {
        Ending::Reset => stream.reset().await,
        Ending::Hang => {
            let mut scratch = [0; 1024];
            let left = async { while let Ok(1..) = stream.read(&mut scratch).await {} };
            tokio::select! {
                () = left => {}
                () = stead.drain.cancelled() => {}
            }
        }
        _ => stream.close().await,
    }
}

/// Serves a connection to a dependency's own port that speaks TLS.
pub(super) async fn serve(stream: TcpStream, dependency: Arc<Dependency>, secure: Arc<Secure>) {
    let host = stream.local_addr().map_or_else(|_| String::new(), |local| shown(local.ip()));
    let drain = dependency.drain.clone();
    let hello = tokio::select! {
        hello = Hello::read(Stream::Tcp(stream)) => hello,
        () = drain.cancelled() => return,
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(none) => {
            secure.complain(&dependency.stead(), &host, &none.broken);
            return turn_away(none, &dependency.name).await;
        }
    };
    let stead = dependency.stead();
    let secured = tokio::select! {
        secured = secure.handshake(hello, &stead, &host) => secured,
        () = drain.cancelled() => return,
    };
    if let Some(stream) = secured {
        entrance::http(stream, Arc::new(Route::Fixed(dependency))).await;
    }
}

fn shown(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// Tells a client that spoke no TLS, in its own words where they are known.
async fn turn_away(mut none: NoHello, name: &str) {
    if none.broken == Broken::PlainHttp {
        let text = format!("brownout: {name} speaks TLS on this port; write https://\n");
        let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
                    x-brownout: plain-http\r\nconnection: close\r\ncontent-length: ";
        let answer = format!("{head}{}\r\n\r\n{text}", text.len());
        let _ = none.stream.write_all(answer.as_bytes()).await;
    }
    none.close().await;
}

fn flawed_text(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::Expired => "an expired certificate",
        Flaw::Missing => "no certificate",
        Flaw::Untrusted => "a certificate from an authority that nobody trusts",
        Flaw::WrongName => "a certificate of another host",
    }
}

/// One word for the metrics.
fn reason(broken: &Broken) -> &'static str {
    match broken {
        Broken::Distrusts { .. } => "distrusted",
        Broken::Gone => "gone",
        Broken::PlainHttp => "plain_http",
        Broken::NoTls => "no_tls",
        Broken::Slow => "slow",
        Broken::Other(_) => "other",
    }
}
