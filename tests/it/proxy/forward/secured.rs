//! TLS in tunnels: looked into for dependencies, never for others.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use brownout::dialect::{self, Answer};
use brownout::net::ca::Authority;
use brownout::proxy::{Listener, Options};
use bytes::Bytes;
use http::StatusCode;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::super::kit::{Bench, Script, soon};
use super::tunnels::tunnel;
use super::{gateway, options};

/// An https upstream on localhost and 127.0.0.1 whose certificate nobody knows. It says what the
/// request line was.
pub(super) struct Private {
    pub(super) port: u16,
    pem: String,
    _file: tempfile::NamedTempFile,
}

impl Private {
    pub(super) async fn start() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(stream).await else { return };
                    let mut head = Vec::new();
                    while tls.read_buf(&mut head).await.is_ok_and(|count| count > 0) {
                        if !head.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let line = String::from_utf8(std::mem::take(&mut head)).unwrap();
                        let line = line.lines().next().unwrap();
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nX-Up:1\r\nContent-Length: {}\r\n\r\n{line}",
                            line.len()
                        );
                        tls.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), made.cert.pem()).unwrap();
        Self { port, pem: made.cert.pem(), _file: file }
    }

    pub(super) fn ca_file(&self) -> &Path {
        self._file.path()
    }
}

struct Scene {
    bench: Bench,
    gateway: SocketAddr,
    authority: String,
    _dir: tempfile::TempDir,
}

/// A forward proxy for a dependency behind that upstream, also called `llm.example.com`.
async fn scene(upstream: &Private, base: &str, script: Script) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("https://localhost:{}{base}", upstream.port).parse().unwrap();
    let mut listener = Listener::new("llm", dialect::by_kind("openai").unwrap(), url);
    listener.upstream_tls.ca_file = Some(upstream.ca_file().to_owned());
    listener.hosts = vec!["llm.example.com".to_owned()];
    let options = Options { ca_dir: Some(dir.path().join("ca")), ..options() };
    let bench = Bench::of(listener, script, options).await;
    let gateway = gateway(&bench);
    let authority = Authority::open(Some(&dir.path().join("ca"))).unwrap().certificate_pem();
    Scene { bench, gateway, authority, _dir: dir }
}

pub(super) fn trusting(pem: &str, alpn: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn shake(
    scene: &Scene,
    to: &str,
    name: &str,
    connector: &TlsConnector,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let client = tunnel(scene.gateway, to, b"").await;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(connector.connect(name, client.stream)).await
}

async fn get(tls: &mut client::TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: whatever\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let answer = async {
        while !got.ends_with(b" HTTP/1.1") && !got.ends_with(b"injected") {
            assert!(tls.read_buf(&mut got).await.unwrap() > 0, "{}", got.escape_ascii());
        }
    };
    soon(answer).await;
    String::from_utf8(got).unwrap()
}

/// What the upstream answers to that.
fn untouched(path: &str) -> String {
    let line = format!("GET {path} HTTP/1.1");
    format!("HTTP/1.1 200 OK\r\nX-Up:1\r\nContent-Length: {}\r\n\r\n{line}", line.len())
}

#[tokio::test]
async fn a_dependency_is_served_with_a_certificate_of_the_installation() {
    let upstream = Private::start().await;
    let mut scene = scene(&upstream, "", Script::default()).await;
    let connector = trusting(&scene.authority, &["h2", "http/1.1"]);
    let own = format!("localhost:{}", upstream.port);
    for (to, name) in [(own.as_str(), "localhost"), ("llm.example.com:443", "llm.example.com")] {
        let mut tls = shake(&scene, to, name, &connector).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..2 {
            assert_eq!(get(&mut tls, "/v1/models").await, untouched("/v1/models"));
        }
        for _ in 0..2 {
            assert_eq!(&*scene.bench.call().await.dependency, "llm");
        }
    }
}

#[tokio::test]
async fn faults_act_in_there() {
    let upstream = Private::start().await;
    let script = Script::on_request(|head, out| {
        assert_eq!(head.uri.path(), "/v1/x");
        out.answer(Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: Vec::new(),
            body: Bytes::from_static(b"injected"),
        });
    });
    let mut scene = scene(&upstream, "", script).await;
    scene.bench.arm();
    let connector = trusting(&scene.authority, &[]);
    let to = format!("localhost:{}", upstream.port);
    let mut tls = shake(&scene, &to, "localhost", &connector).await.unwrap();
    let got = get(&mut tls, "/v1/x").await;
    assert!(got.starts_with("HTTP/1.1 503 ") && got.ends_with("injected"), "{got}");
    assert_eq!(scene.bench.call().await.faults, ["test".into()]);
}

#[tokio::test]
async fn a_base_is_written_by_the_app_that_calls_the_upstream_by_its_own_name() {
    let upstream = Private::start().await;
    let mut scene = scene(&upstream, "/openai", Script::default()).await;
    let connector = trusting(&scene.authority, &["http/1.1"]);
    let to = format!("localhost:{}", upstream.port);
    let mut tls = shake(&scene, &to, "localhost", &connector).await.unwrap();
    assert_eq!(get(&mut tls, "/openai/v1/x").await, untouched("/openai/v1/x"));
    let mut tls =
        shake(&scene, "llm.example.com:443", "llm.example.com", &connector).await.unwrap();
    assert_eq!(get(&mut tls, "/v1/x").await, untouched("/openai/v1/x"));
    scene.bench.call().await;
    scene.bench.call().await;
}

#[tokio::test]
async fn another_host_keeps_its_own_certificate() {
    let dependency = Private::start().await;
    let stranger = Private::start().await;
    let scene = scene(&dependency, "", Script::refusing()).await;
    let to = format!("localhost:{}", stranger.port);
    let connector = trusting(&stranger.pem, &["http/1.1"]);
    let mut tls = shake(&scene, &to, "localhost", &connector).await.unwrap();
    let shown = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, CertificateDer::from_pem_slice(stranger.pem.as_bytes()).unwrap());
    assert_eq!(get(&mut tls, "/p").await, untouched("/p"));
    // Its certificate does not pass with an app that trusts the installation alone.
    let refused = shake(&scene, &to, "localhost", &trusting(&scene.authority, &[])).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn an_app_that_does_not_trust_the_installation_is_refused_by_itself() {
    let upstream = Private::start().await;
    let scene = scene(&upstream, "", Script::default()).await;
    let to = format!("localhost:{}", upstream.port);
    let refused = shake(&scene, &to, "localhost", &trusting(&upstream.pem, &[])).await;
    assert!(refused.unwrap_err().to_string().contains("UnknownIssuer"));
}
