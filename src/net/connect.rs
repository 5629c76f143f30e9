//! Connections to an upstream: name, TCP, TLS; and what went wrong, in plain words.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use tokio::net::TcpStream;
use url::Url;

use super::certificate::TrustError;
use super::guard::Guard;
use super::stream::Stream;
use super::tls;

/// Where an upstream is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    tls: bool,
    host: String,
    port: u16,
    /// As it stands in a `Host` header: without the scheme's own port.
    authority: String,
    /// In front of every path; empty, or with a leading and no trailing slash.
    base: String,
}

/// A URL that names no upstream.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{url}` is no upstream: {reason}")]
pub struct BadOrigin {
    url: String,
    reason: &'static str,
}

impl Origin {
    /// The upstream of an http or https URL; its path becomes the base of all paths.
    pub fn new(url: &Url) -> Result<Self, BadOrigin> {
        let bad = |reason| BadOrigin { url: url.to_string(), reason };
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("write http:// or https://")),
        };
        Self::of(url, tls, None)
    }

    /// The upstream of what speaks no HTTP: `tcp://host:port`, or `tls://host:port` for TLS towards
    /// it; also the schemes of PostgreSQL and Redis, whose ports are known.
    pub fn raw(url: &Url) -> Result<Self, BadOrigin> {
        let bad = |reason| BadOrigin { url: url.to_string(), reason };
        let (tls, port) = match url.scheme() {
            "tcp" => (false, None),
            "tls" => (true, None),
            "postgres" | "postgresql" => (false, Some(5432)),
            "redis" => (false, Some(6379)),
            "rediss" => (true, Some(6379)),
            _ => return Err(bad("write tcp://host:port")),
        };
        if !matches!(url.path(), "" | "/") {
            return Err(bad("only host and port have a meaning here"));
        }
        Self::of(url, tls, port)
    }

    fn of(url: &Url, tls: bool, usual_port: Option<u16>) -> Result<Self, BadOrigin> {
        let bad = |reason| BadOrigin { url: url.to_string(), reason };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("a query or fragment has no meaning here"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadOrigin {
                url: format!("{}://…@{}", url.scheme(), url.host_str().unwrap_or_default()),
                reason: "a user name or password has no meaning here",
            });
        }
        let host = url.host_str().ok_or_else(|| bad("it names no host"))?;
        let port =
            url.port_or_known_default().or(usual_port).ok_or_else(|| bad("it names no port"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let base = url.path().trim_end_matches('/').to_owned();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port, authority, base })
    }

    /// As it stands in a `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> Scheme {
        if self.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// What stands in front of every path: empty, or `/v1`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, whether or not it was written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same with a `Host` header that says what the app wrote.
    pub fn named(self, authority: &str) -> Self {
        Self { authority: authority.to_owned(), ..self }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// For the name, TCP and TLS together.
    pub timeout: Duration,
    /// Whom to trust, and as whom to appear.
    pub tls: UpstreamTls,
    pub http: HttpVersion,
    /// None: any address.
    pub guard: Option<Guard>,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Certificates to trust beside the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain and its key (PEM), where the upstream asks for one.
    pub client: Option<KeyPair>,
    /// The name in the handshake and in the certificate, where it is not the upstream's host.
    pub server_name: Option<String>,
    /// Takes any certificate.
    pub insecure: bool,
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Which version of HTTP an upstream is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// The app's own, as far as the upstream agrees by ALPN; without TLS HTTP/2 only for an app
    /// that began with it.
    #[default]
    Auto,
    Http1,
    Http2,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            tls: UpstreamTls::default(),
            http: HttpVersion::default(),
            guard: None,
        }
    }
}

/// A connection that could not be made, or that broke. The text reads on after the upstream's name.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{origin} refused the connection")]
    Refused { origin: String },
    #[error("{origin} did not answer within {} ms", after.as_millis())]
    Timeout { origin: String, after: Duration },
    #[error("the name of {origin} cannot be resolved: {reason}")]
    Unresolved { origin: String, reason: String },
    #[error("{origin} cannot be reached: {reason}")]
    Unreachable { origin: String, reason: String },
    /// By our own rules.
    #[error("{origin} is not connected to: {reason}")]
    Forbidden { origin: String, reason: String },
    #[error("the TLS handshake with {origin} failed: {reason}")]
    Tls { origin: String, reason: String },
    /// A FIN before the end of the message.
    #[error("{origin} closed the connection before its answer was whole")]
    Closed { origin: String },
    /// A RST before the end of the message.
    #[error("{origin} reset the connection")]
    Reset { origin: String },
    #[error("{origin} does not speak HTTP/1.1: {reason}")]
    Protocol { origin: String, reason: String },
    #[error("{origin} does not speak HTTP/2: {reason}")]
    Http2 { origin: String, reason: String },
    /// RST_STREAM before the end of the message.
    #[error("{origin} reset the stream with {}", named(*code))]
    StreamReset { origin: String, code: u32 },
    /// The request's own body failed, so it was given up.
    #[error("the request to {origin} was given up: {reason}")]
    Request { origin: String, reason: String },
}

impl Error {
    /// Whether no connection came about at all.
    pub fn is_connect(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Timeout { .. }
                | Self::Unresolved { .. }
                | Self::Unreachable { .. }
                | Self::Forbidden { .. }
                | Self::Tls { .. }
        )
    }

    /// Whether an existing connection was closed or reset by the other side.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Reset { .. } | Self::StreamReset { .. })
    }

    /// What hyper says about a connection to this origin, as one of ours.
    pub(super) fn from_hyper(origin: &Origin, error: &hyper::Error) -> Self {
        let name = origin.to_string();
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(cause) = source {
            if let Some(own) = cause.downcast_ref::<Self>() {
                return own.clone();
            }
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                if let Some(own) = io.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
                    return own.clone();
                }
                // What the other side thinks of our certificate may come after the handshake.
                if let Some(reason) = tls::reason(io) {
                    return Self::Tls { origin: name, reason };
                }
                match io.kind() {
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                        return Self::Reset { origin: name };
                    }
                    io::ErrorKind::UnexpectedEof => return Self::Closed { origin: name },
                    _ => {}
                }
            }
            source = cause.source();
        }
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            Self::Closed { origin: name }
        } else if error.is_user() {
            Self::Request { origin: name, reason: with_causes(error) }
        } else {
            Self::Protocol { origin: name, reason: with_causes(error) }
        }
    }
}

/// The name of an HTTP/2 error code, or its number.
fn named(code: u32) -> String {
    // Names as RFC 9113 has them; the library's text for an unknown one is of no use.
    let text = format!("{:?}", h2::Reason::from(code));
    if text.starts_with("Reason(") { format!("code {code}") } else { text }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A connection on its way.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>;

/// Makes connections to one upstream.
pub struct Connector {
    origin: Origin,
    timeout: Duration,
    guard: Option<Guard>,
    way: Way,
}

enum Way {
    Tcp,
    Tls(tls::Client),
    Memory(Box<dyn Fn() -> Option<Stream> + Send + Sync>),
}

impl Connector {
    /// No connection is made yet.
    pub fn new(origin: Origin, options: &ConnectOptions) -> Result<Self, TrustError> {
        let way = match origin.tls {
            true => Way::Tls(tls::Client::new(&origin.to_string(), &options.tls)?),
            false => Way::Tcp,
        };
        Ok(Self { origin, timeout: options.timeout, guard: options.guard.clone(), way })
    }

    /// Takes streams from a function in the place of the network; None refuses.
    pub fn in_memory(
        origin: Origin,
        make: impl Fn() -> Option<Stream> + Send + Sync + 'static,
    ) -> Self {
        Self { origin, timeout: Duration::MAX, guard: None, way: Way::Memory(Box::new(make)) }
    }

    /// Where the connections go.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How long a connection may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection for HTTP/1.1.
    pub(super) fn connect(self: &Arc<Self>) -> Connecting {
        self.connect_for(&[b"http/1.1"])
    }

    /// A connection for one of these protocols, as ALPN names them; under TLS the stream tells
    /// which one the upstream has chosen. None are named for what speaks no HTTP.
    pub fn connect_for(self: &Arc<Self>, protocols: &'static [&'static [u8]]) -> Connecting {
        let this = Arc::clone(self);
        Box::pin(async move {
            if let Way::Memory(make) = &this.way {
                return make().ok_or_else(|| Error::Refused { origin: this.origin.to_string() });
            }
            let timed_out =
                |_| Error::Timeout { origin: this.origin.to_string(), after: this.timeout };
            tokio::time::timeout(this.timeout, this.connect_now(protocols))
                .await
                .map_err(timed_out)?
        })
    }

    async fn connect_now(&self, protocols: &[&[u8]]) -> Result<Stream, Error> {
        let tcp = self.connect_tcp().await?;
        let _ = tcp.set_nodelay(true);
        let Way::Tls(client) = &self.way else {
            return Ok(Stream::Tcp(tcp));
        };
        let failed = |reason| Error::Tls { origin: self.origin.to_string(), reason };
        let tls = client.connect(&self.origin.host, tcp, protocols).await.map_err(failed)?;
        Ok(Stream::Tls(Box::new(tls)))
    }

    async fn connect_tcp(&self) -> Result<TcpStream, Error> {
        tcp(&self.origin.host, self.origin.port, self.guard.as_ref(), || self.origin.to_string())
            .await
    }
}

/// Connects to a host without speaking to it.
pub async fn connect_to(
    host: &str,
    port: u16,
    timeout: Duration,
    guard: Option<&Guard>,
) -> Result<TcpStream, Error> {
    let origin = || match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let timed_out = |_| Error::Timeout { origin: origin(), after: timeout };
    let tcp = tokio::time::timeout(timeout, tcp(host, port, guard, origin))
        .await
        .map_err(timed_out)??;
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

/// Tries the addresses of the name in turn; the last failure is the one that counts.
async fn tcp(
    host: &str,
    port: u16,
    guard: Option<&Guard>,
    origin: impl Fn() -> String,
) -> Result<TcpStream, Error> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| Error::Unresolved { origin: origin(), reason: error.to_string() })?;
    let mut last = Error::Unresolved { origin: origin(), reason: "no address".to_owned() };
    for address in addresses {
        if let Some(reason) = guard.and_then(|guard| guard.against(address)) {
            last = Error::Forbidden { origin: origin(), reason };
            continue;
        }
        let connected = match guard {
            Some(guard) => guard.connect(address).await,
            None => TcpStream::connect(address).await,
        };
        match connected {
            Ok(tcp) => return Ok(tcp),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = Error::Refused { origin: origin() };
            }
            Err(error) => {
                last = Error::Unreachable { origin: origin(), reason: error.to_string() };
            }
        }
    }
    Err(last)
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Result<Origin, String> {
        Origin::new(&Url::parse(url).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_origin_is_read_from_its_url() {
        let plain = origin("http://localhost:6333").unwrap();
        assert_eq!((plain.authority(), plain.base()), ("localhost:6333", ""));
        let based = origin("https://api.example.com/openai/").unwrap();
        assert_eq!((based.authority(), based.base()), ("api.example.com", "/openai"));
        assert_eq!(based.to_string(), "api.example.com:443");
        let six = origin("http://[::1]:80/").unwrap();
        assert_eq!((six.authority(), six.to_string().as_str()), ("[::1]", "[::1]:80"));
        assert_eq!(six.host, "::1");
    }

    #[test]
    fn a_raw_origin_is_a_host_and_a_port() {
        let raw = |url: &str| Origin::raw(&Url::parse(url).unwrap());
        let plain = raw("tcp://db.example.com:5433").unwrap();
        assert_eq!((plain.to_string().as_str(), plain.tls), ("db.example.com:5433", false));
        assert_eq!(raw("postgres://db").unwrap().to_string(), "db:5432");
        assert_eq!(raw("redis://[::1]/").unwrap().to_string(), "[::1]:6379");
        assert!(raw("rediss://cache").unwrap().tls && raw("tls://cache:1").unwrap().tls);
        for (url, part) in [
            ("tcp://db", "no port"),
            ("http://db:1", "tcp://host:port"),
            ("postgres://db/app", "only host and port"),
        ] {
            let text = raw(url).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
        let text = raw("postgres://me:s3cret@db").unwrap_err().to_string();
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn what_is_no_upstream_is_refused_without_showing_secrets() {
        let text = origin("ftp://x").unwrap_err();
        assert!(text.contains("write http://"), "{text}");
        let text = origin("http://me:s3cret@host/").unwrap_err();
        assert!(text.contains("user name") && !text.contains("s3cret"), "{text}");
        assert!(origin("http://host/?a=1").is_err());
    }

    #[tokio::test]
    async fn a_free_port_refuses() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let origin = origin(&format!("http://127.0.0.1:{port}")).unwrap();
        let connector = Arc::new(Connector::new(origin, &ConnectOptions::default()).unwrap());
        let error = connector.connect().await.expect_err("refused");
        assert!(error.is_connect());
        assert_eq!(error.to_string(), format!("127.0.0.1:{port} refused the connection"));
    }
}
