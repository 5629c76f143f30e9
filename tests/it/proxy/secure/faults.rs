//! Spoilt handshakes, as they look on the wire.

use std::io;
use std::time::Duration;

use brownout::measure::{DecisionLine, Observation};
use brownout::proxy::ListenTls;
use rustls::{CertificateError, ClientConnection, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Secured, exchange, reason, soon};

/// A ClientHello as a real client writes it.
fn hello() -> Vec<u8> {
    let name = "api.example.com".to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(super::trusting([]), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What comes back for a ClientHello, and how the connection ends.
async fn answer(secured: &Secured) -> (Vec<u8>, io::Result<usize>) {
    let mut tcp = TcpStream::connect(secured.address).await.unwrap();
    tcp.write_all(&hello()).await.unwrap();
    let mut bytes = Vec::new();
    let ended = soon(tcp.read_to_end(&mut bytes)).await;
    (bytes, ended)
}

#[tokio::test]
async fn refuse_is_a_fatal_alert() {
    for effect in [("tls", "{ mode: refuse }"), ("outage", "{ mode: tls }")] {
        let secured = Secured::minted(effect).await;
        secured.arm();
        let (bytes, ended) = answer(&secured).await;
        // alert, TLS 1.2's number, two bytes: fatal, handshake_failure.
        assert_eq!(bytes, [21, 3, 3, 0, 2, 2, 40], "{effect:?}");
        ended.unwrap();
        let error = secured.connect(&secured.client(), "api.example.com").await.unwrap_err();
        let told = Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert_eq!(*reason(&error), told, "{effect:?}");
        assert_eq!((secured.tally().matched, secured.tally().hit), (2, 2), "{effect:?}");
        assert_eq!(secured.upstream.connections(), 0);
    }
}

#[tokio::test]
async fn reset_is_an_rst_and_close_is_a_fin() {
    let secured = Secured::minted(("tls", "{ mode: reset }")).await;
    secured.arm();
    let (bytes, ended) = answer(&secured).await;
    assert_eq!((bytes.len(), ended.unwrap_err().kind()), (0, io::ErrorKind::ConnectionReset));
    let secured = Secured::minted(("tls", "{ mode: close }")).await;
    secured.arm();
    let (bytes, ended) = answer(&secured).await;
    assert_eq!((bytes.len(), ended.unwrap()), (0, 0));
    assert_eq!(secured.tally().hit, 1);
}

#[tokio::test]
async fn stall_says_nothing_and_stays() {
    let secured = Secured::minted(("tls", "{ mode: stall }")).await;
    secured.arm();
    let mut tcp = TcpStream::connect(secured.address).await.unwrap();
    tcp.write_all(&hello()).await.unwrap();
    soon(async {
        while secured.tally().hit == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut byte = [0];
    let silent = tokio::time::timeout(Duration::from_millis(300), tcp.read(&mut byte)).await;
    assert!(silent.is_err(), "{silent:?}");
    // Draining ends what is stalled.
    assert!(secured.running.drain(Duration::from_secs(5)).await);
    assert_eq!(soon(tcp.read(&mut byte)).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn bad_certificates_are_bad_in_the_way_they_say() {
    for mode in ["expired", "wrong_name", "untrusted"] {
        let secured = Secured::minted(("tls", &format!("{{ mode: {mode} }}"))).await;
        secured.arm();
        let error = secured.connect(&secured.client(), "api.example.com").await.unwrap_err();
        let Error::InvalidCertificate(bad) = reason(&error) else { panic!("{mode}: {error}") };
        let right = match bad {
            CertificateError::ExpiredContext { .. } => mode == "expired",
            CertificateError::NotValidForNameContext { presented, .. } => {
                mode == "wrong_name" && presented.concat().contains("wrong-name.brownout.invalid")
            }
            CertificateError::UnknownIssuer => mode == "untrusted",
            _ => false,
        };
        assert!(right, "{mode}: {error}");
        assert_eq!(secured.tally().hit, 1, "{mode}");
    }
}

#[tokio::test]
async fn a_client_that_was_here_before_sees_the_bad_certificate_too() {
    let secured = Secured::minted(("tls", "{ mode: expired }")).await;
    let client = secured.client();
    for resumed in [false, true] {
        let mut tls = secured.connect(&client, "api.example.com").await.unwrap();
        exchange(&mut tls).await;
        let kind = tls.get_ref().1.handshake_kind().unwrap();
        assert_eq!(kind == rustls::HandshakeKind::Resumed, resumed, "{kind:?}");
    }
    secured.arm();
    let error = secured.connect(&client, "api.example.com").await.unwrap_err();
    assert!(matches!(reason(&error), Error::InvalidCertificate(_)), "{error}");
    secured.engine.disarm("test");
    exchange(&mut secured.connect(&client, "api.example.com").await.unwrap()).await;
}

#[tokio::test]
async fn connections_that_are_open_feel_nothing() {
    let secured = Secured::minted(("tls", "{ mode: refuse }")).await;
    let client = secured.client();
    let mut open = secured.connect(&client, "api.example.com").await.unwrap();
    exchange(&mut open).await;
    secured.arm();
    exchange(&mut open).await;
    secured.connect(&client, "api.example.com").await.unwrap_err();
    exchange(&mut open).await;
    assert_eq!((secured.tally().matched, secured.tally().hit), (1, 1));
}

/// Which of so many handshakes fail at fifty percent.
async fn fates(count: usize, at_once: bool) -> Vec<bool> {
    let effect = ("tls", "{ mode: refuse }");
    let secured = Secured::of(Some(ListenTls::Minted), effect, 50.0).await.unwrap();
    secured.arm();
    let client = secured.client();
    let fates: Vec<bool> = if at_once {
        // Different names are different keys: their order does not matter.
        let names: Vec<String> = (0..count).map(|number| format!("n{number}.test")).collect();
        let all = names.iter().rev().map(|name| secured.connect(&client, name));
        let mut fates: Vec<bool> =
            futures(all).await.into_iter().map(|result| result.is_err()).collect();
        fates.reverse();
        fates
    } else {
        let mut fates = Vec::new();
        for number in 0..count {
            fates.push(secured.connect(&client, &format!("n{number}.test")).await.is_err());
        }
        fates
    };
    let failed = fates.iter().filter(|failed| **failed).count() as u64;
    let tally = secured.tally();
    assert_eq!((tally.matched, tally.selected, tally.hit), (count as u64, failed, failed));
    fates
}

/// Awaits all of them together.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(move |cx| {
        for (future, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(cx) {
                *done = Some(output);
            }
        }
        if all.iter().any(|(_, done)| done.is_none()) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(all.iter_mut().filter_map(|(_, done)| done.take()).collect())
    })
    .await
}

#[tokio::test]
async fn the_same_handshakes_fail_whatever_the_order() {
    let one_by_one = fates(40, false).await;
    let failed = one_by_one.iter().filter(|failed| **failed).count();
    assert!((8..=32).contains(&failed), "{failed} of 40");
    assert_eq!(one_by_one, fates(40, true).await);
}

#[tokio::test]
async fn the_journal_names_dependency_and_fault() {
    let mut secured = Secured::minted(("tls", "{ mode: reset }")).await;
    secured.arm();
    let _ = answer(&secured).await;
    let Some(Observation::Decision(line)) = soon(secured.journal.next()).await else {
        panic!("no decision")
    };
    let DecisionLine { dependency, fault, matched, selected, hit, ordinal, .. } = *line;
    assert_eq!((&*dependency, &*fault, ordinal), ("llm", "test", 0));
    assert!(matched && selected && hit);
}

#[tokio::test]
async fn without_tls_the_fault_never_matches() {
    let secured = Secured::of(None, ("tls", "{ mode: refuse }"), 100.0).await.unwrap();
    secured.arm();
    let (answer, _) = crate::proxy::kit::ask(
        secured.address,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let tally = secured.tally();
    assert_eq!((tally.matched, tally.hit, tally.impossible), (0, 0, 0));
}

#[tokio::test]
async fn what_a_fault_breaks_is_no_failed_handshake() {
    let mut secured = Secured::minted(("tls", "{ mode: untrusted }")).await;
    secured.arm();
    secured.connect(&secured.client(), "api.example.com").await.unwrap_err();
    secured.engine.disarm("test");
    // This one is: it trusts nobody.
    secured.connect(&super::trusting([]), "other.test").await.unwrap_err();
    let Some(Observation::Handshake(failed)) = soon(secured.tap.next()).await else {
        panic!("not told")
    };
    assert_eq!((&*failed.dependency, failed.reason), ("llm", "distrusted"));
    assert!(secured.tap.try_next().is_none(), "once");
}
