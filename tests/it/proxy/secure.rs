//! Upstreams over TLS.

use std::io::Write as _;
use std::sync::Arc;

use brownout::dialect;
use brownout::proxy::{Listener, Options};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::kit::{Bench, Peer, Script, soon};

/// An https upstream on localhost with a certificate of its own, which it gives back as PEM.
async fn upstream() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                let mut buffer = vec![0; 4096];
                while let Ok(1..) = tls.read(&mut buffer).await {
                    let answer = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nb: 2\r\nx-a: 3\r\nContent-Length: 6\r\n\r\nsecret";
                    tls.write_all(answer).await.unwrap();
                }
            });
        }
    });
    (port, made.cert.pem())
}

#[tokio::test]
async fn an_upstream_with_a_trusted_certificate_is_called() {
    let (port, pem) = upstream().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    let url = format!("https://localhost:{port}").parse().unwrap();
    let mut listener = Listener::new("llm", dialect::by_kind("openai").unwrap(), url);
    listener.upstream_tls.ca_file = Some(file.path().to_owned());
    let bench = Bench::of(listener, Script::default(), Options::default()).await;
    let mut client = Peer::connect(bench.address).await;
    for _ in 0..3 {
        client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let (head, body) = soon(client.message()).await.unwrap();
        assert!(head.contains("X-A: 1\r\nb: 2\r\nx-a: 3\r\n"), "{head}");
        assert_eq!(body, b"secret");
    }
}

#[tokio::test]
async fn an_upstream_with_an_unknown_certificate_is_not() {
    let (port, _) = upstream().await;
    let url = format!("https://localhost:{port}");
    let bench = Bench::start(&url, Script::default(), Options::default()).await;
    let mut client = Peer::connect(bench.address).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("TLS handshake") && body.contains("localhost"), "{body}");
}
