//! The version of HTTP over TLS: what the app speaks is offered, what the upstream chooses is taken.

use std::sync::Arc;

use brownout::dialect;
use brownout::engine::Engine;
use brownout::measure::Recorder;
use brownout::net::ca::Authority;
use brownout::net::{Clock, HttpVersion, RealClock, UpstreamTls};
use brownout::proxy::{ListenTls, Listener, Options, Proxy, Running};
use bytes::Bytes;
use http::{Request, Response};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::kit::{App, Peer, Upstream, read, soon};

/// An upstream over TLS that agrees to these protocols, and tells what was offered and chosen.
struct Tls {
    upstream: Upstream,
    chosen: mpsc::UnboundedReceiver<Option<Vec<u8>>>,
    pem: String,
}

impl Tls {
    async fn agreeing(protocols: &[&str]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (tell, chosen) = mpsc::unbounded_channel();
        let upstream = Upstream::connections(move |stream| {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                let protocol = tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                tell.send(protocol.clone()).unwrap();
                if protocol.as_deref() == Some(b"h2") {
                    let mut connection = h2::server::handshake(tls).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let mut out = respond.send_response(Response::new(()), false).unwrap();
                        out.send_data(Bytes::from_static(b"two"), true).unwrap();
                    }
                    return;
                }
                let mut bytes = Vec::new();
                while tls.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                    if bytes.ends_with(b"\r\n\r\n") {
                        bytes.clear();
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
                        tls.write_all(answer).await.unwrap();
                    }
                }
            }
        })
        .await;
        Self { upstream, chosen, pem: made.cert.pem() }
    }

    /// A proxy in front of it that apps reach with or without TLS.
    async fn proxied(&self, tls: Option<ListenTls>) -> Proxied {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("upstream.pem");
        std::fs::write(&ca_file, &self.pem).unwrap();
        let authority = Authority::open(Some(dir.path())).unwrap();
        let url = format!("https://localhost:{}", self.upstream.address.port());
        let http = dialect::by_kind("http").unwrap();
        let listener = Listener {
            tls,
            http: HttpVersion::Auto,
            upstream_tls: UpstreamTls { ca_file: Some(ca_file), ..UpstreamTls::default() },
            ..Listener::new("db", http, url.parse().unwrap())
        };
        let engine = Arc::new(Engine::new(1, Vec::new(), Recorder::none()));
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let options = Options { ca_dir: Some(dir.path().to_owned()), ..Options::default() };
        let running = Proxy::start(vec![listener], engine, Recorder::none(), clock, options);
        Proxied { running: running.await.unwrap(), authority, _dir: dir }
    }
}

struct Proxied {
    running: Running,
    authority: Authority,
    _dir: TempDir,
}

impl Proxied {
    fn address(&self) -> std::net::SocketAddr {
        self.running.address("db").unwrap()
    }

    /// An app's connection over TLS that offers these protocols.
    async fn connect(&self, protocols: &[&str]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tcp = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap()
    }
}

async fn ask(app: &App) -> Vec<u8> {
    let request = Request::get("https://localhost/").body(()).unwrap();
    let mut send = app.send.clone().ready().await.unwrap();
    let (answer, _) = send.send_request(request, true).unwrap();
    read(soon(answer).await.unwrap().into_body()).await.unwrap().0
}

#[tokio::test]
async fn http2_goes_through_over_tls_on_both_sides() {
    let mut tls = Tls::agreeing(&["h2", "http/1.1"]).await;
    let proxied = tls.proxied(Some(ListenTls::Minted)).await;
    let stream = proxied.connect(&["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "as the upstream would");
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let app = App { send, ended: tokio::spawn(connection) };
    for _ in 0..3 {
        assert_eq!(ask(&app).await, b"two");
    }
    assert_eq!(soon(tls.chosen.recv()).await.unwrap().as_deref(), Some(&b"h2"[..]));
    assert_eq!(tls.upstream.connected(), 1);
}

#[tokio::test]
async fn an_upstream_that_chooses_http1_is_translated_for() {
    let mut tls = Tls::agreeing(&["http/1.1"]).await;
    let proxied = tls.proxied(None).await;
    let app = App::connect(proxied.address()).await;
    for _ in 0..3 {
        assert_eq!(ask(&app).await, b"one");
    }
    assert_eq!(soon(tls.chosen.recv()).await.unwrap().as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(tls.upstream.connected(), 1, "its choice is remembered, its connection kept");
}

#[tokio::test]
async fn an_app_that_speaks_http1_is_not_offered_upstream_as_one_that_speaks_http2() {
    let mut tls = Tls::agreeing(&["h2", "http/1.1"]).await;
    let proxied = tls.proxied(None).await;
    let mut app = Peer::connect(proxied.address()).await;
    app.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(soon(app.message()).await.unwrap().1, b"one");
    assert_eq!(soon(tls.chosen.recv()).await.unwrap().as_deref(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_drained_proxy_lets_streams_end_and_takes_no_more() {
    let upstream = Upstream::start(|(_, mut respond)| async move {
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        out.send_data(Bytes::from_static(b"first "), false).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        out.send_data(Bytes::from_static(b"last"), true).unwrap();
    })
    .await;
    let engine = Arc::new(Engine::new(1, Vec::new(), Recorder::none()));
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let url = format!("http://{}", upstream.address).parse().unwrap();
    let listener = Listener::new("db", dialect::by_kind("http").unwrap(), url);
    let running = Proxy::start(vec![listener], engine, Recorder::none(), clock, Options::default());
    let running = running.await.unwrap();
    let address = running.address("db").unwrap();
    let idle = App::connect(address).await;
    let app = App::connect(address).await;
    let request = Request::post("http://a/").body(()).unwrap();
    let answer = app.ask(request, "x").await.unwrap();
    let drained = tokio::spawn(running.drain(std::time::Duration::from_secs(8)));
    let (bytes, _) = soon(read(answer.into_body())).await.unwrap();
    assert_eq!(bytes, b"first last");
    assert!(soon(drained).await.unwrap(), "it has ended in time");
    soon(idle.ended).await.unwrap().unwrap();
    soon(app.ended).await.unwrap().unwrap();
}
