//! The forward proxy, for apps that have `HTTP_PROXY` and `HTTPS_PROXY` set. What is for a
//! dependency is served as at its own listener; everything else passes blindly, and not everywhere.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::answer::AnswerBody;
use super::connection::{Connection, Dependency, Line};
use super::intercept::{self, Meant};
use super::reverse::{self, Outcome};
use super::route::{Directory, Found, Route};
use super::secure::Secure;
use super::stranger::Strangers;
use super::tcp::Raw;
use super::{destination, entrance};
use crate::dialect::Answer;
use crate::fault::Ending;
use crate::net::{self, Socket, Stream};

/// The gateway.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) directory: Arc<Directory>,
    pub(super) strangers: Strangers,
    /// Makes the certificates for dependencies that are called over TLS.
    pub(super) secure: Option<Arc<Secure>>,
    /// Networks that it serves beside loopback.
    pub(super) clients: Vec<(IpAddr, u8)>,
    pub(super) connect_timeout: Duration,
    pub(super) drain: CancellationToken,
}

type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client's connection to it.
pub(super) struct Visit {
    forward: Arc<Forward>,
    /// The client is of this machine.
    local: bool,
    /// What the connection becomes after a CONNECT.
    tunnel: Mutex<Option<Tunnel>>,
}

/// Serves a client until its connection, or its tunnel, ends.
pub(super) async fn serve(forward: Arc<Forward>, stream: TcpStream) {
    let Ok(client) = stream.peer_addr() else { return };
    if !destination::serves(client.ip(), &forward.clients) {
        return turn_away(stream, client).await;
    }
    let local = client.ip().to_canonical().is_loopback();
    let visit = Arc::new(Visit { forward, local, tunnel: Mutex::default() });
    let route = Arc::new(Route::Forward(Arc::clone(&visit)));
    // Boxed, so that an idle tunnel does not keep the room that HTTP needed.
    Box::pin(entrance::http(Stream::Tcp(stream), route)).await;
    let tunnel = visit.tunnel.lock().take();
    drop(visit);
    if let Some(tunnel) = tunnel {
        tunnel.await;
    }
}

/// Says no before a byte is read.
async fn turn_away(mut stream: TcpStream, client: SocketAddr) {
    let ip = client.ip().to_canonical();
    tracing::warn!(client = %ip, "the forward proxy turned a client away");
    let body = format!(
        "brownout: the forward proxy serves this machine alone, and {ip} is of another; name its \
         network under `clients` of the gateway if it may come in\n"
    );
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Brownout: refused\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if stream.write_all((head + &body).as_bytes()).await.is_ok() {
        Stream::Tcp(stream).close().await;
    }
}

/// A host that a client names.
struct Target {
    /// As it was written, without a user name.
    authority: String,
    /// Without brackets.
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri, usual_port: Option<u16>) -> Option<Self> {
        let authority = uri.authority()?;
        let written = authority.as_str().rsplit('@').next()?;
        let port = match authority.port_u16() {
            Some(port) => port,
            // A port that is no number is none; an empty one is the usual.
            None if authority.port().is_some() => return None,
            None => usual_port?,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        (!host.is_empty() && port != 0).then(|| Self { authority: written.to_owned(), host, port })
    }
}

impl Forward {
    /// The dependency that speaks HTTP and that a host and port mean.
    fn dependency(&self, target: &Target) -> Option<Arc<Dependency>> {
        self.directory.by_place(&target.host, target.port)
    }
}

impl Visit {
    pub(super) fn drain(&self) -> &CancellationToken {
        &self.forward.drain
    }

    /// Who serves a request that names its host: a dependency, or the host itself.
    pub(super) fn find<B>(&self, request: &mut Request<B>) -> Result<Arc<Dependency>, Answer> {
        let tls = match request.uri().scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => {
                let text = format!("the scheme `{other}` is not served; only http and https are");
                return Err(told(StatusCode::BAD_REQUEST, &text));
            }
            None => {
                let text = "this is a forward proxy, so a request names its host: \
                            `GET http://host/path`; set HTTP_PROXY to this address, not a base URL";
                return Err(told(StatusCode::BAD_REQUEST, text));
            }
        };
        let Some(target) = Target::of(request.uri(), Some(if tls { 443 } else { 80 })) else {
            let text = format!("`{}` names no host and port", request.uri());
            return Err(told(StatusCode::BAD_REQUEST, &text));
        };
        if let Some(dependency) = self.forward.dependency(&target)
            && within_base(request, &dependency, &target.host)
        {
            return Ok(dependency);
        }
        if let Some(reason) = destination::against_name(&target.host, target.port) {
            return Err(refused(&target, &reason));
        }
        let strangers = &self.forward.strangers;
        strangers
            .get(tls, &target.authority, self.local)
            .map_err(|reason| told(StatusCode::BAD_REQUEST, &reason))
    }
}

/// Whether a request that names its host is for the dependency. A client that calls the upstream
/// by its own name writes the base itself: it is taken off, since it is put on again.
fn within_base<B>(request: &mut Request<B>, dependency: &Dependency, host: &str) -> bool {
    let origin = dependency.pool.origin();
    !origin.host().eq_ignore_ascii_case(host) || take_base_off(request, origin.base())
}

/// The dependency of a request that writes the upstream's base itself.
pub(super) fn whole<B>(
    request: &mut Request<B>,
    dependency: &Arc<Dependency>,
) -> Result<Arc<Dependency>, Answer> {
    let base = dependency.pool.origin().base();
    if take_base_off(request, base) {
        return Ok(Arc::clone(dependency));
    }
    let text = format!("`{}` stands for what is below {base} on its host", dependency.name);
    Err(told(StatusCode::NOT_FOUND, &text))
}

/// Whether the path is below the base, which is then taken off.
fn take_base_off<B>(request: &mut Request<B>, base: &str) -> bool {
    if base.is_empty() {
        return true;
    }
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = match path.strip_prefix(base) {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) if rest.is_empty() || rest.starts_with('?') => format!("/{rest}"),
        _ => return false,
    };
    let mut parts = uri.clone().into_parts();
    // With a host the head that was read still counts as this request's.
    parts.scheme.get_or_insert(http::uri::Scheme::HTTP);
    parts.authority.get_or_insert(http::uri::Authority::from_static("upstream"));
    parts.path_and_query = PathAndQuery::try_from(rest).ok();
    match Uri::from_parts(parts) {
        Ok(uri) => *request.uri_mut() = uri,
        Err(_) => return false,
    }
    true
}

/// Where a tunnel leads.
enum Way {
    Dependency(Meant),
    Raw(Arc<Raw>),
    Host(TcpStream),
}

/// Answers a CONNECT; the tunnel itself is served when HTTP is done with the connection.
pub(super) async fn connect(
    visit: Arc<Visit>,
    line: Arc<Line>,
    mut request: Request<Incoming>,
) -> Outcome {
    let Some(target) = Target::of(request.uri(), None) else {
        let text = "CONNECT wants a host and a port: `CONNECT host:443 HTTP/1.1`";
        return Ok(no_tunnel(&line, told(StatusCode::BAD_REQUEST, text)));
    };
    let way = match visit.forward.directory.find(&target.host, target.port) {
        Some(Found::Raw(raw)) => {
            if raw.engine.demand_at(raw.gate).refuse {
                raw.engine.count_refused(&raw.name);
                return Err(line.kill(Ending::Reset));
            }
            Way::Raw(raw)
        }
        Some(Found::Http(dependency)) => {
            let demand = dependency.engine.demand_at(dependency.gate);
            if demand.refuse {
                dependency.engine.count_refused(&dependency.name);
                return Err(Connection { dependency, line }.kill(Ending::Reset));
            }
            Way::Dependency(Meant { dependency, host: target.host.clone() })
        }
        None => match visit.reach(&target).await {
            Ok(upstream) => Way::Host(upstream),
            Err(answer) => return Ok(no_tunnel(&line, answer)),
        },
    };
    line.hand_over();
    let upgrade = hyper::upgrade::on(&mut request);
    let served = tunnel(Arc::clone(&visit), Arc::clone(&line), upgrade, target, way);
    *visit.tunnel.lock() = Some(served);
    Ok(reverse::tunnelled(&line))
}

impl Visit {
    /// Connects to a host that is no dependency, or says why not.
    async fn reach(&self, target: &Target) -> Result<TcpStream, Answer> {
        if let Some(reason) = destination::against_name(&target.host, target.port) {
            return Err(refused(target, &reason));
        }
        let guard = self.forward.strangers.guard(self.local);
        let timeout = self.forward.connect_timeout;
        net::connect_to(&target.host, target.port, timeout, Some(&guard))
            .await
            .map_err(|error| told(reverse::status_of(&error), &error.to_string()))
    }
}

/// The tunnel behind a CONNECT. A plain function, since a tunnel may hold HTTP with a CONNECT in it.
fn tunnel(visit: Arc<Visit>, line: Arc<Line>, app: OnUpgrade, target: Target, way: Way) -> Tunnel {
    Box::pin(async move {
        let Some(app) = handed_over(&line, app).await else { return };
        drop(line);
        let (app, upstream) = match way {
            Way::Host(upstream) => (app, upstream),
            Way::Raw(raw) => {
                let secure = visit.forward.secure.as_deref();
                return intercept::serve_raw(app, raw, &target.host, secure).await;
            }
            Way::Dependency(meant) => {
                let Some(app) = intercept::serve(app, meant, visit.forward.secure.as_deref()).await
                else {
                    return;
                };
                // Neither HTTP nor TLS: it goes where it was meant to go.
                match visit.reach(&target).await {
                    Ok(upstream) => (app, upstream),
                    Err(_) => return app.close().await,
                }
            }
        };
        let drain = visit.forward.drain.clone();
        drop(visit);
        tokio::select! {
            _ = net::join(app, Stream::Tcp(upstream)) => {}
            () = drain.cancelled() => {}
        }
    })
}

/// The app's connection, with what came behind the head in front.
async fn handed_over(line: &Line, app: OnUpgrade) -> Option<Stream> {
    let parts = app.await.ok()?.downcast::<TokioIo<Socket<Stream>>>().ok()?;
    drop(parts.io);
    Some(line.wire.take_stream()?.rewound(parts.read_buf))
}

/// The connection stays what it was.
fn no_tunnel(line: &Line, answer: Answer) -> Response<AnswerBody> {
    line.wire.expect_head();
    reverse::refused(line, answer)
}

fn refused(target: &Target, reason: &str) -> Answer {
    let text = format!("{} is not connected to: {reason}", target.authority);
    told(StatusCode::FORBIDDEN, &text)
}

/// What we say in our own name.
fn told(status: StatusCode, text: &str) -> Answer {
    let headers = vec![
        ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned()),
        ("x-brownout".to_owned(), "forward-proxy".to_owned()),
    ];
    Answer { status, headers, body: Bytes::from(format!("brownout: {text}\n")) }
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit").field("local", &self.local).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_with_their_ports() {
        let of = |uri: &str, usual| {
            let target = Target::of(&uri.parse().unwrap(), usual)?;
            Some((target.authority, target.host, target.port))
        };
        let is =
            |authority: &str, host: &str, port| Some((authority.to_owned(), host.to_owned(), port));
        assert_eq!(of("http://Host/p", Some(80)), is("Host", "Host", 80));
        assert_eq!(of("http://u:p@h:81/p", Some(80)), is("h:81", "h", 81));
        assert_eq!(of("[::1]:443", None), is("[::1]:443", "::1", 443));
        assert_eq!(of("h:443", None), is("h:443", "h", 443));
        assert_eq!(of("http://h", None), None);
        assert_eq!(of("h:0", None), None);
        assert_eq!(of("/p", Some(80)), None);
    }

    #[test]
    fn the_base_is_taken_off_where_it_stands() {
        let of = |uri: &str, base| {
            let mut request = Request::get(uri).body(()).unwrap();
            take_base_off(&mut request, base).then(|| request.uri().to_string())
        };
        assert_eq!(of("http://h/openai/v1?q", "/openai").as_deref(), Some("http://h/v1?q"));
        assert_eq!(of("http://h/openai?q", "/openai").as_deref(), Some("http://h/?q"));
        assert_eq!(of("http://h/openai", "/openai").as_deref(), Some("http://h/"));
        assert_eq!(of("http://h/openai2/v1", "/openai"), None);
        assert_eq!(of("/openai/v1", "/openai").as_deref(), Some("http://upstream/v1"));
        assert_eq!(of("/anything", "").as_deref(), Some("/anything"));
    }
}
