//! Apps over TLS, with nothing armed.

use brownout::net::KeyPair;
use brownout::proxy::ListenTls;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Secured, exchange, soon, trusting, write};
use crate::proxy::kit::ask;

const NOTHING: (&str, &str) = ("tls", "{ mode: refuse }");

#[tokio::test]
async fn any_name_is_answered_byte_for_byte() {
    let secured = Secured::minted(NOTHING).await;
    let client = secured.client();
    for name in ["api.openai.com", "localhost", "127.0.0.1"] {
        let mut tls = secured.connect(&client, name).await.unwrap();
        for _ in 0..3 {
            exchange(&mut tls).await;
        }
    }
    assert_eq!(secured.tally().matched, 0);
}

#[tokio::test]
async fn http_1_is_what_an_app_may_choose() {
    let secured = Secured::minted(NOTHING).await;
    let mut client = (*secured.client()).clone();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut tls = secured.connect(&client.clone().into(), "x.test").await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    exchange(&mut tls).await;
    // A plain upstream speaks HTTP/1.1, so that is what those who would take both get.
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tls = secured.connect(&client.into(), "x.test").await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn an_own_certificate_is_shown() {
    let made = rcgen::generate_simple_self_signed(["gateway.test".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cert = write(&dir, "cert.pem", &made.cert.pem());
    let key = write(&dir, "key.pem", &made.signing_key.serialize_pem());
    let tls = ListenTls::Files(KeyPair { cert, key: key.clone() });
    let secured = Secured::of(Some(tls), NOTHING, 100.0).await.unwrap();
    let client = trusting([made.cert.der().clone()]);
    let mut tls = secured.connect(&client, "gateway.test").await.unwrap();
    let shown: &[CertificateDer<'_>] = tls.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown, [made.cert.der().clone()]);
    exchange(&mut tls).await;
    let other = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
    let cert = write(&dir, "other.pem", &other.cert.pem());
    let tls = ListenTls::Files(KeyPair { cert, key });
    let error = Secured::of(Some(tls), NOTHING, 100.0).await.err().unwrap().to_string();
    assert!(error.contains("`llm`") && error.contains("does not fit"), "{error}");
}

#[tokio::test]
async fn a_client_without_tls_is_told_to_use_it() {
    let secured = Secured::minted(NOTHING).await;
    let (answer, ended) = ask(secured.address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    ended.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("llm speaks TLS on this port; write https://"), "{answer}");
    // Others are hung up on without a word.
    let mut tcp = TcpStream::connect(secured.address).await.unwrap();
    tcp.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
    let mut rest = Vec::new();
    soon(tcp.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let secured = Secured::minted(NOTHING).await;
    let key = secured.dir.path().join("ca-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = brownout::net::ca::Authority::open(Some(secured.dir.path())).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}
