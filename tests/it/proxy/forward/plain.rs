//! Requests that name their host in full.

use std::sync::Arc;

use brownout::dialect::Answer;
use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;

use super::super::kit::{Peer, Script, Upstream, ask, soon};
use super::start;

/// An upstream that keeps the heads and bodies it saw and answers each in the same way.
async fn recording(answer: &'static str) -> (Upstream, Arc<Mutex<Vec<(String, Vec<u8>)>>>) {
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let kept = Arc::clone(&seen);
    let upstream = Upstream::start(move |mut peer| {
        let kept = Arc::clone(&kept);
        async move {
            while let Some(message) = peer.message().await {
                kept.lock().push(message);
                peer.write(answer).await;
            }
        }
    })
    .await;
    (upstream, seen)
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nX-b: 1\r\nContent-Length: 2\r\nx-B:2\r\n\r\nhi";

#[tokio::test]
async fn a_request_for_a_dependency_reaches_it_as_at_its_own_listener() {
    let (upstream, seen) = recording(ANSWER).await;
    let url = format!("http://{}", upstream.address);
    let (mut bench, gateway) = start(&url, Script::default(), &[]).await;
    let mut client = Peer::connect(gateway).await;
    for _ in 0..2 {
        client
            .write(format!(
                "POST {url}/v1/x?a=%20b HTTP/1.1\r\nhOST: {}\r\nX-one:1\r\nProxy-Connection: \
                 keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\nContent-Length: 3\r\nx-ONE: \
                 2\r\n\r\nabc",
                upstream.address
            ))
            .await;
        let (head, body) = soon(client.message()).await.unwrap();
        assert_eq!((head + std::str::from_utf8(&body).unwrap()).as_str(), ANSWER);
    }
    let want = format!(
        "POST /v1/x?a=%20b HTTP/1.1\r\nhOST: {}\r\nX-one:1\r\nContent-Length: 3\r\nx-ONE: 2\r\n\r\n",
        upstream.address
    );
    assert_eq!(*seen.lock(), vec![(want.clone(), b"abc".to_vec()), (want, b"abc".to_vec())]);
    assert_eq!(upstream.connections(), 1);
    for _ in 0..2 {
        let call = bench.call().await;
        assert_eq!((&*call.dependency, call.status), ("llm", Some(200)));
    }
}

#[tokio::test]
async fn a_request_for_another_host_passes_untouched_and_unrecorded_although_a_fault_is_armed() {
    let (dependency, _) = recording(ANSWER).await;
    let (stranger, seen) = recording(ANSWER).await;
    let script = Script::on_request(|_, out| {
        out.answer(Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: Vec::new(),
            body: Bytes::from_static(b"injected"),
        });
    });
    let (mut bench, gateway) =
        start(&format!("http://{}", dependency.address), script, &["llm.example.com"]).await;
    bench.arm();
    let mut client = Peer::connect(gateway).await;
    // On one connection, in turns: a stranger, the dependency by two of its names, the stranger.
    let hosts = [
        (stranger.address.to_string(), "200"),
        (dependency.address.to_string(), "503"),
        ("llm.example.com".to_owned(), "503"),
        ("LLM.example.com:8080".to_owned(), "503"),
        (stranger.address.to_string(), "200"),
    ];
    for (host, status) in &hosts {
        client.write(format!("GET http://{host}/p HTTP/1.1\r\nHost: {host}\r\nA: b\r\n\r\n")).await;
        let (head, _) = soon(client.message()).await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {head}");
    }
    let want = format!("GET /p HTTP/1.1\r\nHost: {}\r\nA: b\r\n\r\n", stranger.address);
    assert_eq!(*seen.lock(), vec![(want.clone(), Vec::new()), (want, Vec::new())]);
    // Kept alive on that side, too.
    assert_eq!(stranger.connections(), 1);
    assert_eq!(dependency.connections(), 0);
    for _ in 0..3 {
        assert_eq!(bench.call().await.faults, ["test".into()]);
    }
    drop(client);
    drop(bench.running.take());
    drop(bench.engine);
    assert!(soon(bench.tap.next()).await.is_none(), "strangers are not recorded");
}

#[tokio::test]
async fn the_same_address_on_another_port_is_another_host() {
    let (dependency, at_dependency) = recording(ANSWER).await;
    let (stranger, at_stranger) = recording(ANSWER).await;
    let (_bench, gateway) =
        start(&format!("http://{}", dependency.address), Script::default(), &[]).await;
    ask(gateway, &format!("GET http://{}/ HTTP/1.0\r\n\r\n", stranger.address)).await.1.unwrap();
    assert_eq!((at_dependency.lock().len(), at_stranger.lock().len()), (0, 1));
}

#[tokio::test]
async fn an_upstream_with_a_base_is_called_by_the_paths_that_the_app_knows() {
    let (upstream, seen) = recording(ANSWER).await;
    let url = format!("http://{}/openai", upstream.address);
    let (mut bench, gateway) = start(&url, Script::default(), &["llm.example.com"]).await;
    let mut client = Peer::connect(gateway).await;
    for target in [
        // By its own name, the app writes the base itself.
        format!("{url}/v1/chat?a"),
        // Under a name that stands for it, it does not.
        "http://llm.example.com/v1/chat?a".to_owned(),
        // What is not below the base is no part of the dependency.
        format!("http://{}/other", upstream.address),
    ] {
        client.write(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert!(soon(client.message()).await.unwrap().0.starts_with("HTTP/1.1 200 "));
    }
    let lines: Vec<String> =
        seen.lock().iter().map(|(head, _)| head.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        lines,
        ["GET /openai/v1/chat?a HTTP/1.1", "GET /openai/v1/chat?a HTTP/1.1", "GET /other HTTP/1.1"]
    );
    bench.call().await;
    bench.call().await;
}

#[tokio::test]
async fn old_clients_are_answered_in_their_version() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let (upstream, _) = recording(answer).await;
    let (_bench, gateway) = start("http://127.0.0.1:9", Script::default(), &[]).await;
    let request = format!("GET http://{}/ HTTP/1.0\r\n\r\n", upstream.address);
    let (got, ended) = ask(gateway, &request).await;
    ended.unwrap();
    assert!(got.starts_with("HTTP/1.0 200 OK\r\n") && got.ends_with("\r\n\r\nhi"), "{got}");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_named_with_the_reason() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_bench, gateway) = start("http://127.0.0.1:9", Script::default(), &[]).await;
    let mut client = Peer::connect(gateway).await;
    client.write(format!("GET http://{free}/ HTTP/1.1\r\nHost: {free}\r\n\r\n")).await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains(&free.to_string()) && body.contains("refused the connection"), "{body}");
    // The connection is good for more.
    client.write("GET http://nowhere.invalid/ HTTP/1.1\r\nHost: nowhere.invalid\r\n\r\n").await;
    let (head, body) = soon(client.message()).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("nowhere.invalid") && body.contains("cannot be resolved"), "{body}");
}

#[tokio::test]
async fn requests_that_name_no_host_are_told_what_this_is() {
    let (_bench, gateway) = start("http://127.0.0.1:9", Script::default(), &[]).await;
    let mut client = Peer::connect(gateway).await;
    for (target, said) in
        [("/v1/models", "HTTP_PROXY"), ("ftp://host/file", "ftp"), ("http://host:99999/", "host")]
    {
        client.write(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let (head, body) = soon(client.message()).await.expect(target);
        assert!(head.starts_with("HTTP/1.1 400 "), "{target}: {head}");
        let body = String::from_utf8(body).unwrap();
        assert!(body.starts_with("brownout: ") && body.contains(said), "{target}: {body}");
    }
}
