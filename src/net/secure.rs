//! TLS with apps. What the client asks for is read first; then it is shown a certificate, refused,
//! or handed back with every byte that it sent. Nothing is decided here.

use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    Accepted, AcceptedAlert, Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::server::StartHandshake;

use super::stream::Stream;

/// How long a handshake may take, from the connection's first byte that is awaited.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A longer ClientHello is none.
const LONGEST_HELLO: usize = 64 << 10;
/// A fatal alert: handshake_failure.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// A handshake that came to nothing. The text reads on after "the app".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("does not trust the certificate it was shown (it sent the alert `{alert}`)")]
    Distrusts { alert: &'static str },
    #[error("went away in the middle of the handshake")]
    Gone,
    #[error("spoke plain HTTP where TLS is expected")]
    PlainHttp,
    #[error("spoke something other than TLS")]
    NoTls,
    #[error("took more than {} s for the TLS handshake", HANDSHAKE.as_secs())]
    Slow,
    #[error("and brownout could not agree on TLS: {0}")]
    Other(String),
}

/// A connection on which no TLS began.
#[derive(Debug)]
pub struct NoHello {
    pub broken: Broken,
    /// With every byte that was read in front.
    pub stream: Stream,
    /// What the client is to be told, in TLS's own words; empty when it spoke no TLS.
    alert: Vec<u8>,
}

impl NoHello {
    /// Tells the client, as far as it can be told, and closes.
    pub async fn close(mut self) {
        if self.stream.write_all(&self.alert).await.is_ok() {
            self.stream.close().await;
        }
    }
}

/// A client that has said what it wants and waits for an answer.
pub struct Hello {
    server_name: Option<Box<str>>,
    alpn: Vec<Vec<u8>>,
    accepted: Accepted,
    /// All that was read.
    first: Vec<u8>,
    /// So much of it is in `accepted`.
    taken: usize,
    stream: Stream,
    deadline: Instant,
}

impl Hello {
    /// Reads the ClientHello; not a byte is written.
    pub async fn read(mut stream: Stream) -> Result<Self, NoHello> {
        let deadline = Instant::now() + HANDSHAKE;
        let mut first = Vec::with_capacity(2 << 10);
        let mut alert = Vec::new();
        let reading = read_hello(&mut stream, &mut first, &mut alert);
        let read = match tokio::time::timeout_at(deadline, reading).await {
            Ok(read) => read,
            Err(_) => Err(Broken::Slow),
        };
        match read {
            Ok((accepted, taken)) => {
                let hello = accepted.client_hello();
                let server_name = hello.server_name().map(Into::into);
                let alpn = hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect());
                let alpn = alpn.unwrap_or_default();
                Ok(Self { server_name, alpn, accepted, first, taken, stream, deadline })
            }
            Err(broken) => {
                let stream = stream.rewound(Bytes::from(first));
                Err(NoHello { broken, stream, alert })
            }
        }
    }

    /// The host that it asks for (SNI); one that connects to an address asks for none.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The protocols that it speaks, most wanted first; empty when it names none.
    pub fn alpn(&self) -> &[Vec<u8>] {
        &self.alpn
    }

    /// The connection with every byte that the client sent, as if nothing had been read.
    pub fn into_stream(self) -> Stream {
        self.stream.rewound(Bytes::from(self.first))
    }

    /// The TCP connection at the bottom, if there is one.
    pub fn tcp(&self) -> Option<&tokio::net::TcpStream> {
        self.stream.tcp()
    }

    /// Ends the handshake in good order with this certificate, offering these protocols (none:
    /// whatever the client likes). A client that was here before is not shown it again.
    pub async fn accept(self, shown: Arc<CertifiedKey>, alpn: &[&[u8]]) -> Result<Stream, Broken> {
        self.finish(&RESUMING, shown, alpn).await
    }

    /// The same, but the certificate is shown to every client, and is no help to later ones.
    pub async fn accept_anew(
        self,
        shown: Arc<CertifiedKey>,
        alpn: &[&[u8]],
    ) -> Result<Stream, Broken> {
        self.finish(&FORGETTING, shown, alpn).await
    }

    async fn finish(
        self,
        like: &ServerConfig,
        shown: Arc<CertifiedKey>,
        alpn: &[&[u8]],
    ) -> Result<Stream, Broken> {
        let mut config = like.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(shown));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let later = Bytes::from(self.first).slice(self.taken..);
        let start = StartHandshake::from_parts(self.accepted, self.stream.rewound(later));
        let handshake = start.into_stream(Arc::new(config));
        match tokio::time::timeout_at(self.deadline, handshake).await {
            Ok(Ok(tls)) => Ok(Stream::Secured(Box::new(tls))),
            Ok(Err(error)) => Err(Broken::of(&error)),
            Err(_) => Err(Broken::Slow),
        }
    }

    /// Refuses the client with a fatal alert, handshake_failure, as a server does that shares no
    /// cipher with it.
    pub async fn refuse(mut self) {
        if self.stream.write_all(&HANDSHAKE_FAILURE).await.is_ok() {
            self.stream.close().await;
        }
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Gives back how many of the bytes are in what was accepted.
async fn read_hello(
    stream: &mut Stream,
    first: &mut Vec<u8>,
    alert: &mut Vec<u8>,
) -> Result<(Accepted, usize), Broken> {
    let mut acceptor = Acceptor::default();
    let mut taken = 0;
    loop {
        match stream.read_buf(first).await {
            Ok(0) | Err(_) => return Err(Broken::Gone),
            Ok(_) => {}
        }
        if first[0] != 22 {
            return Err(if is_http(first) { Broken::PlainHttp } else { Broken::NoTls });
        }
        if first.len() > LONGEST_HELLO {
            return Err(Broken::Other("its ClientHello is too long".to_owned()));
        }
        while taken < first.len() {
            let read = acceptor.read_tls(&mut &first[taken..]);
            taken += read.map_err(|error| Broken::Other(error.to_string()))?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok((accepted, taken)),
                Ok(None) => {}
                Err((error, told)) => {
                    *alert = bytes_of(told);
                    return Err(Broken::Other(error.to_string()));
                }
            }
        }
    }
}

fn bytes_of(mut alert: AcceptedAlert) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory does not fail; without an alert the client sees a FIN alone.
    let _ = alert.write_all(&mut bytes);
    bytes
}

/// Whether these bytes begin an HTTP request: a word in capitals and a space.
fn is_http(first: &[u8]) -> bool {
    let word = first.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    word > 0 && first.get(word).is_none_or(|next| *next == b' ')
}

impl Broken {
    fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::AlertReceived(alert)) => Self::of_alert(*alert),
            Some(other) => Self::Other(other.to_string()),
            None => Self::Gone,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        use AlertDescription as Alert;
        let alert = match alert {
            Alert::UnknownCA => "unknown_ca",
            Alert::BadCertificate => "bad_certificate",
            Alert::CertificateUnknown => "certificate_unknown",
            Alert::UnsupportedCertificate => "unsupported_certificate",
            Alert::CertificateExpired => "certificate_expired",
            Alert::CertificateRevoked => "certificate_revoked",
            Alert::AccessDenied => "access_denied",
            Alert::UserCanceled | Alert::CloseNotify => return Self::Gone,
            other => return Self::Other(format!("it sent the alert {other:?}")),
        };
        Self::Distrusts { alert }
    }
}

/// What handshakes have in common; clients may resume their sessions.
static RESUMING: LazyLock<ServerConfig> = LazyLock::new(|| {
    let mut config = forgetting();
    match aws_lc_rs::Ticketer::new() {
        Ok(ticketer) => {
            config.ticketer = ticketer;
            config.send_tls13_tickets = 1;
        }
        Err(error) => tracing::debug!(%error, "TLS sessions are not resumed"),
    }
    config
});

/// The same for clients that are to see the certificate each time.
static FORGETTING: LazyLock<ServerConfig> = LazyLock::new(forgetting);

fn forgetting() -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nobody));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// Stands where each handshake puts its own certificate.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::DuplexStream;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::net::ca::{Authority, Soundness};

    fn pair() -> (DuplexStream, Stream) {
        let (client, server) = tokio::io::duplex(64 << 10);
        (client, Stream::Memory(Box::new(server)))
    }

    fn client(authority: &Authority, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    fn name(name: &str) -> ServerName<'static> {
        ServerName::try_from(name.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn what_is_asked_for_is_read_and_answered() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(Some(dir.path())).unwrap();
        let connector = client(&authority, &["h2", "http/1.1"]);
        let (app, ours) = pair();
        let served = async {
            let hello = Hello::read(ours).await.unwrap();
            assert_eq!(hello.server_name(), Some("api.example.com"));
            assert_eq!(hello.alpn(), [b"h2".to_vec(), b"http/1.1".to_vec()]);
            let leaf = authority.leaf(hello.server_name().unwrap()).unwrap();
            let mut stream = hello.accept(leaf, &[b"http/1.1"]).await.unwrap();
            stream.write_all(b"hi").await.unwrap();
            stream.close().await;
        };
        let called = async {
            let mut tls = connector.connect(name("api.example.com"), app).await.unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let mut text = Vec::new();
            tls.read_to_end(&mut text).await.unwrap();
            assert_eq!(text, b"hi");
        };
        tokio::join!(served, called);
    }

    #[tokio::test]
    async fn a_hello_that_is_handed_back_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(Some(dir.path())).unwrap();
        let (mut app, ours) = pair();
        let (wire, mut seen) = tokio::io::duplex(64 << 10);
        let connector = client(&authority, &[]);
        // The client's own bytes, one by one, with more behind them.
        let connecting = tokio::spawn(async move {
            let _ = connector.connect(name("x.test"), wire).await;
        });
        let mut first = vec![0; 4096];
        let count = seen.read(&mut first).await.unwrap();
        first.truncate(count);
        connecting.abort();
        first.extend_from_slice(&[23, 3, 3, 0, 2, 7, 7]);
        let sent = first.clone();
        tokio::spawn(async move {
            for byte in sent {
                app.write_all(&[byte]).await.unwrap();
            }
        });
        let mut stream = Hello::read(ours).await.unwrap().into_stream();
        let mut back = vec![0; first.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, first);
    }

    #[tokio::test]
    async fn what_is_no_tls_is_told_apart_and_handed_back() {
        for (sent, broken) in [
            (&b"GET / HTTP/1.1\r\n"[..], Broken::PlainHttp),
            (b"*1\r\n$4\r\nPING\r\n", Broken::NoTls),
            (b"\x00\x00\x00\x08", Broken::NoTls),
        ] {
            let (mut app, ours) = pair();
            app.write_all(sent).await.unwrap();
            drop(app);
            let mut back = Hello::read(ours).await.unwrap_err();
            assert_eq!(back.broken, broken);
            let mut whole = Vec::new();
            back.stream.read_to_end(&mut whole).await.unwrap();
            assert_eq!(whole, sent);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_read_without_panic_and_handed_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            tls in any::<bool>(),
            pieces in 1_usize..40,
        ) {
            let mut sent = if tls { vec![22, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3] } else { Vec::new() };
            sent.extend(bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let back = runtime.unwrap().block_on(async {
                let (mut app, ours) = pair();
                let sent = sent.clone();
                let writing = async move {
                    for piece in sent.chunks(pieces) {
                        app.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                let reading = async {
                    let mut stream = match Hello::read(ours).await {
                        Ok(hello) => hello.into_stream(),
                        Err(none) => none.stream,
                    };
                    let mut back = Vec::new();
                    stream.read_to_end(&mut back).await.unwrap();
                    back
                };
                tokio::join!(writing, reading).1
            });
            prop_assert_eq!(back, sent);
        }
    }

    #[tokio::test]
    async fn rubbish_is_answered_with_an_alert() {
        let (mut app, ours) = pair();
        // A handshake record whose message is a ServerHello.
        app.write_all(&[22, 3, 1, 0, 4, 2, 0, 0, 0]).await.unwrap();
        let back = Hello::read(ours).await.unwrap_err();
        assert!(matches!(back.broken, Broken::Other(_)), "{back:?}");
        tokio::spawn(back.close());
        let mut told = [0; 7];
        app.read_exact(&mut told).await.unwrap();
        assert_eq!(told[..3], [21, 3, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up() {
        let (app, ours) = pair();
        let start = Instant::now();
        let back = Hello::read(ours).await.unwrap_err();
        assert_eq!((back.broken, start.elapsed()), (Broken::Slow, HANDSHAKE));
        drop(app);
    }

    #[tokio::test]
    async fn a_client_that_does_not_trust_us_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(Some(dir.path())).unwrap();
        for (soundness, alert) in [
            (Soundness::Untrusted, "unknown_ca"),
            (Soundness::Expired, "certificate_expired"),
            (Soundness::WrongName, "bad_certificate"),
        ] {
            let connector = client(&authority, &[]);
            let (app, ours) = pair();
            let served = async {
                let hello = Hello::read(ours).await.unwrap();
                let leaf = authority.flawed_leaf("x.test", soundness).unwrap();
                let broken = hello.accept_anew(leaf, &[]).await.unwrap_err();
                let heard = matches!(broken, Broken::Distrusts { .. });
                assert!(heard && broken.to_string().contains(alert), "{soundness:?}: {broken}");
            };
            let called = async {
                connector.connect(name("x.test"), app).await.unwrap_err();
            };
            tokio::join!(served, called);
        }
    }
}
