//! Upstreams over TLS: whom the proxy trusts, as whom it appears, and what it says when it fails.

use std::sync::Arc;

use brownout::dialect;
use brownout::net::ca::Authority;
use brownout::net::{KeyPair, UpstreamTls};
use brownout::proxy::{ListenTls, Listener, Options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as Key};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{ANSWER, write};
use crate::proxy::kit::{Bench, Peer, Script, Upstream, soon};

/// An authority of the test's own.
struct Signer {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, Key>,
}

impl Signer {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = Key::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer }
    }

    /// A certificate and its key in PEM.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = Key::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Shows this certificate; where `clients` is set it asks for one of them.
fn acceptor((cert, key): (String, String), clients: Option<&Signer>, alpn: &[&str]) -> TlsAcceptor {
    use rustls::pki_types::pem::PemObject as _;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(signer) => {
            let mut roots = RootCertStore::empty();
            roots.add(signer.der.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// An https upstream that speaks HTTP/1.1.
async fn start(pair: (String, String), clients: Option<&Signer>) -> u16 {
    let acceptor = acceptor(pair, clients, &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                let mut buffer = vec![0; 4096];
                while let Ok(1..) = tls.read(&mut buffer).await {
                    tls.write_all(ANSWER).await.unwrap();
                }
            });
        }
    });
    port
}

/// What the app gets.
async fn called(url: &str, tls: UpstreamTls) -> (String, String) {
    let mut listener =
        Listener::new("llm", dialect::by_kind("openai").unwrap(), url.parse().unwrap());
    listener.upstream_tls = tls;
    let bench = Bench::of(listener, Script::default(), Options::default()).await;
    let mut client = Peer::connect(bench.address).await;
    let mut last = None;
    for _ in 0..2 {
        client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        last = soon(client.message()).await;
    }
    let (head, body) = last.unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[track_caller]
fn passed((head, body): &(String, String)) {
    assert!(head.contains("X-A: 1\r\nb: 2\r\nx-a: 3\r\n"), "{head}{body}");
    assert_eq!(body, "secret");
}

#[track_caller]
fn failed((head, body): &(String, String), words: &[&str]) {
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}{body}");
    for word in words {
        assert!(body.contains(word), "no `{word}` in {body}");
    }
}

fn trusting(dir: &TempDir, signer: &Signer) -> UpstreamTls {
    UpstreamTls { ca_file: Some(write(dir, "ca.pem", &signer.pem)), ..UpstreamTls::default() }
}

#[tokio::test]
async fn an_upstream_with_a_trusted_certificate_is_called() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), Signer::new("signer"));
    let port = start(signer.sign("localhost", |_| ()), None).await;
    let url = format!("https://localhost:{port}");
    passed(&called(&url, trusting(&dir, &signer)).await);
    failed(
        &called(&url, UpstreamTls::default()).await,
        &[
            "TLS handshake with upstream llm (localhost:",
            "not known here",
            "`upstream_tls.ca_file`",
        ],
    );
}

#[tokio::test]
async fn another_name_is_said_and_can_be_allowed() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), Signer::new("signer"));
    let port = start(signer.sign("real.internal", |_| ()), None).await;
    let url = format!("https://localhost:{port}");
    let trust = trusting(&dir, &signer);
    failed(
        &called(&url, trust.clone()).await,
        &["is for `real.internal`, not for localhost", "`upstream_tls.server_name`"],
    );
    let named = UpstreamTls { server_name: Some("real.internal".to_owned()), ..trust };
    passed(&called(&url, named).await);
}

#[tokio::test]
async fn times_are_said() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), Signer::new("signer"));
    let old = signer.sign("localhost", |params| {
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    let port = start(old, None).await;
    let url = format!("https://localhost:{port}");
    failed(&called(&url, trusting(&dir, &signer)).await, &["expired on 2001-02-03"]);
    let young = signer.sign("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2999, 2, 3);
    });
    let port = start(young, None).await;
    let url = format!("https://localhost:{port}");
    failed(&called(&url, trusting(&dir, &signer)).await, &["not valid before 2999-02-03"]);
}

#[tokio::test]
async fn any_certificate_passes_when_that_is_asked_for() {
    let signer = Signer::new("signer");
    let port = start(signer.sign("somewhere.else", |_| ()), None).await;
    let tls = UpstreamTls { insecure: true, ..UpstreamTls::default() };
    passed(&called(&format!("https://127.0.0.1:{port}"), tls).await);
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_where_one_is_asked_for() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), Signer::new("signer"));
    let port = start(signer.sign("localhost", |_| ()), Some(&signer)).await;
    let url = format!("https://localhost:{port}");
    let trust = trusting(&dir, &signer);
    failed(&called(&url, trust.clone()).await, &["`upstream_tls.client_cert`"]);
    let pair = |(cert, key): (String, String), name: &str| KeyPair {
        cert: write(&dir, &format!("{name}-cert.pem"), &cert),
        key: write(&dir, &format!("{name}-key.pem"), &key),
    };
    let own = pair(signer.sign("brownout", |_| ()), "own");
    passed(&called(&url, UpstreamTls { client: Some(own), ..trust.clone() }).await);
    let stranger = pair(Signer::new("a stranger").sign("stranger", |_| ()), "stranger");
    let tls = UpstreamTls { client: Some(stranger), ..trust };
    failed(&called(&url, tls).await, &["does not take our certificate"]);
}

#[tokio::test]
async fn an_upstream_that_speaks_plain_http_is_told_so() {
    let upstream = Upstream::start(|mut peer| async move {
        let _ = peer.more().await;
        peer.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let url = format!("https://{}", upstream.address);
    failed(&called(&url, UpstreamTls::default()).await, &["does not speak TLS", "http://"]);
}

/// An https upstream that speaks HTTP/2 to those who can, and says which version it was spoken to in.
async fn start_http2(signer: &Signer) -> u16 {
    use hyper::server::conn::{http1, http2};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let acceptor = acceptor(signer.sign("localhost", |_| ()), None, &["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(stream).await else { return };
                let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = hyper::service::service_fn(
                    |request: http::Request<hyper::body::Incoming>| async move {
                        let body = format!("{:?}", request.version());
                        Ok::<_, std::convert::Infallible>(http::Response::new(body))
                    },
                );
                let io = TokioIo::new(tls);
                let _ = match http2 {
                    true => {
                        let server = http2::Builder::new(TokioExecutor::new());
                        server.serve_connection(io, service).await
                    }
                    false => http1::Builder::new().serve_connection(io, service).await,
                };
            });
        }
    });
    port
}

#[tokio::test]
async fn http_2_is_spoken_on_both_sides_where_both_speak_it() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), Signer::new("signer"));
    let port = start_http2(&signer).await;
    let url = format!("https://localhost:{port}").parse().unwrap();
    let mut listener = Listener::new("llm", dialect::by_kind("openai").unwrap(), url);
    listener.upstream_tls = trusting(&dir, &signer);
    listener.tls = Some(ListenTls::Minted);
    let ca = tempfile::tempdir().unwrap();
    let authority = Authority::open(Some(ca.path())).unwrap();
    let options = Options { ca_dir: Some(ca.path().to_owned()), ..Options::default() };
    let bench = Bench::of(listener, Script::default(), options).await;
    let client = |alpn: &[&str]| {
        let mut client = (*super::trusting([authority.certificate().clone()])).clone();
        client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(client)
    };
    let tls = super::connect(bench.address, &client(&["h2", "http/1.1"]), "localhost").await;
    let tls = tls.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(tls);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(String::new()).unwrap();
    let answer = soon(sender.send_request(request)).await.unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "HTTP/2.0");
    let mut old = super::connect(bench.address, &client(&["http/1.1"]), "localhost").await.unwrap();
    old.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    soon(old.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.ends_with(b"HTTP/1.1"), "{}", String::from_utf8_lossy(&answer));
}
