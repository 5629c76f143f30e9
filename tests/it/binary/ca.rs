//! `ca` through the binary.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::command::{Folder, Started, brownout, ended};
use crate::proxy::kit::soon;
use crate::proxy::secure::{connect, trusting};

#[tokio::test]
async fn the_authority_is_made_shown_bundled_renewed_and_removed() {
    let folder = Folder::new();
    let dir = folder.at("ca");
    let told = ended(brownout(&["ca", "--dir", &dir])).await;
    let path = format!("{dir}/ca.pem");
    told.expect(0, &[&path, "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]);
    let pem = ended(brownout(&["ca", "--print", "pem", "--dir", &dir])).await;
    pem.expect(0, &["-----BEGIN CERTIFICATE-----"]);
    assert_eq!(pem.out, std::fs::read_to_string(&path).unwrap());
    assert!(!pem.said().contains("PRIVATE"));
    // The variable means the same as the flag.
    let mut command = brownout(&["ca", "--print", "path"]);
    command.env("BROWNOUT_CA_DIR", &dir);
    assert_eq!(ended(command).await.out, format!("{path}\n"));
    let bundle = folder.at("bundle.pem");
    let written = ended(brownout(&["ca", "--bundle", &bundle, "--dir", &dir])).await;
    written.expect(0, &["certificates in"]);
    let bundle = std::fs::read_to_string(&bundle).unwrap();
    assert!(bundle.ends_with(&pem.out));
    let printed = ended(brownout(&["ca", "--bundle", "-", "--dir", &dir])).await;
    assert_eq!(printed.out, bundle);
    ended(brownout(&["ca", "renew", "--dir", &dir])).await.expect(0, &[&path]);
    assert_ne!(std::fs::read_to_string(&path).unwrap(), pem.out);
    ended(brownout(&["ca", "remove", "--dir", &dir])).await.expect(0, &["removed"]);
    assert!(std::fs::read_dir(&dir).unwrap().next().is_none(), "nothing is left");
    ended(brownout(&["ca", "remove", "--dir", &dir])).await.expect(0, &["there was none"]);
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let dir = folder.at("ca");
    ended(brownout(&["ca", "--dir", &dir])).await.expect(0, &[]);
    let key = format!("{dir}/ca-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    ended(brownout(&["ca", "--dir", &dir])).await.expect(3, &["chmod 600", &key, "ca renew"]);
    ended(brownout(&["ca", "renew", "--dir", &dir])).await.expect(0, &[]);
    let file = folder.write("file", "");
    let below = format!("{file}/ca");
    ended(brownout(&["ca", "--dir", &below])).await.expect(3, &[&below]);
    let mut command = brownout(&["ca"]);
    command.env_remove("HOME").env_remove("XDG_DATA_HOME");
    ended(command).await.expect(3, &["no place", "BROWNOUT_CA_DIR"]);
}

#[tokio::test]
async fn two_that_start_at_once_end_with_one() {
    let folder = Folder::new();
    let dir = folder.at("ca");
    let print = || ended(brownout(&["ca", "--print", "pem", "--dir", &dir]));
    let (a, b, c) = tokio::join!(print(), print(), print());
    for one in [&a, &b, &c] {
        one.expect(0, &["BEGIN CERTIFICATE"]);
    }
    assert!(a.out == b.out && b.out == c.out);
}

const SERVED: &str = "version: 1
dependencies:
  llm: { kind: openai, listen: 0, tls: minted, simulate: true }
faults:
  ran-out: { target: llm, use: network/certificate_expired }
";

#[tokio::test]
async fn an_app_is_served_over_tls_and_one_that_does_not_trust_it_is_named() {
    let folder = Folder::new();
    let (file, dir) = (folder.write("brownout.yaml", SERVED), folder.at("ca"));
    let mut command = brownout(&["serve", &file, "--admin", "127.0.0.1:0", "--print", "json"]);
    command.env("BROWNOUT_CA_DIR", &dir);
    let mut served = Started::new(command);
    let told: Value = serde_json::from_str(&served.line().await).unwrap();
    let url = told["dependencies"]["llm"]["listen"].as_str().unwrap();
    let address = url.strip_prefix("https://").unwrap().parse().unwrap();
    let admin = told["admin"].as_str().unwrap().strip_prefix("http://").unwrap();

    let trusted = trusting([CertificateDer::from_pem_file(format!("{dir}/ca.pem")).unwrap()]);
    let mut tls = connect(address, &trusted, "localhost").await.unwrap();
    let ask = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    tls.write_all(ask).await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    connect(address, &trusting([]), "localhost").await.unwrap_err();
    let remedy = served.heard_after("the app does not trust the certificate it was shown").await;
    for word in ["unknown_ca", &dir, "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "brownout ca"] {
        assert!(remedy.contains(word), "{remedy}");
    }
    let status = || ended(brownout(&["status", "--admin", admin]));
    let told = async {
        while !status().await.out.contains("1 TLS handshakes failed: the app does not trust") {}
    };
    soon(told).await;

    ended(brownout(&["arm", "ran-out", "--admin", admin])).await.expect(0, &["armed"]);
    connect(address, &trusted, "localhost").await.unwrap_err();
    status().await.expect(0, &["matched 1 · hit 1", "1 TLS handshakes failed"]);
}
